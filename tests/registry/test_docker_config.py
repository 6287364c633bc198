from __future__ import annotations

import base64
import json
import logging
from pathlib import Path
from typing import Any

import pytest

from airflow_imagesync.domain.credentials import Credentials
from airflow_imagesync.domain.login import DockerLogins, Login
from airflow_imagesync.domain.reference import Repository
from airflow_imagesync.errors import ConfigError
from airflow_imagesync.registry.docker_config import DockerConfig
from tests.support.helper import HelperProgram

EVERYWHERE = DockerLogins(everywhere=True)


def auth(user: str = "me", password: str = "secret") -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without any configuration."""
    for name in ("DOCKER_CONFIG", "DOCKER_AUTH_CONFIG", "REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def write(path: Path, document: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def found(repository: str, settings: DockerLogins = EVERYWHERE, login: Login | None = None) -> Credentials | None:
    """Return the credentials for a repository, None where there is no entry."""
    one = DockerConfig(settings).find(login or Login(), Repository.parse(repository))
    return one.source.get() if one is not None else None


def given(document: object, repository: str, tmp_path: Path, **settings: Any) -> Credentials | None:
    """Return what a file of this content says for a repository."""
    path = write(tmp_path / "given.json", document)
    return found(repository, DockerLogins(everywhere=True, path=str(path), **settings))


# Which file


def test_the_environment_comes_first_then_dockers_file_then_podmans(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def user() -> str | None:
        one = found("quay.io/a/b")
        return one.username if one is not None else None

    assert user() is None
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    write(tmp_path / "run/containers/auth.json", {"auths": {"quay.io": auth("podman")}})
    assert user() == "podman"
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(write(tmp_path / "pod.json", {"auths": {"quay.io": auth("file")}})))
    assert user() == "file"
    write(home / ".docker/config.json", {"auths": {"quay.io": auth("home")}})
    assert user() == "home"
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    assert user() == "file"
    write(tmp_path / "docker/config.json", {"auths": {"quay.io": auth("folder")}})
    assert user() == "folder"
    monkeypatch.setenv("DOCKER_AUTH_CONFIG", json.dumps({"auths": {"quay.io": auth("variable")}}))
    assert user() == "variable"


def test_a_registry_that_the_first_file_does_not_know_is_looked_for_in_the_next(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(home / ".docker/config.json", {"auths": {"quay.io": auth("home")}})
    monkeypatch.setenv("DOCKER_AUTH_CONFIG", json.dumps({"auths": {"ghcr.io": auth("variable")}}))
    assert found("quay.io/a") == Credentials("home", "secret")
    assert found("ghcr.io/a") == Credentials("variable", "secret")


@pytest.mark.parametrize("name", ["config.json", ".dockerconfigjson", ".dockercfg"])
def test_a_path_is_a_file_or_a_folder_and_nothing_else_counts(home: Path, tmp_path: Path, name: str) -> None:
    write(home / ".docker/config.json", {"auths": {"ghcr.io": auth("home")}})
    document = {"quay.io": auth()} if name == ".dockercfg" else {"auths": {"quay.io": auth()}}
    path = write(tmp_path / "secret" / name, document)
    for one in (path, path.parent):
        settings = DockerLogins(everywhere=True, path=str(one))
        assert found("quay.io/a", settings) == Credentials("me", "secret")
        assert found("ghcr.io/a", settings) is None


def test_a_path_with_nothing_there_is_a_mistake(home: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "gone.json", tmp_path / "empty"):
        with pytest.raises(ConfigError, match=r"there is no Docker configuration at .*(gone\.json|empty); check"):
            found("quay.io/a", DockerLogins(everywhere=True, path=str(path)))


# Who asks


def test_only_those_without_a_login_ask_and_only_where_that_is_wanted(home: Path) -> None:
    write(home / ".docker/config.json", {"auths": {"quay.io": auth()}})
    nowhere = DockerLogins()
    assert found("quay.io/a", nowhere) is None
    assert found("quay.io/a", nowhere, Login(docker_config=True)) is not None
    assert found("quay.io/a", EVERYWHERE, Login(docker_config=False)) is None
    assert found("quay.io/a", EVERYWHERE, Login(username="u", password="p")) is None


def test_nothing_is_read_for_those_who_do_not_ask(home: Path) -> None:
    write(home / ".docker/config.json", "broken")
    assert found("quay.io/a", EVERYWHERE, Login(identity_token="t")) is None


def test_an_entry_that_names_dockers_login_is_told_when_there_is_none(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(home / ".docker/config.json", {})
    config = DockerConfig(DockerLogins())
    with caplog.at_level(logging.WARNING):
        for name in ("quay.io/a", "quay.io/b"):
            assert config.find(Login(docker_config=True), Repository.parse(name)) is None
    assert [one.getMessage() for one in caplog.records] == [f"Docker's configuration ({path}) has no login for quay.io"]


# Which entry


@pytest.mark.parametrize(
    ("key", "repository"),
    [
        ("quay.io", "quay.io/a/b"),
        ("QUAY.io", "quay.io/a/b"),
        ("https://quay.io", "quay.io/a/b"),
        ("https://quay.io/v1/", "quay.io/a/b"),
        ("https://quay.io/v2/", "quay.io/a/b"),
        ("quay.io/v2/", "quay.io/a/b"),
        ("http://localhost:5000", "localhost:5000/a"),
        ("localhost:5000", "localhost:5000/a"),
        ("[::1]:5000", "[::1]:5000/a"),
        ("https://index.docker.io/v1/", "nginx"),
        ("index.docker.io", "nginx"),
        ("docker.io", "foo/bar"),
        ("registry-1.docker.io", "foo/bar"),
        ("docker.io/foo", "foo/bar"),
        ("quay.io/a", "quay.io/a/b"),
        ("quay.io/a/b", "quay.io/a/b"),
        ("quay.io/a/", "quay.io/a/b"),
    ],
)
def test_a_key_is_for_a_repository(tmp_path: Path, key: str, repository: str) -> None:
    assert given({"auths": {key: auth()}}, repository, tmp_path) == Credentials("me", "secret")


@pytest.mark.parametrize(
    ("key", "repository"),
    [
        ("quay.io", "quay.io:5000/a"),
        ("quay.io:5000", "quay.io/a"),
        ("quay.io/a", "quay.io/ab"),
        ("quay.io/a/b", "quay.io/a"),
        ("evilquay.io", "quay.io/a"),
        ("quay.io.evil.com", "quay.io/a"),
        ("quay.io@evil.com", "quay.io/a"),
        ("", "quay.io/a"),
        ("https://", "quay.io/a"),
        ("docker.io", "quay.io/docker.io"),
    ],
)
def test_a_key_is_not_for_another(tmp_path: Path, key: str, repository: str) -> None:
    assert given({"auths": {key: auth()}}, repository, tmp_path) is None


def test_the_most_specific_key_counts_and_tells_the_logins_apart(home: Path) -> None:
    keys = ("quay.io", "quay.io/a", "quay.io/a/b")
    write(home / ".docker/config.json", {"auths": {key: auth(key) for key in keys}})
    config = DockerConfig(EVERYWHERE)

    def key(name: str) -> str:
        one = config.find(Login(), Repository.parse(name))
        assert one is not None
        assert config.find(Login(), Repository.parse(name)) is one
        assert one.key.endswith(f": {one.source.get().username}")
        return one.source.get().username or ""

    assert [key(one) for one in ("quay.io/a/b/c", "quay.io/a/b", "quay.io/a/c", "quay.io/b")] == [
        "quay.io/a/b",
        "quay.io/a/b",
        "quay.io/a",
        "quay.io",
    ]


# What an entry says


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (auth("me", "a:b:c"), Credentials("me", "a:b:c")),
        (auth("me", "secret\0\0"), Credentials("me", "secret")),
        (auth("mé", "sécret"), Credentials("mé", "sécret")),
        ({"auth": "bWU6c2VjcmV0MQ"}, Credentials("me", "secret1")),
        ({"auth": " bWU6c2Vj\ncmV0MQ== "}, Credentials("me", "secret1")),
        ({"username": "me", "password": "secret"}, Credentials("me", "secret")),
        ({**auth(), "username": "other", "password": "other"}, Credentials("me", "secret")),
        ({**auth("0-0-0", ""), "identitytoken": "id"}, Credentials("0-0-0", None, "id")),
        ({"identitytoken": "id"}, Credentials(identity_token="id")),
        ({"registrytoken": "t0k.en"}, Credentials(registry_token="t0k.en")),
        ({**auth(), "email": "a@b.c", "x": 1}, Credentials("me", "secret")),
        ({}, None),
        ({"email": "a@b.c"}, None),
        ({"auth": "", "username": None}, None),
        (None, None),
    ],
)
def test_an_entry_is_read(tmp_path: Path, entry: object, expected: Credentials | None) -> None:
    assert given({"auths": {"quay.io": entry}}, "quay.io/a", tmp_path) == expected


BROKEN = "log in to this registry again"


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ("{hunter22", r"is no JSON \(line 1\); expected a configuration of Docker"),
        ('{"auths": {\n"quay.io": hunter22}}', r"is no JSON \(line 2\)"),
        ('["hunter22"]', "is no JSON object"),
        ("[" * 100_000, "is no JSON"),
        ({"auths": "hunter22"}, "auths is no JSON object"),
        ({"auths": {}, "credHelpers": ["hunter22"]}, "credHelpers is no JSON object"),
        ({"auths": {"quay.io": "hunter22"}}, r"given\.json: 'quay\.io' is no JSON object"),
        ({"auths": {"quay.io": {"auth": "hunter22"}}}, rf"'quay\.io': auth is not base64 of user:password; {BROKEN}"),
        ({"auths": {"quay.io": {"auth": "aHVudGVyMjI="}}}, "auth is not base64 of user:password"),
        ({"auths": {"quay.io": {"auth": "hun#ter22"}}}, "auth is not base64"),
        ({"auths": {"quay.io": {"auth": "/zpodW50ZXIyMg=="}}}, "auth is not base64"),
        ({"auths": {"quay.io": {"auth": ["hunter22"]}}}, rf"'quay\.io': auth is no text; {BROKEN}"),
        ({"auths": {"quay.io": {"identitytoken": {"hunter22": 1}}}}, "identitytoken is no text"),
        ({"credHelpers": {"quay.io": ["hunter22"]}}, "expected the name of a credential helper as a text"),
        ({"credHelpers": {"quay.io": "../../bin/sh"}}, "names the credential helper .*; expected letters, digits"),
    ],
)
def test_what_is_broken_is_named_without_what_is_in_it(tmp_path: Path, document: object, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        given(document, "quay.io/a", tmp_path, helpers=True)
    assert "hunter22" not in str(caught.value)
    assert str(tmp_path / "given.json") in str(caught.value)
    assert caught.value.__cause__ is None
    assert "\n" not in str(caught.value)


def test_a_broken_entry_spoils_no_other(tmp_path: Path) -> None:
    document = {"auths": {"quay.io": {"auth": 7}, "ghcr.io": auth(), "not a registry": 7}}
    assert given(document, "ghcr.io/a", tmp_path) == Credentials("me", "secret")


def test_a_file_that_is_too_large_or_must_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="has more than 4194304 bytes"):
        given(" " * 5_000_000, "quay.io/a", tmp_path)

    def refused(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refused)
    with pytest.raises(ConfigError, match=r"given\.json can't be read \(Permission denied\); check its owner"):
        found("quay.io/a", DockerLogins(everywhere=True, path=str(tmp_path / "given.json")))


def test_secrets_are_in_nothing_that_is_printed(home: Path) -> None:
    write(home / ".docker/config.json", {"auths": {"quay.io": {**auth("me", "hunter22"), "registrytoken": "hunter23"}}})
    config = DockerConfig(EVERYWHERE)
    one = config.find(Login(), Repository.parse("quay.io/a"))
    assert one is not None
    one.source.get()
    assert "hunter" not in f"{config!r} {vars(config)!r} {one!r} {one.source.get()!r}"


def test_all_that_is_found_is_told_to_who_keeps_it_out_of_logs(home: Path) -> None:
    seen: list[Credentials] = []
    write(home / ".docker/config.json", {"auths": {"quay.io": auth()}})
    one = DockerConfig(DockerLogins(everywhere=True, seen=seen.append)).find(Login(), Repository.parse("quay.io/a"))
    assert one is not None
    assert seen == []
    for _ in range(3):
        one.source.get()
    assert seen == [Credentials("me", "secret")]


def test_renewing_reads_the_file_again(home: Path) -> None:
    path = write(home / ".docker/config.json", {"auths": {"quay.io": auth("me", "one")}})
    one = DockerConfig(EVERYWHERE).find(Login(), Repository.parse("quay.io/a"))
    assert one is not None
    assert one.source.get().password == "one"
    write(path, {"auths": {"quay.io": auth("me", "two")}})
    assert one.source.get().password == "one"
    assert one.source.get(renew=True).password == "two"
    assert one.source.get().password == "two"
    write(path, {})
    assert not one.source.get(renew=True)


# Helpers


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HelperProgram:
    program = HelperProgram.on_path(tmp_path / "bin", monkeypatch)
    servers = ("quay.io", "https://quay.io/v1/", "https://index.docker.io/v1/", "quay.io/a", "stored.io")
    program.logins = dict.fromkeys(servers, ("helped", "secret"))
    return program


HELPED = Credentials("helped", "secret")


@pytest.mark.parametrize(
    ("document", "repository", "expected", "asked"),
    [
        ({"credHelpers": {"quay.io": "fake"}}, "quay.io/a", HELPED, "quay.io"),
        ({"credHelpers": {"quay.io": "fake"}, "auths": {"quay.io": auth()}}, "quay.io/a", HELPED, "quay.io"),
        ({"credHelpers": {"quay.io": "fake"}, "auths": {"quay.io/a": auth()}}, "quay.io/a", ("me", "secret"), None),
        ({"credHelpers": {"quay.io/a": "fake"}, "auths": {"quay.io": auth()}}, "quay.io/a", HELPED, "quay.io/a"),
        ({"credHelpers": {"https://quay.io/v1/": "fake"}}, "quay.io/a", HELPED, "https://quay.io/v1/"),
        ({"credHelpers": {"docker.io": "fake"}}, "nginx", HELPED, "https://index.docker.io/v1/"),
        ({"credHelpers": {"ghcr.io": "fake"}}, "quay.io/a", None, None),
        ({"credHelpers": {"quay.io": ""}, "credsStore": "fake", "auths": {"quay.io": auth()}}, "quay.io/a",
         ("me", "secret"), None),
        ({"credsStore": "fake", "auths": {"https://quay.io/v1/": {}}}, "quay.io/a", HELPED, "https://quay.io/v1/"),
        ({"credsStore": "fake", "auths": {"quay.io": {"email": "a@b.c"}}}, "quay.io/a", HELPED, "quay.io"),
        ({"credsStore": "fake", "auths": {"quay.io": auth()}}, "quay.io/a", ("me", "secret"), None),
        ({"credsStore": "fake"}, "stored.io/a", HELPED, "stored.io"),
        ({"credsStore": "fake"}, "nginx", HELPED, "https://index.docker.io/v1/"),
        ({"credsStore": "fake"}, "unknown.io/a", (), "unknown.io"),
    ],
)  # fmt: skip
def test_a_helper_is_asked_as_docker_asks_it(
    helper: HelperProgram,
    tmp_path: Path,
    document: object,
    repository: str,
    expected: Credentials | tuple[str, ...] | None,
    asked: str | None,
) -> None:
    one = given(document, repository, tmp_path, helpers=True)
    assert one == (Credentials(*expected) if isinstance(expected, tuple) else expected)
    assert helper.asked == ([f"get {asked}"] if asked is not None else [])


def test_repositories_that_share_a_helper_run_it_once(home: Path, helper: HelperProgram) -> None:
    write(home / ".docker/config.json", {"credHelpers": {"quay.io": "fake"}})
    config = DockerConfig(DockerLogins(everywhere=True, helpers=True))
    for name in ("quay.io/a", "quay.io/b"):
        one = config.find(Login(), Repository.parse(name))
        assert one is not None
        assert one.source.get() == HELPED
    assert len(helper.asked) == 1


@pytest.mark.parametrize(
    "document", [{"credHelpers": {"quay.io": "fake"}}, {"credsStore": "fake", "auths": {"quay.io": {}}}]
)
def test_no_helper_is_run_unless_that_is_allowed(helper: HelperProgram, tmp_path: Path, document: object) -> None:
    path = write(tmp_path / "given.json", document)
    one = DockerConfig(DockerLogins(everywhere=True, path=str(path))).find(Login(), Repository.parse("quay.io/a"))
    # Found, as a registry that asks for no login is no reason to fail.
    assert one is not None
    with pytest.raises(ConfigError) as caught:
        one.source.get()
    assert str(caught.value) == (
        f"{path} has the login for 'quay.io' in docker-credential-fake, a program that is not run unless it is "
        "allowed; set credential_helpers: true under defaults, or --credential-helpers"
    )
    assert helper.asked == []


def test_a_store_that_the_file_does_not_mention_for_a_registry_is_not_missed(
    helper: HelperProgram, tmp_path: Path
) -> None:
    assert given({"credsStore": "fake"}, "stored.io/a", tmp_path) is None
    assert helper.asked == []
