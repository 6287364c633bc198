"""What the demo's source registry holds."""

from __future__ import annotations

from devtools import images

PLATFORMS = ("linux/amd64", "linux/arm64", "linux/arm/v7")


#: What the manifests in dags/examples name.
CLUSTER = {"shop/web": "1.4", "shop/tools": "2.1", "shop/database": "17", "shop/log-shipper": "0.9"}


def fill_cluster(url: str) -> None:
    """Push the images that run in the example's cluster."""
    base = images.layer(2_000_000, "base linux/amd64")
    for repository, tag in CLUSTER.items():
        images.push(
            url, repository, images.image([base, images.layer(200_000, f"{repository} {tag}")], "linux/amd64"), [tag]
        )


def fill(url: str) -> int:
    """Push multi-arch images that share base layers, and a chart; return the number of tags."""
    bases = {platform: images.layer(2_000_000, f"base {platform}") for platform in PLATFORMS}

    def multi_arch(name: str, platforms: tuple[str, ...] = PLATFORMS) -> images.BuiltManifest:
        children = [
            images.image([bases[platform], images.layer(200_000, f"{name} {platform}")], platform)
            for platform in platforms
        ]
        return images.index(children, attestations=True)

    web_new = multi_arch("web 1.1")
    images.push(url, "shop/web", multi_arch("web 1.0"), ["1.0"])
    images.push(url, "shop/web", web_new, ["1.1", "latest"])
    for version in ("v1.9", "v2.0", "v2.1"):
        images.push(url, "shop/api", multi_arch(f"api {version}", PLATFORMS[:2]), [version])
    images.push(url, "base/python", multi_arch("python"), ["3.12"])
    chart = images.Blob(b"a chart", media_type="application/vnd.cncf.helm.chart.content.v1.tar+gzip")
    images.push(url, "charts/shop", images.artifact("application/vnd.cncf.helm.config.v1+json", [chart]), ["0.1.0"])
    return 8
