from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from airflow_imagesync import config as door
from airflow_imagesync.config import (
    Overrides,
    ParsedSyntax,
    check_syntax,
    load_config,
    parse_config,
    read_config,
    read_text,
)
from airflow_imagesync.domain.platform import Platform
from airflow_imagesync.domain.rules import SyncConfig
from airflow_imagesync.errors import ConfigError, Problem

DATA = Path(__file__).parent.parent / "data"
ENVIRON = {
    "QUAY_PASSWORD": "secret-1",
    "REG_TOKEN": "secret-2",
    "REG_USER": "user",
    "REG_PASSWORD": "secret-3",
    "SECOND_REGISTRY": "second.example.com",
}
EITHER = "expected either registries and rules, or auth and images"
DIGEST = "sha256:" + "0123456789abcdef" * 4


def labels(config: SyncConfig) -> list[str]:
    return [rule.label for rule in config.rules]


def told(text: str, **variables: str) -> list[str]:
    return [str(problem) for problem in read_text(text, environ=variables).problems]


def test_every_public_name_is_there() -> None:
    assert all(hasattr(door, name) for name in door.__all__)


def test_image_syncers_one_file() -> None:
    config = load_config(DATA / "image-syncer.json", environ={})
    assert labels(config) == [
        "quay.io/coreos/etcd:v3.5.0,v3.5.1 -> 10.0.0.5:5000/mirror/etcd",
        r"quay.io/prometheus/node-exporter:/^v1\.[0-9]+/ -> 10.0.0.5:5000/mirror/node-exporter",
        "docker.io/library/nginx -> 10.0.0.5:5000/mirror/nginx",
        "docker.io/library/nginx -> 10.0.0.5:5000/copies/nginx",
        "quay.io/coreos/flannel:v0.1,v0.2 -> 10.0.0.5:5000/mirror/flannel, 10.0.0.5:5000/mirror/flannel",
    ]
    assert [(login.registry, login.namespace, login.password) for login in config.logins] == [
        ("quay.io", "", "secret-1"),
        ("quay.io", "coreos", "secret-2"),
        ("docker.io", "", "secret//not a comment"),
        ("10.0.0.5:5000", "", None),
    ]
    assert config.logins[3].insecure
    assert config.warnings == ()


def test_image_syncers_pair() -> None:
    config = load_config(auth=DATA / "auth.yaml", images=DATA / "images.yaml", environ=ENVIRON)
    assert labels(config) == [
        "quay.io/coreos/etcd:v3.5.0 -> registry.example.com/team/etcd",
        "docker.io/library/busybox:1.36 -> registry.example.com/team/busybox, second.example.com/team/busybox",
        "docker.io/library/busybox:1.36 -> registry.example.com/team/busybox",
    ]
    assert [(one.username, one.password, one.identity_token) for one in config.logins] == [
        ("robot", "secret-1", None),
        ("hub", "pa$$word", None),
        (None, None, "secret-2"),
    ]
    assert config.warnings == ()


def test_native() -> None:
    config = load_config(DATA / "native.yaml", environ=ENVIRON)
    assert labels(config) == [
        "quay.io/coreos/etcd:v3.5.0,v3.5.1 -> registry.example.com/team/etcd",
        "docker.io/library/nginx -> registry.example.com/team/mirror/nginx, 10.0.0.5:5000/library/nginx",
        f"quay.io/coreos/flannel@{DIGEST} -> registry.example.com/team/flannel",
    ]
    assert [(rule.platforms, rule.allow_empty, rule.force) for rule in config.rules] == [
        ((Platform("linux", "amd64"),), True, False),
        ((Platform("linux", "amd64"), Platform("linux", "arm64")), False, True),
        ((), False, False),
    ]
    assert (config.concurrency, config.retries) == (16, 5)
    quay, _, team, plain = config.logins
    assert (quay.conn_id, plain.insecure) == ("quay", True)
    assert (team.username, team.password, team.max_concurrent) == ("user", "secret-3", 4)
    assert (team.ca_file, team.token_realm_hosts) == (str(DATA / "ca.pem"), ("auth.example.com",))
    assert config.warnings == ()


def test_images_need_no_auth() -> None:
    config = load_config(images=str(DATA / "images.yaml"), environ=ENVIRON)
    assert (len(config.rules), config.logins) == (3, ())


def test_the_environment_of_the_process_is_used_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGESYNC_TEST_HOST", "h.io")
    assert labels(parse_config("$IMAGESYNC_TEST_HOST/a: b.io/b")) == ["h.io/a -> b.io/b"]
    monkeypatch.delenv("IMAGESYNC_TEST_HOST")
    with pytest.raises(ConfigError, match="'IMAGESYNC_TEST_HOST' is not set"):
        parse_config("$IMAGESYNC_TEST_HOST/a: b.io/b")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("nginx: b.io/b", ["docker.io/library/nginx -> b.io/b"], id="images in YAML"),
        pytest.param('{"nginx": ["b.io/b"]}', ["docker.io/library/nginx -> b.io/b"], id="images in JSON"),
        pytest.param("{nginx: b.io/b}", ["docker.io/library/nginx -> b.io/b"], id="images in YAML's other style"),
        pytest.param(
            "defaults: {registry: d.io, namespace: n}\nnginx: ''\nnginx: b.io/b",
            ["docker.io/library/nginx -> d.io/n/nginx", "docker.io/library/nginx -> b.io/b"],
            id="images and defaults",
        ),
        pytest.param("x-b: &b [b.io/b]\nnginx: *b", ["docker.io/library/nginx -> b.io/b"], id="images and anchor"),
        pytest.param("x-me/app: b.io/b", ["docker.io/x-me/app -> b.io/b"], id="image that begins with x-"),
        pytest.param("defaults: b.io/b", ["docker.io/library/defaults -> b.io/b"], id="image called defaults"),
        pytest.param("images: {a.io/a: b.io/b}", ["a.io/a -> b.io/b"], id="one file"),
        pytest.param("auth:\nimages: {a.io/a: b.io/b}\ndefaults:", ["a.io/a -> b.io/b"], id="empty parts"),
        pytest.param("rules: [{source: a.io/a, destination: b.io/b}]", ["a.io/a -> b.io/b"], id="native"),
        pytest.param(
            "x-1: &r {source: a.io/a}\nrules:\n- {<<: *r, destination: b.io/b}\n- {<<: *r, destination: c.io/c}",
            ["a.io/a -> b.io/b", "a.io/a -> c.io/c"],
            id="native with anchors",
        ),
    ],
)
def test_text(text: str, expected: list[str]) -> None:
    assert labels(parse_config(text, environ={})) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("[]", ["found no rules, expected at least one"], id="list"),
        pytest.param(
            "'text'", ["found the text 'text', expected a mapping with rules, or with auth and images"], id="text"
        ),
        pytest.param("{}", ["found no rules, expected at least one"], id="nothing"),
        pytest.param("rules: []", ["rules: found no rules, expected at least one"], id="no rules"),
        pytest.param("rules:", ["rules: found no rules, expected at least one"], id="rules are null"),
        pytest.param("images: {}", ["images: found no rules, expected at least one"], id="no images"),
        pytest.param("auth: {}", ["images: found no rules, expected at least one"], id="auth only"),
        pytest.param("registries: {}", ["rules: found no rules, expected at least one"], id="registries only"),
        pytest.param("defaults: {}", ["found no rules, expected at least one"], id="defaults only"),
        pytest.param("rules: {a: b}", ["rules: found a mapping, expected a list of rules"], id="rules as mapping"),
        pytest.param("images: [a]", ["images: found a list, expected a mapping"], id="images as list"),
        pytest.param(
            "registries: []\nrules: [{source: a, destination: b.io/b}]",
            ["line 1, registries: found an empty list, expected a mapping"],
            id="registries as list",
        ),
        pytest.param("rulez: [{source: a}]", ["rulez: unknown key 'rulez'; did you mean 'rules'?"], id="misspelt"),
        pytest.param(
            "rules: [{source: a, destination: b.io/b}]\nfoo: 1",
            ["line 2, foo: unknown key 'foo'; expected registries, rules, defaults, auth or images"],
            id="unknown",
        ),
        pytest.param(
            "rules: [{source: a, destination: b.io/b}]\n1: 1",
            ["found the number 1 as a key, expected registries, rules, defaults, auth or images"],
            id="number as key",
        ),
        pytest.param(
            "images: {a: b.io/b}\nimages: {a: b.io/c}",
            ["line 2, images: the key 'images' is there twice; expected once"],
            id="twice",
        ),
        pytest.param(
            "images: {}\nrules: []",
            [f"line 1, images: 'images' and 'rules' stand in one file; {EITHER}"],
            id="both spellings",
        ),
        pytest.param(
            "auth: {}\nrules: [{source: a, destination: b.io/b}]",
            [f"line 1, auth: 'auth' and 'rules' stand in one file; {EITHER}"],
            id="auth with rules",
        ),
        pytest.param(
            "defaults: {}\ndefaults: {}\na: b.io/b",
            ["line 2, defaults: the key 'defaults' is there twice; expected once"],
            id="defaults twice",
        ),
        pytest.param(
            "1.5: b.io/b",
            ["rule 0, source: found the number 1.5, expected a text; put it in quotes"],
            id="number as source",
        ),
        pytest.param(
            "a: {b: c}", ["rule 0, destination: found a mapping, expected a text or a list of texts"], id="mapping"
        ),
    ],
)
def test_wrong_shape(text: str, expected: list[str]) -> None:
    assert told(text) == expected


def test_a_configuration_file_may_not_be_images_alone(tmp_path: Path) -> None:
    path = tmp_path / "images.yaml"
    path.write_text("a.io/a: b.io/b\nc.io/c: d.io/d")
    with pytest.raises(ConfigError, match=r"image-syncer's pair of files is given as auth file"):
        load_config(path)


@pytest.mark.parametrize(
    ("auth", "images", "expected"),
    [
        ("[]", "a.io/a: b.io/b", "{auth}: found an empty list, expected a mapping of registries to their logins"),
        ("a.io: {}", "[]", "{images}: found an empty list, expected a mapping of sources to destinations"),
        ("a.io: {}", "{}", "{images}: found no rules, expected at least one"),
        ("a.io: {}", "x-a: {}", "{images}: found no rules, expected at least one"),
        ("x-a: 1", "images: {a.io/a: b.io/b}", "{images}: this looks like a whole configuration"),
        ("a.io: {foo: 1}", "a.io/a: b.io/b", "{auth}, auth.a.io.foo: unknown key 'foo'"),
        ("a.io: {}", "a.io/a: b.io/b\na.io/A: b.io/b", "{images}, rule 1, source: "),
        ("a.io: {}", "defaults: {retries: x}\na.io/a: b.io/b", "{images}, defaults.retries: "),
    ],
)
def test_wrong_pair(tmp_path: Path, auth: str, images: str, expected: str) -> None:
    paths = {"auth": tmp_path / "auth.yaml", "images": tmp_path / "images.yaml"}
    paths["auth"].write_text(auth)
    paths["images"].write_text(images)
    (problem,) = read_config(auth=paths["auth"], images=paths["images"], environ={}).problems
    assert str(problem).startswith(expected.format(**paths))


def test_both_files_of_a_pair_are_looked_at(tmp_path: Path) -> None:
    (tmp_path / "images.json").write_text("{")
    result = read_config(auth=tmp_path / "auth.json", images=tmp_path / "images.json", environ={})
    assert [(problem.file, problem.message.partition(":")[0]) for problem in result.problems] == [
        (f"{tmp_path}/auth.json", "there is no such file; check the path, and that it is on this machine"),
        (f"{tmp_path}/images.json", "line 1, column 2"),
    ]


@pytest.mark.parametrize(
    "files",
    [{}, {"auth": "a"}, {"config": "c", "images": "i"}, {"config": "c", "auth": "a"}],
    ids=["nothing", "auth alone", "config and images", "config and auth"],
)
def test_files_that_do_not_go_together(files: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"^found .* expected one file, or"):
        load_config(**files, environ={})  # type: ignore[arg-type]


def test_paths_are_told_as_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yaml").write_text("rules: [{source: a}]")
    for name in ("./c.yaml", f"{tmp_path}/../{tmp_path.name}/c.yaml", "missing.yaml"):
        (problem,) = read_config(name, environ={}).problems
        assert problem.file == name


def test_all_problems_are_raised_at_once_with_their_places(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(
        """
registries: {q.io: {passwd: s3cret}}
defaults: {retries: 99}
rules:
- {source: a.io/a, destination: b.io/b}
- {source: a.io/a, destination: "b.io/b:1"}
"""
    )
    with pytest.raises(ConfigError) as caught:
        load_config(path, environ={})
    assert caught.value.problems == (
        Problem("unknown key 'passwd'; did you mean 'password'?", str(path), None, "registries.q.io.passwd"),
        Problem("found the number 99, expected a whole number from 0 to 20", str(path), None, "defaults.retries"),
        Problem(
            "'b.io/b:1' has a tag, but the source means all tags of its repository; expected no tag",
            str(path),
            1,
            "destination",
        ),
    )
    assert pickle.loads(pickle.dumps(caught.value)).problems == caught.value.problems
    assert len(str(caught.value).splitlines()) == 3
    assert labels(read_config(path, environ={}).config) == ["a.io/a -> b.io/b"]


def test_one_line_for_each_problem_whatever_stands_in_the_text() -> None:
    text = (
        '{"rules": [{"so\\nurce": 1}], "a\\nb": 1, "registries": {"q\\n.io": {"x\\ny": 1}}, "defaults": {"d\\ne": 1}}'
    )
    problems = told(text)
    assert len(problems) == 7
    assert all("\n" not in problem and len(problem) < 400 for problem in problems)


def test_text_is_called_by_the_name_it_is_given() -> None:
    for text in ("a: [", "nginx: B"):
        with pytest.raises(ConfigError, match=r"^the form"):
            parse_config(text, name="the form", environ={})


def test_overrides() -> None:
    config = parse_config(
        'nginx: ""',
        overrides=Overrides("o.io", "n", (Platform("linux", "arm"),), force=True, concurrency=1, retries=0),
        environ={"DEFAULT_REGISTRY": "d.io", "DEFAULT_NAMESPACE": "d"},
    )
    (rule,) = config.rules
    assert rule.label == "docker.io/library/nginx -> o.io/n/nginx"
    assert (rule.platforms, rule.force) == ((Platform("linux", "arm"),), True)
    assert (config.concurrency, config.retries) == (1, 0)


def test_syntax_needs_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ENVIRON:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DEFAULT_REGISTRY", "not a registry")
    assert check_syntax(DATA / "native.yaml") == ParsedSyntax(3, concurrency=16, retries=5)
    assert check_syntax(DATA / "image-syncer.json") == ParsedSyntax(5)
    assert check_syntax(auth=DATA / "auth.yaml", images=DATA / "images.yaml") == ParsedSyntax(3)


@pytest.mark.parametrize(
    ("source", "destination"),
    [
        ("$A/b", "b.io/b"),
        ("a.io/a:${A}", "b.io/b:x,y"),
        ("a.io/a", "$B"),
        ("a.io/a:1", "b.io/b:$B"),
        ("a.io/a", ""),
        ("$A:/1/", ""),
    ],
)
def test_syntax_does_not_judge_what_the_environment_decides(tmp_path: Path, source: str, destination: str) -> None:
    path = tmp_path / "c.yaml"
    registries = "{q.io: {password: $P, ca_file: missing.pem}}"
    path.write_text(f'registries: {registries}\nrules: [{{source: "{source}", destination: "{destination}"}}]')
    assert check_syntax(path).rule_count == 1


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ('rules: [{source: "a.io/A", destination: "$B"}]', "source"),
        ('rules: [{source: "$A", destination: "b.io/B"}]', "destination"),
        ('rules: [{source: "$A", destination: "b.io/b:/x/"}]', "destination"),
        ('rules: [{source: "$A", destination: ["$B", "b.io/B"]}]', "destination"),
        ('rules: [{source: "$A", destination: "$B", platforms: [x]}]', "platforms"),
        ('rules: [{source: "$A", destination: "$B", typo: 1}]', "typo"),
        ('rules: [{source: "$A", destination: "$B"}]\nregistries: {q.io: {insecure: 1}}', "registries.q.io.insecure"),
        ('rules: [{source: "$A", destination: "$B"}]\ndefaults: {registry: "$C"}', "defaults.registry"),
        ("rules: [{source: a, destination: ''}]\ndefaults: {registry: a.io, namespace: A}", "defaults.namespace"),
        ("rules: [{source: 'a:1', destination: 'b.io/b:x'}, {source: 'a:2', destination: 'b.io/b:x'}]", "destination"),
        ("rules: [", None),
    ],
)
def test_syntax_finds_what_no_environment_can_mend(tmp_path: Path, text: str, field: str | None) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        check_syntax(path)
    assert [problem.field for problem in caught.value.problems] == [field]


@pytest.mark.slow
def test_ten_thousand_rules_are_read_in_seconds() -> None:
    lines = [f'"$HOST/o/a{number}:v1,v2": [r.io/m/a{number}, ""]\n' for number in range(10_000)]
    variables = {"HOST": "q.io", "DEFAULT_REGISTRY": "d.io", "DEFAULT_NAMESPACE": "n"}
    assert len(parse_config("".join(lines), environ=variables).rules) == 10_000
