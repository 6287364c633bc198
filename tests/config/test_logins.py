from __future__ import annotations

from pathlib import Path

import pytest

from airflow_imagesync.config import load_config, parse_config, read_config, read_text
from airflow_imagesync.domain.login import Login
from airflow_imagesync.domain.reference import Repository
from airflow_imagesync.errors import ConfigError

ENVIRON = {"NAME": "robot", "PASSWORD": "s3cret-value", "EMPTY": ""}
RULES = "rules: [{source: a.io/a, destination: b.io/b}]"


def logins(registries: str) -> dict[str | None, Login]:
    config = parse_config(f"registries: {registries}\n{RULES}", environ=ENVIRON)
    return {login.key: login for login in config.logins}


def problems(registries: str) -> list[tuple[str | None, str]]:
    result = read_text(f"registries: {registries}\n{RULES}", environ=ENVIRON)
    return [(problem.field, problem.message) for problem in result.problems]


def warnings(registries: str) -> list[str]:
    config = parse_config(f"registries: {registries}\n{RULES}", environ=ENVIRON)
    return [warning for warning in config.warnings if "no rule uses" not in warning]


def test_every_setting() -> None:
    found = logins(
        """
  one.io: {username: "${NAME}", password: $PASSWORD}
  two.io: {conn_id: two}
  three.io: {identitytoken: token, x-owner: me}
  four.io:5000: {insecure: true, max_concurrent: 4}
  five.io: {tls_verify: false, token_realm_hosts: [Auth.Five.io, "auth.five.io:8443", auth.five.io]}
  six.io:
"""
    )
    assert list(found.values()) == [
        Login("one.io", "one.io", username="robot", password="s3cret-value"),
        Login("two.io", "two.io", conn_id="two"),
        Login("three.io", "three.io", identity_token="token"),
        Login("four.io:5000", "four.io:5000", insecure=True, max_concurrent=4),
        Login("five.io", "five.io", tls_verify=False, token_realm_hosts=("auth.five.io", "auth.five.io:8443")),
        Login("six.io", "six.io"),
    ]
    assert found["one.io"].password == "s3cret-value"
    assert found["three.io"].identity_token == "token"


@pytest.mark.parametrize(
    ("key", "registry", "namespace"),
    [
        ("quay.io", "quay.io", ""),
        ("Quay.io/a", "quay.io", "a"),
        ("quay.io/a/b/c", "quay.io", "a/b/c"),
        ("quay.io/a/", "quay.io", "a"),
        ("quay.io/", "quay.io", ""),
        ("docker.io/library", "docker.io", "library"),
        ("registry.hub.docker.com", "docker.io", ""),
        ("localhost/a", "localhost", "a"),
        ("registry", "registry", ""),
        ("registry/a", "registry", "a"),
        ("10.0.0.5:5000/a", "10.0.0.5:5000", "a"),
        ("[::1]:5000/a", "[::1]:5000", "a"),
    ],
)
def test_key(key: str, registry: str, namespace: str) -> None:
    (login,) = logins(f'{{"{key}": {{}}}}').values()
    assert (login.key, login.registry, login.namespace) == (key, registry, namespace)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("https://quay.io", "begins with 'https://'; write it without: 'quay.io'"),
        ("https://index.docker.io/v1/", "expected docker.io"),
        ("quay.io:x", "is not a registry; expected host, host:port or"),
        ("", "is not a registry"),
        ("quay.io/A", "is not a repository"),
        ("quay.io/a:tag", "is not a repository"),
        ("quay.io//a", "is not a repository"),
    ],
)
def test_bad_key(key: str, message: str) -> None:
    ((field, found),) = problems(f'{{"{key}": {{}}}}')
    assert field == (f"registries.{key}" if key else "registries")
    assert message in found


def test_key_that_is_no_text() -> None:
    assert problems("{5000: {}}") == [
        (
            "registries",
            "found the number 5000 as a key, expected registry or registry/namespace; put it in quotes",
        )
    ]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("docker.io", "index.docker.io"),
        ("registry.hub.docker.com", "registry-1.docker.io"),
        ("quay.io", "QUAY.io"),
        ("quay.io/a", "quay.io/a/"),
        ("quay.io", "quay.io"),
    ],
)
def test_two_keys_for_the_same_are_a_mistake(first: str, second: str) -> None:
    assert problems(f'{{"{first}": {{}}, "{second}": {{}}}}') == [
        (f"registries.{second}", f"the key means the same as '{first}'; expected one entry for both")
    ]


@pytest.mark.parametrize(
    ("entry", "field", "message"),
    [
        ("text", None, "found the text 'text', expected a mapping with conn_id, username"),
        ("{passwrd: s3cret}", "passwrd", "unknown key 'passwrd'; did you mean 'password'?"),
        ("{Username: s3cret}", "Username", "unknown key 'Username'; did you mean 'username'?"),
        ("{foo: s3cret}", "foo", "unknown key 'foo'; expected conn_id, username, password, identitytoken"),
        ("{1: s3cret}", None, "found the number 1 as a key"),
        ("{password: 12345, username: u}", "password", "found a number, expected a text; put it in quotes"),
        ("{username: no, password: p}", "username", "found a truth value, expected a text; put it in quotes"),
        ("{password: [s3cret], username: u}", "password", "found a list, expected a text"),
        ("{password: {s3cret: 1}, username: u}", "password", "found a mapping, expected a text"),
        ("{password: 2024-01-01, username: u}", "password", "found a date, expected a text; put it in quotes"),
        ("{username: a, username: b}", "username", "the key 'username' is there twice; expected once"),
        ('{insecure: "true"}', "insecure", "found the text 'true', expected true or false"),
        ("{insecure: 1}", "insecure", "found the number 1, expected true or false"),
        ("{max_concurrent: 0}", "max_concurrent", "found the number 0, expected a whole number of at least 1"),
        ("{max_concurrent: 1.5}", "max_concurrent", "expected a whole number of at least 1"),
        ("{max_concurrent: true}", "max_concurrent", "found the truth value true, expected a whole number"),
        ("{token_realm_hosts: a.io}", "token_realm_hosts", "found the text 'a.io', expected a list of texts"),
        ("{token_realm_hosts: [1]}", "token_realm_hosts", "found the number 1 at position 0, expected a text"),
        ("{token_realm_hosts: [a/b]}", "token_realm_hosts", "'a/b' is not a host; expected host, host:port"),
        ("{token_realm_hosts: ['https://a.io']}", "token_realm_hosts", "write it without: 'a.io'"),
        ('{conn_id: ""}', "conn_id", "found the text '', expected a text that is not empty"),
        ("{conn_id: c, username: u, password: p}", "conn_id", "conn_id stands beside username and password"),
        ("{conn_id: c, identitytoken: t}", "conn_id", "expected either a connection or a login"),
        ("{password: p, identitytoken: t}", "identitytoken", "identitytoken stands beside password"),
        ("{username: u, password: $UNSET}", "password", "the environment variable 'UNSET' is not set"),
        ("{ca_file: ca.pem}", "ca_file", "found 'ca.pem', expected an absolute path in a text without file"),
    ],
)
def test_bad_entry(entry: str, field: str | None, message: str) -> None:
    ((found_field, found),) = problems(f"{{q.io/a: {entry}}}")
    assert found_field == ("registries.q.io/a" + (f".{field}" if field else ""))
    assert message in found
    assert "s3cret" not in found


def test_every_mistake_of_an_entry_is_told() -> None:
    found = problems("{'https://q.io': {username: 1, pasword: x, insecure: 'no'}}")
    assert [field for field, _ in found] == [
        "registries.https://q.io",
        "registries.https://q.io.username",
        "registries.https://q.io.insecure",
        "registries.https://q.io.pasword",
    ]


def test_passwords_in_keys_are_not_shown() -> None:
    result = read_text(
        '{"auth": {"https://u:s3cret@q.io": {"username": "u", "x": 1}, "u:s3cret@q.io": 1}, "images": {"a": "b.io/b"}}',
        environ={},
    )
    assert len(result.problems) == 4
    assert "s3cret" not in str(result)


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("{username: u}", "registries.a.io: there is a username but no password"),
        ("{password: p}", "registries.a.io: there is a password but no username"),
        ("{username: u, password: $EMPTY}", "registries.a.io.password: the environment variable for it is empty"),
        (
            "{insecure: true, tls_verify: false}",
            "registries.a.io: tls_verify has no effect, as insecure means plain HTTP",
        ),
        (
            "{insecure: true, ca_file: /dev/null}",
            "registries.a.io: ca_file has no effect, as insecure means plain HTTP",
        ),
        ("{tls_verify: false, ca_file: /dev/null}", "registries.a.io: ca_file has no effect, as tls_verify is false"),
    ],
)
def test_doubtful_entry(entry: str, expected: str) -> None:
    assert warnings(f"{{a.io: {entry}}}") == [expected]


@pytest.mark.parametrize(
    "entry",
    ["{username: u, password: p}", "{identitytoken: t}", "{username: u, identitytoken: t}", "{conn_id: c}", ""],
)
def test_good_entry_gives_no_warning(entry: str) -> None:
    assert warnings(f"{{a.io: {entry}}}") == []


def test_longer_keys_inherit_how_a_registry_is_reached_and_not_who_goes_there() -> None:
    found = logins(
        """
  q.io/a/b: {username: deep, password: p}
  q.io: {insecure: true, max_concurrent: 4, token_realm_hosts: [t.io], username: top, password: p}
  q.io/a: {max_concurrent: 2}
  q.io/ab: {insecure: false}
  other.io/a: {}
"""
    )
    assert [(one.insecure, one.max_concurrent, one.token_realm_hosts, one.username) for one in found.values()] == [
        (True, 2, ("t.io",), "deep"),
        (True, 4, ("t.io",), "top"),
        (True, 2, ("t.io",), None),
        (False, 4, ("t.io",), None),
        (False, None, (), None),
    ]
    assert list(found) == ["q.io/a/b", "q.io", "q.io/a", "q.io/ab", "other.io/a"]


def test_longest_key_is_found_whatever_the_order() -> None:
    config = parse_config(
        """
auth: {q.io/a/b: {}, q.io: {}, q.io/a: {}}
images: {q.io/a/b/c: x.io/x}
""",
        environ={},
    )
    for name, key in (("q.io/a/b/c", "q.io/a/b"), ("q.io/a/bc", "q.io/a"), ("q.io/ab", "q.io")):
        login = config.login_for(Repository.parse(name))
        assert login is not None
        assert login.key == key


def test_ca_file_is_relative_to_the_file_that_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "conf"
    folder.mkdir()
    (folder / "ca.pem").touch()
    (folder / "c.yaml").write_text(f"registries: {{q.io: {{ca_file: ca.pem}}}}\n{RULES}")
    (login,) = load_config(folder / "c.yaml", environ={}).logins
    assert login.ca_file == str(folder / "ca.pem")
    monkeypatch.chdir(tmp_path)
    (login,) = load_config("conf/c.yaml", environ={}).logins
    assert login.ca_file == str(folder / "ca.pem")
    (tmp_path / "images.yaml").write_text("a.io/a: b.io/b")
    (folder / "auth.yaml").write_text("q.io: {ca_file: ca.pem}")
    (login,) = load_config(auth="conf/auth.yaml", images="images.yaml", environ={}).logins
    assert login.ca_file == str(folder / "ca.pem")


def test_ca_file_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(f"registries: {{q.io: {{ca_file: ca.pem}}, r.io: {{ca_file: /}}}}\n{RULES}")
    result = read_config(path, environ={})
    assert [(one.field, one.file) for one in result.problems] == [
        ("registries.q.io.ca_file", str(path)),
        ("registries.r.io.ca_file", str(path)),
    ]
    missing, folder = result.problems
    assert missing.message == (
        f"'{tmp_path}/ca.pem' can't be read (No such file or directory); expected CA certificates (PEM)"
    )
    assert "Is a directory" in folder.message


def test_values_of_variables_never_appear(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(
        "auth: {q.io: {username: $NAME, password: $PASSWORD, identitytoken: $PASSWORD, insecure: x}}\nimages: {}"
    )
    with pytest.raises(ConfigError) as caught:
        load_config(path, environ=ENVIRON)
    assert "s3cret" not in str(caught.value) + repr(read_config(path, environ=ENVIRON))


def test_settings_of_how_a_registry_is_reached(tmp_path: Path) -> None:
    (tmp_path / "tls.pem").touch()
    found = logins(
        f"""
  q.io: {{client_cert: {tmp_path}/tls.pem, proxy: "http://me:$x@proxy.test:3128", requests_per_second: 2.5}}
  q.io/a: {{client_cert: {tmp_path}/tls.pem, client_key: {tmp_path}/tls.pem, min_remaining: 0, proxy: environment}}
  r.io: {{docker_config: true, allow_cross_host_upload: true, create_repositories: true, min_remaining: 10}}
"""
    )
    q, a, r = found.values()
    assert (q.client_cert, q.client_key, q.proxy) == (f"{tmp_path}/tls.pem", None, "http://me:$x@proxy.test:3128")
    assert (a.client_key, a.proxy, a.requests_per_second) == (f"{tmp_path}/tls.pem", "environment", 2.5)
    assert (r.docker_config, r.allow_cross_host_upload, r.create_repositories, r.min_remaining) == (
        True,
        True,
        True,
        10,
    )
    assert q.stated == {"client_cert", "proxy", "requests_per_second"}
    assert a.stated == {"client_cert", "client_key", "proxy", "min_remaining", "requests_per_second"}
    assert "$x" not in repr(q)


def test_a_certificate_of_its_own_does_not_get_the_key_of_a_shorter_entry(tmp_path: Path) -> None:
    (tmp_path / "tls.pem").touch()
    found = logins(
        f"""
  q.io: {{client_cert: {tmp_path}/tls.pem, client_key: {tmp_path}/tls.pem}}
  q.io/a: {{client_cert: {tmp_path}/tls.pem}}
  q.io/b: {{max_concurrent: 1}}
"""
    )
    assert [one.client_key for one in found.values()] == [f"{tmp_path}/tls.pem", None, f"{tmp_path}/tls.pem"]


def test_dockers_login_is_not_inherited() -> None:
    """Who goes there is a choice."""
    assert [one.docker_config for one in logins("{q.io: {docker_config: true}, q.io/a: {}}").values()] == [True, None]


@pytest.mark.parametrize(
    ("entry", "field", "message"),
    [
        ("{client_key: /dev/null}", "client_key", "client_key stands without client_cert; expected both"),
        ("{client_cert: tls.pem}", "client_cert", "expected an absolute path in a text without file"),
        ("{client_cert: /gone/tls.pem}", "client_cert", "can't be read (No such file or directory); expected a cert"),
        ("{client_cert: /, client_key: /gone.pem}", "client_key", "expected a private key (PEM)"),
        ("{docker_config: true, username: u, password: p}", "docker_config", "docker_config stands beside a login"),
        ("{docker_config: true, conn_id: c}", "docker_config", "docker_config stands beside a login"),
        ("{docker_config: maybe}", "docker_config", "expected true or false"),
        ("{proxy: 's3cret@proxy'}", "proxy", "this is no address of a proxy; expected http://host:port"),
        ("{proxy: 'socks5://u:s3cret@proxy:1080'}", "proxy", "this is no address of a proxy"),
        ("{proxy: $PASSWORD}", "proxy", "this is no address of a proxy"),
        ("{proxy: $GONE}", "proxy", "the environment variable 'GONE' is not set"),
        ("{requests_per_second: 0}", "requests_per_second", "expected"),
        ("{requests_per_second: .inf}", "requests_per_second", "expected"),
        ("{min_remaining: -1}", "min_remaining", "expected"),
    ],
)
def test_bad_settings_of_how_a_registry_is_reached(entry: str, field: str, message: str) -> None:
    found = dict(problems(f"{{q.io: {entry}}}"))
    assert message in found[f"registries.q.io.{field}"]
    assert "s3cret" not in str(found)


@pytest.mark.parametrize("setting", ["ca_file", "client_cert"])
def test_certificates_without_tls_are_doubtful(setting: str) -> None:
    assert warnings(f"{{a.io: {{insecure: true, {setting}: /dev/null}}}}") == [
        f"registries.a.io: {setting} has no effect, as insecure means plain HTTP"
    ]
