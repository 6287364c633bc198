from __future__ import annotations

import pytest

from airflow_imagesync.errors import ProtocolError
from airflow_imagesync.registry.origin import (
    at_registry,
    realm_may_see_credentials,
    realm_problem,
    redact,
    redirect_problem,
    resolve,
    same_origin,
    upload_problem,
)

HUB = "https://registry-1.docker.io"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://h/p?X-Amz-Signature=secret#f", "https://h/p"),
        ("https://user:secret@h:5000/p", "https://h:5000/p"),
        ("http://[::1]:5000/v2/", "http://[::1]:5000/v2/"),
        ("http://[::1/broken", "an unreadable address"),
    ],
)
def test_an_address_is_shown_without_its_secrets(url: str, expected: str) -> None:
    assert redact(url) == expected


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("https://h/a", "https://h:443/b", True),
        ("http://h/a", "http://H:80/b", True),
        ("https://h/a", "http://h/a", False),
        ("https://h/a", "https://h:8443/a", False),
        ("https://h/a", "https://h.evil/a", False),
        ("https://h/a", "https://h@evil/a", False),
    ],
)
def test_an_origin_is_scheme_host_and_port(one: str, other: str, expected: bool) -> None:
    assert same_origin(one, other) is expected


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("/v2/x?_state=a%2Bb", "https://h/v2/x?_state=a%2Bb"),
        ("other", "https://h/v2/other"),
        ("https://s3/b?sig=1", "https://s3/b?sig=1"),
        ("//cdn/b", "https://cdn/b"),
    ],
)
def test_an_address_in_an_answer_is_made_absolute(address: str, expected: str) -> None:
    assert resolve("https://h/v2/a", address) == expected


@pytest.mark.parametrize(
    "address",
    [
        "http://[::1",
        "https://h:99999/",
        "https://h:port/",
        "https://h:0/",
        "file:///etc/passwd",
        "ftp://h/x",
        "javascript:x",
    ],
)
def test_what_is_no_http_address_is_a_protocol_error(address: str) -> None:
    with pytest.raises(ProtocolError, match="no HTTP address"):
        resolve("https://h/v2/a", address)


@pytest.mark.parametrize(
    ("registry", "target", "expected"),
    [
        ("https://r", "https://r/v2/u?a=b", "https://r/v2/u?a=b"),
        ("https://r", "http://r/v2/u?a=b", "https://r/v2/u?a=b"),
        ("https://r:8443", "http://r:8080/v2/u", "https://r:8443/v2/u"),
        ("https://r:8443", "https://r/v2/u", "https://r:8443/v2/u"),
        ("http://r:5000", "http://r/v2/u", "http://r:5000/v2/u"),
        ("https://r:8443", "https://r:9443/v2/u", None),
        ("https://r", "https://r.evil/v2/u", None),
        ("http://r", "https://r/v2/u", None),
    ],
    ids=[
        "itself",
        "tls-ended-by-a-proxy",
        "inner-port",
        "port-dropped",
        "port-dropped-over-http",
        "other-port",
        "other-host",
        "http-to-https",
    ],
)
def test_an_address_of_the_registry_itself_is_found_behind_proxies(
    registry: str, target: str, expected: str | None
) -> None:
    assert at_registry(registry, target) == expected


@pytest.mark.parametrize(
    ("registry", "target", "problem"),
    [
        ("https://r.example.com", "https://bucket.s3.amazonaws.com/b?sig", None),
        ("https://r.example.com", "https://10.0.0.7:9000/b", None),
        ("http://10.0.0.5:5000", "http://127.0.0.1:9000/b", None),
        ("http://localhost:5000", "http://127.0.0.1:9000/b", None),
        ("https://r.example.com", "http://bucket.s3.amazonaws.com/b", "HTTPS"),
        ("https://r.example.com", "http://r.example.com/b", "HTTPS"),
        ("http://r.example.com", "https://r.example.com/v2/x/blobs/y", "insecure"),
        ("http://r.example.com", "https://r.example.com:9000/bucket/y", None),
        ("https://r.example.com", "https://169.254.169.254/latest/meta-data/", "link-local"),
        ("http://169.254.1.1:5000", "http://169.254.169.254/latest/", "link-local"),
        ("https://r.example.com", "https://[fd00:ec2::254]/", "link-local"),
        ("https://r.example.com", "https://[::ffff:169.254.169.254]/", "link-local"),
        ("https://r.example.com", "https://[fe80::1%25eth0]/", "link-local"),
        ("https://r.example.com", "https://127.0.0.1:6443/", "this machine"),
        ("https://r.example.com", "https://localhost/", "this machine"),
        ("https://r.example.com", "https://[::1]/", "this machine"),
        ("https://r.example.com", "https://0.0.0.0/", "this machine"),
    ],
)
def test_a_redirect_leads_only_where_a_registry_may_send(registry: str, target: str, problem: str | None) -> None:
    found = redirect_problem(registry, target)
    assert found is None if problem is None else problem in (found or "")


def test_a_request_that_changes_something_is_not_redirected_to_another_origin() -> None:
    assert redirect_problem("https://r", "https://r/v2/other/", same_content=False) is None
    assert redirect_problem("https://r", "https://s/v2/", same_content=False) == "another host"


@pytest.mark.parametrize(
    ("registry", "realm", "asked", "credentials"),
    [
        (HUB, "https://auth.docker.io/token", True, True),
        ("https://ghcr.io", "https://ghcr.io/token", True, True),
        ("https://quay.io", "https://quay.io/v2/auth", True, True),
        ("https://registry.gitlab.com", "https://gitlab.com/jwt/auth", True, True),
        ("https://harbor.corp.example.com:8443", "https://harbor.corp.example.com/service/token", True, True),
        (
            "https://reg-registry.cn-hangzhou.cr.aliyuncs.com",
            "https://dockerauth-ee.cn-hangzhou.aliyuncs.com/auth",
            True,
            True,
        ),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5001/token", True, True),
        ("http://10.0.0.5:5000", "http://10.0.0.6:5001/token", True, False),
        ("https://registry.example.com", "https://tokens.example.org/token", True, False),
        ("https://a.github.io", "https://b.github.io/token", True, False),
        ("https://evil-aliyuncs.com", "https://x.aliyuncs.com/auth", True, False),
        ("https://registry.example.com", "https://93.184.216.34/token", True, False),
        ("https://registry.example.com", "http://registry.example.com/token", False, True),
        ("https://registry.example.com", "https://10.0.0.7/token", False, False),
        ("https://registry.example.com", "https://127.0.0.1/token", False, False),
        ("https://registry.example.com", "https://169.254.169.254/token", False, False),
        ("http://169.254.169.254", "http://169.254.169.254/token", False, True),
    ],
)
def test_a_token_service_is_asked_and_sees_credentials_only_by_the_rules(
    registry: str, realm: str, asked: bool, credentials: bool
) -> None:
    assert (realm_problem(registry, realm) is None) is asked
    assert realm_may_see_credentials(registry, realm, ()) is credentials


@pytest.mark.parametrize(
    ("allowed", "expected"),
    [
        (("tokens.example.org",), True),
        (("Tokens.Example.org",), True),
        (("tokens.example.org:443",), True),
        (("tokens.example.org:8443",), False),
        (("example.org",), False),
        ((), False),
    ],
)
def test_a_token_service_that_is_allowed_sees_credentials(allowed: tuple[str, ...], expected: bool) -> None:
    realm = "https://tokens.example.org/token"
    assert realm_may_see_credentials("https://registry.example.com", realm, allowed) is expected


@pytest.mark.parametrize(
    ("registry", "target", "problem"),
    [
        ("https://registry.example", "https://storage.example/u", None),
        ("https://registry.example", "http://storage.example/u", "not HTTPS"),
        ("https://registry.example", "https://10.0.0.5/u", "a private address"),
        ("https://registry.example", "https://127.0.0.1:5000/u", "a private address"),
        ("https://registry.example", "https://localhost/u", "a private address"),
        ("https://registry.example", "https://[fd00::1]/u", "a private address"),
        ("https://registry.example", "https://169.254.169.254/u", "a link-local address or a cloud's metadata service"),
        ("https://10.0.0.4", "https://10.0.0.5/u", None),
        ("http://localhost:5000", "https://127.0.0.1:5001/u", None),
        ("http://localhost:5000", "http://127.0.0.1:5001/u", "not HTTPS"),
        ("https://10.0.0.4", "https://169.254.169.254/u", "a link-local address or a cloud's metadata service"),
    ],
)
def test_another_host_for_uploads_must_be_public_and_speak_https(
    registry: str, target: str, problem: str | None
) -> None:
    assert upload_problem(registry, target) == problem
