from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from airflow_imagesync.domain.credentials import Credentials
from airflow_imagesync.domain.manifest import Descriptor
from airflow_imagesync.errors import Denied, ImageSyncError, NotFound, TransportError
from airflow_imagesync.registry.client import RegistryClient
from airflow_imagesync.registry.download import BlobSource
from devtools import images
from tests.support.clients import client_for
from tests.support.faults import close_at_once, errors
from tests.support.front import Exchange, Front, pass_through

LAYER = images.layer(1000)
DESCRIPTOR = Descriptor(LAYER.media_type, LAYER.digest, LAYER.size)


class Account:
    """Credentials of a cloud that can create repositories; those that are missing are refused by ``strict``."""

    def __init__(self, fails: ImageSyncError | None = None) -> None:
        self.created: list[str] = []
        self.asked = 0
        self._fails = fails

    def get(self, *, renew: bool = False) -> Credentials:
        return Credentials("user", "password")

    def create_repository(self, path: str) -> None:
        self.asked += 1
        if self._fails is not None:
            raise self._fails
        self.created.append(path)


class Reader:
    """Credentials of a cloud that can't create repositories."""

    def get(self, *, renew: bool = False) -> Credentials:
        return Credentials("user", "password")


def strict(account: Account, front: Front) -> None:
    """Have the front refuse pushes to repositories that the account has not created, as ECR does."""
    refuse = errors(404, "NAME_UNKNOWN", "The repository does not exist in the registry with id '123456789012'")

    def act(exchange: Exchange) -> None:
        known = any(f"/v2/{path}/" in exchange.request.path for path in account.created)
        (pass_through if known else refuse)(exchange)

    front.on("POST", "/blobs/uploads/", act)
    front.on("PUT", "/manifests/", act)


def destination(front: Front, source: Account | Reader | None, *, create: bool = True) -> RegistryClient:
    return client_for(front, source=source, create_repositories=create)


def stored(front: Front, prefix: str) -> BlobSource:
    """The blob in another repository."""
    images.push(f"http://{front.upstream}", f"{prefix}/source", images.image([LAYER]), ["v1"])
    return BlobSource(client_for(front), f"{prefix}/source")


def test_a_missing_repository_is_created_and_the_blob_sent(front: Front, repository_prefix: str) -> None:
    account, path = Account(), f"{repository_prefix}/app"
    source = stored(front, repository_prefix)
    strict(account, front)
    client = destination(front, account)
    assert not client.put_blob(path, DESCRIPTOR, source).mounted
    assert client.has_blob(path, LAYER.digest)
    assert account.created == [path]
    assert [one.status for one in front.seen("POST")] == [404, 202]


def test_a_missing_repository_is_created_and_the_blob_mounted(front: Front, repository_prefix: str) -> None:
    account, path = Account(), f"{repository_prefix}/app"
    source = stored(front, repository_prefix)
    strict(account, front)
    client = destination(front, account)
    assert client.put_blob(path, DESCRIPTOR, source, mount_from=source.path).mounted
    assert account.created == [path]


def test_a_missing_repository_is_created_for_a_manifest_alone(front: Front, repository_prefix: str) -> None:
    account, path = Account(), f"{repository_prefix}/app"
    index = images.index([])
    images.push(f"http://{front.upstream}", f"{repository_prefix}/source", index, ["v1"])
    manifest = client_for(front).get_manifest(f"{repository_prefix}/source", "v1")
    strict(account, front)
    client = destination(front, account)
    client.put_manifest(path, "v1", manifest)
    assert client.get_manifest(path, "v1").digest == manifest.digest
    assert account.created == [path]


def test_many_threads_create_a_repository_once(front: Front, repository_prefix: str) -> None:
    account, path = Account(), f"{repository_prefix}/app"
    source = stored(front, repository_prefix)
    strict(account, front)
    client = destination(front, account)
    together = threading.Barrier(6)

    def put() -> None:
        together.wait(5)
        client.put_blob(path, DESCRIPTOR, source)

    with ThreadPoolExecutor(6) as pool:
        for future in [pool.submit(put) for _ in range(6)]:
            future.result()
    assert account.created == [path]


@pytest.mark.parametrize("source", [Account(), Reader(), None], ids=["not-asked-for", "cannot", "no-cloud"])
def test_nothing_is_created_otherwise(source: Account | Reader | None, front: Front, repository_prefix: str) -> None:
    blob = stored(front, repository_prefix)
    strict(Account(), front)
    client = destination(front, source, create=not isinstance(source, Account))
    with pytest.raises(NotFound, match="NAME_UNKNOWN"):
        client.put_blob(f"{repository_prefix}/app", DESCRIPTOR, blob)
    assert len(front.seen("POST")) == 1


def test_a_refused_creation_is_told_and_not_repeated(front: Front, repository_prefix: str) -> None:
    account = Account(Denied("ecr:CreateRepository was refused"))
    source = stored(front, repository_prefix)
    strict(account, front)
    client = destination(front, account)
    for _ in range(2):
        with pytest.raises(Denied, match="ecr:CreateRepository was refused"):
            client.put_blob(f"{repository_prefix}/app", DESCRIPTOR, source)
    assert account.asked == 1


def test_an_upload_whose_connection_ends_has_its_repository_created_once(front: Front, repository_prefix: str) -> None:
    account, path = Account(), f"{repository_prefix}/app"
    source = stored(front, repository_prefix)
    front.on("POST", "/blobs/uploads/", close_at_once(), times=2)  # the transport repeats the first by itself
    client = destination(front, account)
    client.put_blob(path, DESCRIPTOR, source)
    assert account.created == [path]
    front.on("POST", "/blobs/uploads/", close_at_once())
    with pytest.raises(TransportError):
        client.put_blob(path, DESCRIPTOR, source)
    assert account.created == [path]


def test_a_connection_that_ends_stays_temporary_where_nothing_may_be_created(
    front: Front, repository_prefix: str
) -> None:
    source = stored(front, repository_prefix)
    front.on("POST", "/blobs/uploads/", close_at_once(), times=2)
    client = destination(front, Account(Denied("ecr:CreateRepository was refused")))
    assert not client.put_blob(f"{repository_prefix}/app", DESCRIPTOR, source).mounted


def test_a_manifest_that_is_unknown_is_no_missing_repository(front: Front, repository_prefix: str) -> None:
    account = Account()
    source = stored(front, repository_prefix)
    front.on("POST", "/blobs/uploads/", errors(404, "BLOB_UNKNOWN"))
    with pytest.raises(NotFound):
        destination(front, account).put_blob(f"{repository_prefix}/app", DESCRIPTOR, source)
    assert account.created == []
