from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from airflow_imagesync.domain.credentials import Credentials
from airflow_imagesync.errors import ConfigError, ImageSyncError, TransportError
from airflow_imagesync.registry import credential_helper
from airflow_imagesync.registry.credential_helper import CredentialHelper, check_suffix
from tests.support.helper import HelperProgram

SERVER = "https://index.docker.io/v1/"


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HelperProgram:
    return HelperProgram.on_path(tmp_path / "bin", monkeypatch)


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Moves the clock that the helpers' answers age by."""
    now = time.monotonic

    def move(seconds: float) -> None:
        monkeypatch.setattr(credential_helper.time, "monotonic", lambda: now() + seconds)

    return move


def test_a_helper_is_asked_for_the_server_and_gives_user_and_secret(helper: HelperProgram) -> None:
    helper.logins = {SERVER: ("alice", "hunter22")}
    found = CredentialHelper("fake", SERVER).get()
    assert found == Credentials("alice", "hunter22")
    assert helper.asked == [f"get {SERVER}"]
    assert "hunter22" not in repr(found)


def test_a_token_in_place_of_a_user_means_an_identity_token(helper: HelperProgram) -> None:
    helper.logins = {SERVER: ("<token>", "identity")}
    assert CredentialHelper("fake", SERVER).get() == Credentials(identity_token="identity")


def test_a_helper_that_has_nothing_is_no_mistake(helper: HelperProgram) -> None:
    assert not CredentialHelper("fake", "quay.io").get()


def test_what_a_helper_said_is_good_for_an_hour(helper: HelperProgram, later: Callable[[float], None]) -> None:
    helper.logins = {SERVER: ("alice", "one")}
    source = CredentialHelper("fake", SERVER)
    assert source.get().password == "one"
    helper.logins = {SERVER: ("alice", "two")}
    later(3500)
    assert source.get().password == "one"
    assert source.get(renew=True).password == "two"
    helper.logins = {SERVER: ("alice", "three")}
    later(7200)
    assert source.get().password == "three"
    assert len(helper.asked) == 3


def test_a_helper_that_failed_is_left_alone_for_a_moment(helper: HelperProgram, later: Callable[[float], None]) -> None:
    helper.script("echo locked; exit 1")
    source = CredentialHelper("fake", SERVER)
    for _ in range(3):
        with pytest.raises(ImageSyncError, match="locked"):
            source.get()
    assert len(helper.asked) == 1
    later(6)
    helper.logins = {SERVER: ("alice", "one")}
    assert source.get().password == "one"


def test_many_threads_run_it_once(helper: HelperProgram) -> None:
    helper.logins = {SERVER: ("alice", "one")}
    source = CredentialHelper("fake", SERVER)
    with ThreadPoolExecutor(8) as pool:
        assert {one.password for one in pool.map(lambda _: source.get(), range(16))} == {"one"}
    assert len(helper.asked) == 1


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (
            "echo 'the keychain is locked'; exit 3",
            "docker-credential-fake has no login for https://index.docker.io/v1/",
        ),
        ("echo 'the keychain is locked'; exit 3", r"\(exit 3\): the keychain is locked; log in again"),
        ("exit 1", r"\(exit 1\); log in again"),
        ("""echo '{"Username": "u", "Secret": "hunter22"}'; exit 1""", r"\(exit 1\); log in again"),
        ("echo hunter22", "answered for .* what is no login; expected a JSON object"),
        ("""echo '["hunter22"]'""", "what is no login"),
        ("""echo '{"Username": "u", "Secret": ["hunter22"]}'""", "what is no login"),
        ("yes hunter22", "what is no login"),
        ("yes '[[[[[[[[[' | head -c 60000 | tr -d '\\n'", "what is no login"),
    ],
)
def test_a_helper_that_fails_is_named_with_what_it_said_and_no_secret(
    helper: HelperProgram, script: str, words: str
) -> None:
    helper.script(script)
    with pytest.raises(ImageSyncError, match=words) as caught:
        CredentialHelper("fake", SERVER).get()
    assert "hunter22" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert len(str(caught.value)) < 500


def test_what_a_helper_says_at_length_is_cut(helper: HelperProgram) -> None:
    helper.script("printf 'a\\tb%.0s' $(seq 1000); exit 1")
    with pytest.raises(ImageSyncError, match=r": a ba b.*\.\.\.; log in") as caught:
        CredentialHelper("fake", SERVER).get()
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("script", ["sleep 60", "sleep 60 & exit 0", "trap '' TERM; cat > /dev/null; sleep 60"])
def test_a_helper_that_takes_too_long_is_ended(helper: HelperProgram, script: str) -> None:
    """Also one that leaves somebody behind who holds its output open."""
    helper.script(script)
    begun = time.monotonic()
    with pytest.raises(TransportError, match=r"gave no login for .* within 0\.5 s; run it by hand") as caught:
        CredentialHelper("fake", SERVER, timeout=0.5).get()
    assert caught.value.temporary
    assert time.monotonic() - begun < 20


def test_a_helper_that_does_not_read_is_no_problem(helper: HelperProgram) -> None:
    helper.script("""exec 0<&-; echo '{"Username": "u", "Secret": "s"}'""", reads=False)
    assert CredentialHelper("fake", SERVER).get() == Credentials("u", "s")


def test_a_helper_that_is_not_there_is_named(helper: HelperProgram) -> None:
    with pytest.raises(ConfigError, match="there is no docker-credential-gone on the PATH"):
        CredentialHelper("gone", SERVER).get()
    helper.path.write_text("#!/nowhere/sh\n")
    with pytest.raises(ImageSyncError, match="docker-credential-fake can't be run"):
        CredentialHelper("fake", SERVER).get()


@pytest.mark.parametrize("suffix", ["", "a/b", "../x", "a b", "a;b", "$(x)", "a\n", "ä"])
def test_a_suffix_that_is_more_than_a_name_is_refused(suffix: str) -> None:
    with pytest.raises(ConfigError, match=r"config\.json names the credential helper .*; expected letters, digits"):
        check_suffix(suffix, "config.json")


def test_usual_suffixes_are_taken() -> None:
    for suffix in ("ecr-login", "osxkeychain", "desktop.exe", "acr_env"):
        assert check_suffix(suffix, "x") == suffix
