from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from airflow_imagesync.domain.manifest import Descriptor
from airflow_imagesync.errors import TransportError
from airflow_imagesync.registry.download import BlobSource
from airflow_imagesync.registry.tls import Tls, ssl_context
from airflow_imagesync.registry.transport import Transport, discard
from devtools import images
from devtools.distribution import DistributionRegistry
from tests.support.clients import client_for
from tests.support.faults import redirect
from tests.support.front import Front


def write(certificate: trustme.LeafCert, directory: Path, name: str) -> tuple[Path, Path]:
    pem, key = directory / f"{name}.pem", directory / f"{name}.key"
    pem.write_bytes(b"".join(part.bytes() for part in certificate.cert_chain_pems))
    certificate.private_key_pem.write_to_path(str(key))
    return pem, key


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("certificates")


@pytest.fixture(scope="module")
def client_files(certificate_authority: trustme.CA, directory: Path) -> tuple[Path, Path]:
    """A certificate that the registries here accept, and its key."""
    return write(certificate_authority.issue_cert("client.example"), directory, "client")


@pytest.fixture(scope="module")
def registry(certificate_authority: trustme.CA, ca_file: Path, directory: Path) -> Iterator[DistributionRegistry]:
    """A registry that demands a certificate of its clients."""
    tls = write(certificate_authority.issue_cert("127.0.0.1", "localhost"), directory, "registry")
    with DistributionRegistry(tls=tls, client_authority=ca_file, in_shared_memory=True) as started:
        yield started


def test_a_registry_that_demands_a_certificate_gets_it(
    registry: DistributionRegistry, ca_file: Path, client_files: tuple[Path, Path]
) -> None:
    certificate, key = client_files
    client = client_for(registry, ca_file=str(ca_file), client_cert=str(certificate), client_key=str(key))
    client.ping()
    assert client.head_manifest("none", "v1") is None


def test_certificate_and_key_may_be_in_one_file(
    registry: DistributionRegistry, ca_file: Path, client_files: tuple[Path, Path], tmp_path: Path
) -> None:
    both = tmp_path / "both.pem"
    both.write_bytes(b"".join(path.read_bytes() for path in client_files))
    client_for(registry, ca_file=str(ca_file), client_cert=str(both)).ping()


def test_a_certificate_is_shown_without_verifying_the_registrys(
    registry: DistributionRegistry, client_files: tuple[Path, Path]
) -> None:
    certificate, key = client_files
    client_for(registry, tls_verify=False, client_cert=str(certificate), client_key=str(key)).ping()


def test_without_one_the_demand_is_told(registry: DistributionRegistry, ca_file: Path) -> None:
    with pytest.raises(
        TransportError, match=r"demands a client certificate that it trusts \(.*\); set client_cert and client_key"
    ) as caught:
        client_for(registry, ca_file=str(ca_file)).ping()
    assert not caught.value.temporary


def test_one_that_is_not_accepted_is_told(registry: DistributionRegistry, ca_file: Path, tmp_path: Path) -> None:
    certificate, key = write(trustme.CA().issue_cert("stranger.example"), tmp_path, "stranger")
    with pytest.raises(TransportError, match="demands a client certificate that it trusts") as caught:
        client_for(registry, ca_file=str(ca_file), client_cert=str(certificate), client_key=str(key)).ping()
    assert not caught.value.temporary


def test_a_certificate_is_not_shown_where_the_password_may_not_be_seen(
    registry: DistributionRegistry, ca_file: Path, client_files: tuple[Path, Path]
) -> None:
    certificate, key = client_files
    tls = Tls(ca_file=str(ca_file), client_cert=str(certificate), client_key=str(key))
    asked = []

    def shows(origin: str) -> bool:
        asked.append(origin)
        return False

    with pytest.raises(TransportError, match="demands a client certificate"):
        discard(Transport(tls=tls, shows_certificate=shows).send("GET", f"{registry.url}/v2/", {}))
    assert asked == [registry.url]


def test_a_redirect_to_a_stranger_does_not_show_the_certificate(
    registry: DistributionRegistry, ca_file: Path, client_files: tuple[Path, Path]
) -> None:
    certificate, key = client_files
    with Front() as front:
        # Another host by its name, though it is the same machine.
        port = registry.host.partition(":")[2]
        front.on("GET", "", redirect(f"https://localhost:{port}/v2/"))
        client = client_for(front, ca_file=str(ca_file), client_cert=str(certificate), client_key=str(key))
        with pytest.raises(TransportError, match="demands a client certificate"):
            discard(client.follow("GET", f"{front.url}/v2/x/blobs/y", (), headers={}))


@pytest.mark.parametrize("missing", ["certificate", "key"])
def test_a_file_that_can_not_be_read_is_named(client_files: tuple[Path, Path], tmp_path: Path, missing: str) -> None:
    nowhere = tmp_path / "nowhere.pem"
    certificate, key = client_files
    tls = Tls(client_cert=str(nowhere), client_key=str(key))
    what = "the client certificate"
    if missing == "key":
        tls, what = Tls(client_cert=str(certificate), client_key=str(nowhere)), "the key of the client certificate,"
    with pytest.raises(TransportError, match=f"{what} {nowhere} can't be read: No such file") as caught:
        ssl_context(tls)
    assert not caught.value.temporary


def test_a_key_of_another_certificate_is_told(
    client_files: tuple[Path, Path], certificate_authority: trustme.CA, tmp_path: Path
) -> None:
    _, other = write(certificate_authority.issue_cert("other.example"), tmp_path, "other")
    with pytest.raises(TransportError, match="the key belongs to another certificate") as caught:
        ssl_context(Tls(client_cert=str(client_files[0]), client_key=str(other)))
    assert not caught.value.temporary


@pytest.mark.parametrize(
    ("key", "words"), [(None, "give the key's file as client_key"), ("key", "no certificate or no key in PEM form")]
)
def test_files_that_hold_something_else_are_told(tmp_path: Path, key: str | None, words: str) -> None:
    certificate = tmp_path / "cert.pem"
    certificate.write_text("nothing of the kind")
    with pytest.raises(TransportError, match=words) as caught:
        ssl_context(Tls(client_cert=str(certificate), client_key=str(certificate) if key else None))
    assert str(certificate) in str(caught.value)
    assert not caught.value.temporary


@pytest.mark.timeout(30)
def test_an_encrypted_key_is_told_and_nobody_is_asked_for_its_password(
    client_files: tuple[Path, Path], tmp_path: Path
) -> None:
    certificate, key = client_files
    private = serialization.load_pem_private_key(key.read_bytes(), None)
    encrypted = tmp_path / "encrypted.key"
    encrypted.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    with pytest.raises(TransportError, match=f"the key {encrypted} is encrypted; give it without a password") as caught:
        ssl_context(Tls(client_cert=str(certificate), client_key=str(encrypted)))
    assert not caught.value.temporary


def test_an_image_is_pushed_with_a_certificate(
    registry: DistributionRegistry,
    ca_file: Path,
    client_files: tuple[Path, Path],
    source_registry: DistributionRegistry,
) -> None:
    blob = images.layer(300_000, "mtls")
    images.push(source_registry.url, "mtls", images.image([blob]), ["v1"])
    certificate, key = client_files
    client = client_for(registry, ca_file=str(ca_file), client_cert=str(certificate), client_key=str(key))
    client.put_blob("mtls", Descriptor("x/y", blob.digest, blob.size), BlobSource(client_for(source_registry), "mtls"))
    assert client.has_blob("mtls", blob.digest)
