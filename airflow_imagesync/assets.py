"""Repositories as Airflow's assets: the scheme ``oci``, as in ``oci://registry/repository``.

Airflow imports this where DAGs are parsed, so it imports next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_imagesync.domain.reference import Repository, names_registry, quoted, split_reference

if TYPE_CHECKING:
    from urllib.parse import SplitResult

    from airflow.providers.common.compat.openlineage.facet import Dataset
    from airflow.sdk import Asset

SCHEME = "oci"


def sanitize_uri(uri: SplitResult) -> SplitResult:
    """
    Return the URI of a repository in the one way it is written: Docker Hub by one name, hosts in lower case.

    :param uri: what somebody wrote
    :raises ValueError: when it is not ``oci://registry/repository``
    """
    # What stands before an @ and behind a ? may be a secret, so no message has it.
    if uri.username is not None or uri.password is not None:
        raise ValueError(
            f"an asset's URI must not have a login, as the one of {_host(uri)} has; "
            "write oci://registry/repository, and log in by an Airflow connection"
        )
    if uri.query or uri.fragment:
        raise ValueError(
            f"oci://{quoted(uri.netloc + uri.path)[1:-1]} has a query or a fragment behind it; "
            "an asset is a repository, write oci://registry/repository"
        )
    path = uri.path.strip("/")
    name, tag, digest = split_reference(path)
    if tag is not None or digest is not None:
        raise ValueError(
            f"{quoted(f'oci://{uri.netloc}{uri.path}')} names a tag or a digest, but an asset is a repository; "
            f"write oci://{uri.netloc}/{name}, and look for the tag in the events"
        )
    if not uri.netloc or not path or not names_registry(uri.netloc):
        raise ValueError(
            f"{quoted(f'oci://{uri.netloc}{uri.path}')} does not name a registry and a repository; "
            "write oci://registry/repository, with a registry such as registry.example.com or docker.io"
        )
    repository = Repository.parse(f"{uri.netloc}/{path}")
    return uri._replace(netloc=repository.registry, path=f"/{repository.path}")


def _host(uri: SplitResult) -> str:
    return quoted(uri.netloc.rpartition("@")[2])


def create_asset(*, repository: str | Repository, extra: dict[str, Any] | None = None) -> Asset:
    """
    Return the asset of a repository, for hooks that report what they read and write.

    :param repository: ``registry/repository``, or a short name of Docker Hub
    :param extra: what else is to be known of the asset, plain JSON
    :raises InvalidReference: when it is not a repository
    """
    from airflow.sdk import Asset

    uri = asset_uri(repository)
    return Asset(name=uri, uri=uri, extra=extra)


def repository_asset(repository: str | Repository) -> Asset:
    """
    Return the asset of a repository, which a DAG may be scheduled on.

    It is the one that syncs emit events for. An Asset that is made by hand is the same one only when its URI is written
    as here, because Airflow takes the text as its name, too.

    :param repository: ``registry/repository``, or a short name of Docker Hub
    :raises InvalidReference: when it is not a repository
    """
    return create_asset(repository=repository)


def asset_uri(repository: str | Repository) -> str:
    """
    Return the URI of a repository's asset.

    :param repository: ``registry/repository``, or a short name of Docker Hub
    :raises InvalidReference: when it is not a repository
    """
    if not isinstance(repository, Repository):
        repository = Repository.parse(repository)
    return f"{SCHEME}://{repository}"


def to_openlineage(asset: Asset, lineage_context: Any) -> Dataset:  # noqa: ARG001  # what Airflow passes
    """
    Return an asset as OpenLineage's data set: the registry is its namespace.

    :param asset: the asset of a repository
    :param lineage_context: who asks, which makes no difference
    """
    from airflow.providers.common.compat.openlineage.facet import Dataset

    registry, _, path = asset.uri.removeprefix(f"{SCHEME}://").partition("/")
    return Dataset(namespace=f"{SCHEME}://{registry}", name=path)
