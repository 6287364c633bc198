from __future__ import annotations

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from airflow_imagesync.domain.credentials import Credentials
from airflow_imagesync.domain.login import Login
from airflow_imagesync.errors import ConfigError, Denied, ImageSyncError, TransportError
from airflow_imagesync.hooks import clouds
from airflow_imagesync.hooks.clouds import CLOUDS, CloudCredentials, Issued, cloud_source, first_line

ECR = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"


class Cloud:
    """Issues numbered passwords of a given life, or raises what it is told to."""

    def __init__(self, seconds: float = 3600, fails: Exception | None = None) -> None:
        self.seconds = seconds
        self.fails = fails
        self.asked = 0
        self.wait = threading.Event()
        self.wait.set()

    def __call__(self) -> Issued:
        self.asked += 1
        self.wait.wait(5)
        if self.fails is not None:
            raise self.fails
        return Issued(Credentials("user", f"password-{self.asked}"), self.seconds)


@pytest.mark.parametrize(
    ("conn_type", "registry"),
    [
        ("aws", ECR),
        ("aws", "123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn"),
        ("aws", "123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com"),
        ("aws", "123456789012.dkr-ecr.eu-west-1.on.aws"),
        ("aws", "public.ecr.aws"),
        ("google_cloud_platform", "europe-west1-docker.pkg.dev"),
        ("google_cloud_platform", "gcr.io"),
        ("google_cloud_platform", "eu.gcr.io"),
        ("azure", "example.azurecr.io"),
        ("azure", "example-a1b2.azurecr.cn"),
        ("alibaba_cloud", "example-registry.cn-hangzhou.cr.aliyuncs.com"),
        ("alibaba_cloud", "example-registry-vpc.cn-hangzhou.cr.aliyuncs.com"),
    ],
)
def test_a_registry_belongs_to_one_cloud(conn_type: str, registry: str) -> None:
    assert [name for name, cloud in CLOUDS.items() if cloud.registries.fullmatch(registry)] == [conn_type]


@pytest.mark.parametrize("conn_type", CLOUDS)
@pytest.mark.parametrize(
    "registry",
    [
        "quay.io",
        "",
        "123456789012.dkr.ecr.eu-west-1.amazonaws.com.example.com",
        "example.com:443",
        "evil-azurecr.io",
        "notgcr.io",
        "pkg.dev.example.com",
        "ecr.eu-west-1.amazonaws.com",
        "bucket.s3.eu-west-1.amazonaws.com",
        "registry.cn-hangzhou.aliyuncs.com",
        "example.azurecr.io:8443",
    ],
)
def test_credentials_go_to_registries_of_the_cloud_alone(conn_type: str, registry: str) -> None:
    with pytest.raises(ConfigError, match=f"'account' has the type '{conn_type}' and logs in to registries of .* only"):
        cloud_source("account", conn_type, registry, {}, Login())


def test_other_types_of_connections_are_no_clouds() -> None:
    for conn_type in ("oci_registry", "docker", "azure_container_registry", ""):
        assert cloud_source("account", conn_type, ECR, {}, Login()) is None


def test_nothing_goes_over_plain_http() -> None:
    with pytest.raises(ConfigError, match=r"registries\.ecr: .* speaks HTTPS: take out insecure: true"):
        cloud_source("account", "aws", ECR, {}, Login(key="ecr", insecure=True))


@pytest.mark.parametrize(
    ("conn_type", "registry", "missing", "extra"),
    [
        ("aws", ECR, "airflow.providers.amazon", "amazon"),
        ("google_cloud_platform", "gcr.io", "airflow.providers.google", "google"),
        ("azure", "example.azurecr.io", "airflow.providers.microsoft.azure", "microsoft-azure"),
        (
            "alibaba_cloud",
            "example-registry.cn-hangzhou.cr.aliyuncs.com",
            "alibabacloud_cr20181201",
            "alibaba",
        ),
    ],
)
def test_what_is_not_installed_is_told_with_the_command(
    conn_type: str, registry: str, missing: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name == missing or name.startswith(f"{missing}.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.delitem(sys.modules, f"airflow_imagesync.hooks.{CLOUDS[conn_type].module}", raising=False)
    with pytest.raises(ConfigError) as caught:
        cloud_source("account", conn_type, registry, {}, Login())
    assert f"pip install 'airflow-imagesync[{extra}]'" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_looking_up_a_cloud_imports_no_provider() -> None:
    code = (
        "import sys, airflow_imagesync.hooks.clouds\n"
        "clouds = ('airflow.providers.amazon.aws', 'airflow.providers.google.common', 'alibabacloud', 'azure')\n"
        "sys.exit(', '.join(name for name in sys.modules if name.startswith(clouds)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_credentials_are_asked_for_when_needed_and_kept() -> None:
    cloud = Cloud()
    source = CloudCredentials("Cloud", cloud)
    assert cloud.asked == 0
    assert source.get() is source.get()
    assert cloud.asked == 1


@pytest.mark.parametrize(
    ("seconds", "renewed_after"), [(43200, 42900), (100, 80), (3, 48), (-1e9, 48)], ids=["12h", "100s", "3s", "past"]
)
def test_credentials_are_renewed_shortly_before_their_end(
    seconds: float, renewed_after: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that is wrong must not make every request ask for a login."""
    now = 1000.0
    monkeypatch.setattr(clouds.time, "monotonic", lambda: now)
    source = CloudCredentials("Cloud", Cloud(seconds))
    assert source.get().password == "password-1"
    now += renewed_after - 1
    assert source.get().password == "password-1"
    now += 2
    assert source.get().password == "password-2"


def test_refused_credentials_are_renewed() -> None:
    source = CloudCredentials("Cloud", Cloud())
    source.get()
    assert source.get(renew=True).password == "password-2"
    assert source.get().password == "password-2"


@pytest.mark.parametrize("renew", [False, True])
def test_threads_that_need_credentials_together_ask_once(renew: bool) -> None:
    cloud = Cloud()
    source = CloudCredentials("Cloud", cloud)
    if renew:
        source.get()
    before = cloud.asked
    cloud.wait.clear()
    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(source.get, renew=renew) for _ in range(8)]
        while cloud.asked == before:
            time.sleep(0.001)
        time.sleep(0.05)  # until the others wait, too
        cloud.wait.set()
        found = {future.result().password for future in futures}
    assert found == {f"password-{cloud.asked}"}
    assert cloud.asked == before + 1


def test_a_refusal_is_final_and_a_failure_is_not() -> None:
    cloud = Cloud(fails=TransportError("no answer"))
    source = CloudCredentials("Cloud", cloud)
    for _ in range(2):
        with pytest.raises(TransportError):
            source.get()
    cloud.fails = Denied("not you")
    for _ in range(2):
        with pytest.raises(Denied):
            source.get()
    assert cloud.asked == 3


def test_an_error_of_a_library_becomes_one_of_ours() -> None:
    cloud = Cloud(fails=KeyError("access_token\nand more"))
    with pytest.raises(ImageSyncError) as caught:
        CloudCredentials("Cloud", cloud).get()
    assert str(caught.value) == "Cloud gives no credentials: KeyError: 'access_token\\nand more'"


def test_a_secret_is_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    masked: list[str] = []
    monkeypatch.setattr(clouds, "mask_secret", masked.append)
    CloudCredentials("Cloud", Cloud()).get()
    CloudCredentials("Cloud", lambda: Issued(Credentials(identity_token="refresh"), 60)).get()
    assert masked == ["password-1", "refresh"]


def test_of_a_foreign_error_one_line_is_shown() -> None:
    assert first_line("Signature does not match.\n\nThe canonical string was ... token") == "Signature does not match"
    assert first_line("a\tb\x1b[31m") == "a b [31m"
    assert first_line("") == ""
    assert len(first_line("x" * 1000)) == 303
