from __future__ import annotations

import time
from pathlib import Path

import pytest
import requests

from devtools import images
from devtools.distribution import DistributionRegistry
from devtools.images import BearerAuth, image, push
from devtools.token_server import TokenServer
from tests.support import PASSWORD, USER
from tests.support.skopeo import Skopeo

ACCEPT = {"Accept": images.OCI_MANIFEST}


def test_the_registry_sends_clients_to_the_service(token_registry: DistributionRegistry, token_server: TokenServer):
    answer = requests.get(f"{token_registry.url}/v2/")
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == f'Bearer realm="{token_server.realm}",service="{token_server.service}"'


def test_skopeo_pushes_and_pulls_with_tokens(
    token_registry: DistributionRegistry,
    token_server: TokenServer,
    source_registry: DistributionRegistry,
    repository_prefix: str,
    skopeo: Skopeo,
    tmp_path: Path,
):
    built = image()
    push(source_registry.url, repository_prefix, built, ["v1"])
    before = token_server.issued
    reference = f"{token_registry.host}/{repository_prefix}:v1"
    login = f"{USER}:{PASSWORD}"
    skopeo(
        "copy",
        "--src-tls-verify=false",
        "--dest-tls-verify=false",
        f"--dest-creds={login}",
        f"docker://{source_registry.host}/{repository_prefix}:v1",
        f"docker://{reference}",
    )
    skopeo.pull(reference, tmp_path / "pulled", f"--src-creds={login}")
    assert skopeo.digest(reference, f"--creds={login}") == built.digest
    assert token_server.issued > before
    asked = {scope for request in token_server.requests for scope in request.scopes}
    assert f"repository:{repository_prefix}:pull,push" in asked
    assert token_server.requests[-1].user == USER
    assert token_server.requests[-1].authorization.startswith("Basic ")


def test_skopeo_is_refused_with_a_wrong_password(token_registry: DistributionRegistry, skopeo: Skopeo):
    reference = f"docker://{token_registry.host}/public/x:v1"
    refused = skopeo("inspect", "--tls-verify=false", f"--creds={USER}:wrong", reference, check=False)
    assert refused.returncode != 0
    assert b"incorrect username or password" in refused.stderr


def test_anybody_pulls_what_is_public_and_pushes_nothing(
    token_registry: DistributionRegistry, token_server: TokenServer, repository_prefix: str, skopeo: Skopeo
):
    repository = f"public/{repository_prefix}"
    built = image()
    owner = BearerAuth(token_server.token(USER, f"repository:{repository}:pull,push"))
    push(token_registry.url, repository, built, ["v1"], auth=owner)
    assert skopeo.digest(f"{token_registry.host}/{repository}:v1") == built.digest
    # The service answers 200 all the same; it is the registry that refuses.
    answer = requests.get(token_server.realm, params={"scope": f"repository:{repository}:pull,push"})
    assert answer.status_code == 200
    with pytest.raises(requests.HTTPError, match="401"):
        push(token_registry.url, repository, image([]), ["v1"], auth=BearerAuth(answer.json()["token"]))


def test_identity_tokens_and_passwords_are_exchanged_by_post(
    token_registry: DistributionRegistry, token_server: TokenServer, repository_prefix: str
):
    scope = f"repository:{repository_prefix}:pull,push"
    service = {"service": token_server.service, "client_id": "tests"}
    forms = [
        {"grant_type": "refresh_token", "refresh_token": f"identity-of-{USER}", "scope": scope, **service},
        {
            "grant_type": "password",
            "username": USER,
            "password": PASSWORD,
            "scope": f"{scope} {scope}",
            **service,
        },
    ]
    for form in forms:
        answer = requests.post(token_server.realm, data=form).json()
        assert "token" not in answer
        push(token_registry.url, repository_prefix, image(), ["v1"], auth=BearerAuth(answer["access_token"]))
    first, second = token_server.requests[-2:]
    assert (first.method, first.grant_type, first.user, first.scopes) == (
        "POST",
        "refresh_token",
        USER,
        (scope,),
    )
    assert (second.grant_type, second.scopes) == ("password", (scope, scope))
    assert second.parameters["client_id"] == "tests"


@pytest.mark.parametrize(
    "form",
    [
        {"grant_type": "refresh_token", "refresh_token": "stolen"},
        {"grant_type": "password", "username": USER, "password": "wrong"},
        {"grant_type": "password", "username": "", "password": ""},
        {"grant_type": "implicit"},
    ],
    ids=["refresh-token", "password", "empty", "grant-type"],
)
def test_wrong_credentials_get_no_token(token_server: TokenServer, form: dict[str, str]):
    before = token_server.issued
    assert requests.post(token_server.realm, data=form).status_code == 401
    assert token_server.issued == before


def test_the_registry_refuses_a_token_after_its_lifetime():
    """Distribution itself forgives another minute, which the service makes up for."""
    with (
        TokenServer(access={None: {"*": ["pull", "push"]}}, lifetime=2) as tokens,
        DistributionRegistry(token_auth=tokens.token_auth) as registry,
    ):
        auth = BearerAuth(tokens.token(None, "repository:some:pull,push"))
        started = time.monotonic()
        push(registry.url, "some", image(), ["v1"], auth=auth)
        url = f"{registry.url}/v2/some/manifests/v1"
        while (answer := requests.get(url, auth=auth, headers=ACCEPT)).status_code == 200:
            assert time.monotonic() - started < 10
            time.sleep(0.1)
        assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]
        assert time.monotonic() - started > 0.9
