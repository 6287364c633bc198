from __future__ import annotations

import pytest

from airflow_imagesync.domain.reference import Repository
from airflow_imagesync.domain.registry_pages import registry_page


@pytest.mark.parametrize(
    ("name", "page"),
    [
        ("nginx", "https://hub.docker.com/_/nginx/tags"),
        ("index.docker.io/bitnami/redis", "https://hub.docker.com/r/bitnami/redis/tags"),
        ("quay.io/coreos/etcd", "https://quay.io/repository/coreos/etcd?tab=tags"),
        ("quay.io:443/coreos/etcd", "https://quay.io/repository/coreos/etcd?tab=tags"),
        ("ghcr.io/owner/app/part", "https://ghcr.io/owner/app/part"),
        ("gcr.io/project/app", "https://gcr.io/project/app"),
        ("eu.gcr.io/project/app", "https://eu.gcr.io/project/app"),
        ("public.ecr.aws/docker/library/busybox", "https://gallery.ecr.aws/docker/library/busybox"),
        ("mcr.microsoft.com/dotnet/sdk", "https://mcr.microsoft.com/en-us/artifact/mar/dotnet/sdk/tags"),
        (
            "123456789012.dkr.ecr.eu-west-1.amazonaws.com/team/app",
            "https://eu-west-1.console.aws.amazon.com/ecr/repositories/private/123456789012/team/app?region=eu-west-1",
        ),
        (
            "123456789012.dkr-ecr.us-east-1.on.aws/app",
            "https://us-east-1.console.aws.amazon.com/ecr/repositories/private/123456789012/app?region=us-east-1",
        ),
        (
            "123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn/app",
            "https://cn-north-1.console.amazonaws.cn/ecr/repositories/private/123456789012/app?region=cn-north-1",
        ),
        (
            "europe-west3-docker.pkg.dev/project/images/team/app",
            "https://console.cloud.google.com/artifacts/docker/project/europe-west3/images/team%2Fapp",
        ),
        (
            "us-docker.pkg.dev/example.com/project/images/app",
            "https://console.cloud.google.com/artifacts/docker/example.com%3Aproject/us/images/app",
        ),
        ("us-docker.pkg.dev/project/images", "https://us-docker.pkg.dev/v2/project/images/tags/list"),
        ("registry.k8s.io/etcd", "https://registry.k8s.io/v2/etcd/tags/list"),
        ("name.azurecr.io/team/app", "https://name.azurecr.io/v2/team/app/tags/list"),
        ("harbor.example.com:8443/team/app", "https://harbor.example.com:8443/v2/team/app/tags/list"),
        ("[::1]:5000/app", "https://[::1]:5000/v2/app/tags/list"),
        ("notquay.io/a/b", "https://notquay.io/v2/a/b/tags/list"),
        ("quay.io.example.com/a/b", "https://quay.io.example.com/v2/a/b/tags/list"),
    ],
)
def test_a_repository_has_a_page(name: str, page: str) -> None:
    assert registry_page(Repository.parse(name)) == page
