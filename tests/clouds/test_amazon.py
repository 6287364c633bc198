"""Against moto, a stand-in for Amazon's API in this process; boto3 and the provider's hook are the real ones."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from moto import mock_aws

from airflow_imagesync.domain.credentials import Credentials, CredentialSource
from airflow_imagesync.errors import ConfigError, Denied, ImageSyncError, RegistryError, TransportError, Unauthorized
from airflow_imagesync.hooks.amazon import PrivateEcr
from devtools import images
from devtools.distribution import DistributionRegistry
from tests.support.faults import errors
from tests.support.front import Exchange, Front, pass_through
from tests.support.world import World

ACCOUNT = "123456789012"
REGION = "eu-west-1"
REGISTRY = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com"
#: What moto gives.
PASSWORD = f"{ACCOUNT}-auth-token"
SECRET = "secret-of-the-account"
CONNECTION = {"conn_type": "aws", "login": "AKIAIOSFODNN7EXAMPLE", "password": SECRET}

SourceOf = Callable[..., CredentialSource]


@pytest.fixture
def aws() -> Iterator[None]:
    with mock_aws():
        yield


@pytest.fixture
def ecr(aws: None, source_of: SourceOf) -> PrivateEcr:
    """The login to the private registry."""
    source = source_of(REGISTRY, **CONNECTION)
    assert isinstance(source, PrivateEcr)
    return source


def repositories() -> list[str]:
    """The repositories that the account has, in the region of the registry."""
    client = boto3.client("ecr", REGION, aws_access_key_id="a", aws_secret_access_key="b")
    return [one["repositoryName"] for one in client.describe_repositories()["repositories"]]


def test_a_private_registry_gets_the_password_of_its_region(ecr: PrivateEcr) -> None:
    regions: list[str] = []
    ecr._client.meta.events.register("before-send.ecr", lambda request, **_: regions.append(request.url))
    assert ecr.get() == Credentials("AWS", PASSWORD)
    assert ecr.get() == Credentials("AWS", PASSWORD)
    assert regions == ["https://api.ecr.eu-west-1.amazonaws.com/"]


def test_the_end_that_amazon_states_counts(ecr: PrivateEcr) -> None:
    def in_twelve_hours(parsed: dict[str, Any], **_: Any) -> None:
        parsed["authorizationData"][0]["expiresAt"] = datetime.now(UTC) + timedelta(hours=12)

    ecr._client.meta.events.register("after-call.ecr.GetAuthorizationToken", in_twelve_hours)
    issued = ecr._issue()
    assert issued.credentials.password == PASSWORD
    assert 43190 < issued.seconds <= 43200


@pytest.mark.parametrize(
    "host",
    [
        f"{ACCOUNT}.dkr.ecr-fips.us-gov-west-1.amazonaws.com",
        f"{ACCOUNT}.dkr.ecr.cn-north-1.amazonaws.com.cn",
        f"{ACCOUNT}.dkr-ecr.us-gov-west-1.on.aws",
        f"{ACCOUNT}.dkr-ecr-fips.us-gov-west-1.on.aws:443",
    ],
)
def test_the_region_is_that_of_the_host(host: str, aws: None, source_of: SourceOf) -> None:
    source = source_of(host, **CONNECTION, extra={"region_name": "eu-west-1"})
    assert source._client.meta.region_name in ("us-gov-west-1", "cn-north-1")
    assert source.get().password == PASSWORD


def test_the_public_gallery_has_a_login_of_its_own(source_of: SourceOf, scripted: Front) -> None:
    """Moto knows nothing of it, so the answer is the documented one."""
    token = "QVdTOnB1YmxpYy1wYXNzd29yZA=="  # AWS:public-password
    body = {"authorizationData": {"authorizationToken": token, "expiresAt": 1.9e9}}

    def act(exchange: Exchange) -> None:
        assert exchange.request.headers["X-Amz-Target"] == "SpencerFrontendService.GetAuthorizationToken"
        assert "/us-east-1/ecr-public/" in exchange.request.headers["Authorization"]
        list(exchange.body())
        exchange.reply(200, [("Content-Type", "application/x-amz-json-1.1")], json.dumps(body).encode())

    scripted.on("POST", "", act)
    source = source_of("public.ecr.aws", **CONNECTION, extra={"endpoint_url": scripted.url, "region_name": REGION})
    assert source.get() == Credentials("AWS", "public-password")


def test_a_missing_repository_is_created(ecr: PrivateEcr) -> None:
    ecr.create_repository("team/app")
    ecr.create_repository("team/app")
    assert repositories() == ["team/app"]


def test_a_name_that_is_refused_is_told(ecr: PrivateEcr) -> None:
    with pytest.raises(
        RegistryError, match=r"CreateRepository of -app at Amazon ECR in eu-west-1 .* was refused"
    ) as caught:
        ecr.create_repository("-app")
    assert not caught.value.temporary


def assert_one_sentence(error: ImageSyncError) -> None:
    assert "\n" not in str(error)
    assert SECRET not in str(error)


NO_RETRIES = {"config_kwargs": {"retries": {"total_max_attempts": 1}}}


def answering(scripted: Front, status: int, code: str, message: str) -> dict[str, Any]:
    """Have the API answer with an error, and return a connection to it."""

    def act(exchange: Exchange) -> None:
        list(exchange.body())
        body = json.dumps({"__type": code, "message": message}).encode()
        exchange.reply(status, [("Content-Type", "application/x-amz-json-1.1")], body)

    scripted.on("POST", "", act)
    return {**CONNECTION, "extra": {"endpoint_url": scripted.url, **NO_RETRIES}}


def test_an_account_without_the_right_is_told_which_it_lacks(scripted: Front, source_of: SourceOf) -> None:
    text = "User: arn:aws:iam::123456789012:user/limited is not authorized to perform: ecr:GetAuthorizationToken"
    source = source_of(REGISTRY, **answering(scripted, 400, "AccessDeniedException", text))
    with pytest.raises(Denied, match=r"AccessDeniedException: .*user/limited.*; allow ecr:GetAuthorizationToken to it"):
        source.get()
    with pytest.raises(Denied, match="; allow ecr:CreateRepository to it") as caught:
        source.create_repository("app")
    assert_one_sentence(caught.value)
    assert not caught.value.temporary


@pytest.mark.parametrize("code", ["UnrecognizedClientException", "ExpiredTokenException"])
def test_a_wrong_key_is_told(code: str, scripted: Front, source_of: SourceOf) -> None:
    source = source_of(REGISTRY, **answering(scripted, 400, code, "The security token in the request is invalid."))
    with pytest.raises(Unauthorized, match=f"{code}: .* is invalid; check the connection's keys") as caught:
        source.get()
    assert_one_sentence(caught.value)


def test_what_was_signed_is_not_shown(scripted: Front, source_of: SourceOf) -> None:
    """A refused signature is answered with what it should have been made of, a session's token too."""
    text = "The request signature we calculated does not match.\n\nThe Canonical String was\n'token-of-session'"
    source = source_of(REGISTRY, **answering(scripted, 400, "InvalidSignatureException", text))
    with pytest.raises(Unauthorized, match="signature we calculated does not match; check") as caught:
        source.get()
    assert_one_sentence(caught.value)
    assert "token-of-session" not in str(caught.value)


@pytest.mark.parametrize(("status", "code"), [(400, "ThrottlingException"), (500, "ServerException")])
def test_what_passes_is_temporary(status: int, code: str, scripted: Front, source_of: SourceOf) -> None:
    with pytest.raises(RegistryError, match=code) as caught:
        source_of(REGISTRY, **answering(scripted, status, code, "later")).get()
    assert caught.value.temporary


def test_an_api_that_does_not_answer_is_told(source_of: SourceOf) -> None:
    source = source_of(REGISTRY, **CONNECTION, extra={"endpoint_url": "http://127.0.0.1:1", **NO_RETRIES})
    with pytest.raises(TransportError, match=r"no answer .*; check the network and endpoint_url") as caught:
        source.get()
    assert_one_sentence(caught.value)
    assert caught.value.temporary


def test_an_account_without_keys_is_told(source_of: SourceOf) -> None:
    with pytest.raises(ConfigError, match="Unable to locate credentials; check the connection's keys"):
        source_of(REGISTRY, conn_type="aws").get()


@pytest.mark.parametrize(
    "extra",
    [{"profile_name": "missing"}, {"role_arn": "arn:aws:iam::1:role/r", "assume_role_method": "magic"}],
    ids=["profile", "method"],
)
def test_a_connection_that_is_wrong_is_told(extra: dict[str, Any], source_of: SourceOf) -> None:
    with pytest.raises(ConfigError, match="connection 'account'") as caught:
        source_of(REGISTRY, conn_type="aws", extra=extra).get()
    assert_one_sentence(caught.value)


@pytest.fixture(scope="module")
def behind_ecr() -> Iterator[DistributionRegistry]:
    """A registry that takes the login that moto gives."""
    with DistributionRegistry(htpasswd={"AWS": PASSWORD}, in_shared_memory=True) as registry:
        yield registry


def test_a_sync_to_ecr_renews_its_login_and_creates_repositories(
    ecr: PrivateEcr, source_registry: DistributionRegistry, behind_ecr: DistributionRegistry, repository_prefix: str
) -> None:
    logins: list[str] = []
    ecr._client.meta.events.register("after-call.ecr.GetAuthorizationToken", lambda **_: logins.append("asked"))
    # "DENIED: Your authorization token has expired" (flipt-io/flipt#3043)
    ended = errors(403, "DENIED", "Your authorization token has expired. Reauthenticate and try again.")
    missing = errors(404, "NAME_UNKNOWN", f"The repository does not exist in the registry with id '{ACCOUNT}'")

    def known_only(exchange: Exchange) -> None:
        known = any(f"/v2/{name}/" in exchange.request.path for name in repositories())
        (pass_through if known else missing)(exchange)

    with Front(source_registry.host) as source, Front(behind_ecr.host) as destination:
        world = World(source, destination, prefix=repository_prefix)
        world.logins["destination"] = {"source": ecr, "create_repositories": True}
        image = images.image()
        images.push(source_registry.url, f"{repository_prefix}/app", image, ["v1"])
        destination.on("HEAD", "/blobs/", ended, times=1)
        destination.on("POST", "/blobs/uploads/", known_only)
        result = world.one(world.rule("v1"))
        assert result.error is None
        assert result.digest == image.digest
    assert len(logins) == 2
    assert repositories() == [f"{repository_prefix}/app"]
