"""Each program is told the same in its own words; `test_workloads` runs those that are here."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from benchmarks.tools import PEERS, find_peers
from benchmarks.tools.imagesync import ImageSync
from benchmarks.tools.tool import Command, Job, Peer

WHOLE = Job(("bench/one", "bench/two"))
NAMED = Job(("bench/one",), ("v1", "v2"))
SOURCE, DESTINATION, OTHER = "a:1", "b:2", "c:3"


def peer(name: str) -> Peer:
    return PEERS[name](Path("/bin") / name)


def lines(command: Command) -> list[str]:
    """Return the lines of a script after its first two, which are always the same."""
    shell, file = command
    first, second, *rest = Path(file).read_text().splitlines()
    assert (shell, first) == ("sh", "set -e")
    assert second.startswith("cd /")
    return rest


def test_ours_gets_a_rule_for_each_repository(tmp_path: Path):
    command = ImageSync().command(NAMED, SOURCE, [DESTINATION, OTHER], tmp_path)
    config = json.loads(Path(command[4]).read_text())
    assert config["rules"] == [{"source": "a:1/bench/one:v1,v2", "destination": ["b:2/bench/one", "c:3/bench/one"]}]
    assert command[3] == "run"


def test_ours_keeps_and_trusts_records_where_told(tmp_path: Path):
    plain = ImageSync().command(WHOLE, SOURCE, [DESTINATION], tmp_path)
    assert "--records" not in plain
    command = ImageSync(records=tmp_path / "kept", trust=True).command(WHOLE, SOURCE, [DESTINATION], tmp_path)
    assert command[-2:] == ["--records", tmp_path / "kept"]
    assert json.loads(Path(command[4]).read_text())["defaults"] == {"trust_records": True}


def test_skopeo_gets_a_list_of_repositories(tmp_path: Path):
    command = peer("skopeo").command(NAMED, SOURCE, [DESTINATION], tmp_path)
    assert [str(part) for part in command] == [
        *("/bin/skopeo", "--insecure-policy", "sync", "--all", "--preserve-digests"),
        *("--src", "yaml", "--dest", "docker", "--dest-tls-verify=false"),
        *(str(tmp_path / "skopeo.yaml"), "b:2/bench"),
    ]
    listed = json.loads((tmp_path / "skopeo.yaml").read_text())
    assert listed == {"a:1": {"tls-verify": False, "images": {"bench/one": ["v1", "v2"]}}}


def test_skopeo_does_destinations_one_after_the_other(tmp_path: Path):
    ends = [line.split()[-1] for line in lines(peer("skopeo").command(WHOLE, SOURCE, [DESTINATION, OTHER], tmp_path))]
    assert ends == ["b:2/bench", "c:3/bench"]


def test_crane_copies_repositories_with_eight_images_at_once(tmp_path: Path):
    command = peer("crane").command(WHOLE, SOURCE, [DESTINATION], tmp_path)
    assert lines(command) == ["xargs -P 2 -n 2 /bin/crane copy --insecure --all-tags --jobs 4 < pairs"]
    assert (tmp_path / "pairs").read_text() == "a:1/bench/one b:2/bench/one\na:1/bench/two b:2/bench/two\n"


def test_crane_copies_named_tags_one_by_one(tmp_path: Path):
    command = peer("crane").command(NAMED, SOURCE, [DESTINATION], tmp_path)
    assert lines(command) == ["xargs -P 8 -n 2 /bin/crane copy --insecure < pairs"]
    assert (tmp_path / "pairs").read_text() == "a:1/bench/one:v1 b:2/bench/one:v1\na:1/bench/one:v2 b:2/bench/one:v2\n"


@pytest.mark.parametrize(
    ("name", "listing", "copy"),
    [
        (
            "regctl",
            "/bin/regctl --host reg=a:1,tls=disabled --host reg=b:2,tls=disabled tag ls",
            "/bin/regctl --host reg=a:1,tls=disabled --host reg=b:2,tls=disabled image copy --fast",
        ),
        (
            "oras",
            "/bin/oras repo tags --plain-http",
            "/bin/oras cp --no-tty --from-plain-http --to-plain-http",
        ),
    ],
)
def test_tools_for_one_image_list_the_tags_and_copy_eight_at_once(tmp_path: Path, name: str, listing: str, copy: str):
    job = Job(("bench/one",))
    assert lines(peer(name).command(job, SOURCE, [DESTINATION], tmp_path)) == [
        f"{listing} a:1/bench/one > tags",
        "sed 's|.*|a:1/bench/one:& b:2/bench/one:&|' tags >> pairs",
        f"xargs -P 8 -n 2 {copy} < pairs",
    ]
    assert lines(peer(name).command(NAMED, SOURCE, [DESTINATION], tmp_path)) == [f"xargs -P 8 -n 2 {copy} < pairs"]
    assert (tmp_path / "pairs").read_text().splitlines()[1] == "a:1/bench/one:v2 b:2/bench/one:v2"


def test_regsync_gets_all_in_one_file(tmp_path: Path):
    command = peer("regsync").command(WHOLE, SOURCE, [DESTINATION], tmp_path)
    assert command == [Path("/bin/regsync"), "once", "--config", tmp_path / "regsync.yaml", "--verbosity", "warn"]
    config = json.loads((tmp_path / "regsync.yaml").read_text())
    assert config["defaults"] == {"parallel": 8, "fastCheck": True, "skipDockerConfig": True}
    assert config["creds"][0] == {"registry": "a:1", "tls": "disabled", "reqConcurrent": 8}
    assert config["sync"][1] == {"source": "a:1/bench/two", "target": "b:2/bench/two", "type": "repository"}
    peer("regsync").command(NAMED, SOURCE, [DESTINATION], tmp_path)
    assert json.loads((tmp_path / "regsync.yaml").read_text())["sync"][1] == {
        "source": "a:1/bench/one:v2",
        "target": "b:2/bench/one:v2",
        "type": "image",
    }


def test_image_syncer_gets_its_two_files(tmp_path: Path):
    auth, images = tmp_path / "auth.json", tmp_path / "images.json"
    command = peer("image-syncer").command(NAMED, SOURCE, [DESTINATION, OTHER], tmp_path)
    assert command == [Path("/bin/image-syncer"), "--proc", "8", "--auth", auth, "--images", images]
    assert json.loads(auth.read_text()) == {host: {"insecure": True} for host in (SOURCE, DESTINATION, OTHER)}
    assert json.loads(images.read_text()) == {"a:1/bench/one:v1,v2": ["b:2/bench/one", "c:3/bench/one"]}


@pytest.mark.parametrize("name", PEERS)
def test_no_settings_or_logins_of_the_user_get_in(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("DOCKER_CONFIG", "/elsewhere")
    environment = peer(name).environment(tmp_path)
    assert environment["HOME"] == str(tmp_path)
    assert not {"HTTP_PROXY", "DOCKER_CONFIG"} & environment.keys()


def test_peers_are_found_on_path_and_tell_their_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name, told in (("crane", "v0.22.1"), ("oras", "Version:    1.3.6"), ("image-syncer", "anything 9.9.9")):
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\necho '{told}'\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/bin")
    found = find_peers(["oras", "image-syncer", "crane", "regctl"])
    assert [(one.name, one.version()) for one in found] == [
        ("crane", "0.22.1"),
        ("image-syncer", None),  # it is not known how to ask it
        ("oras", "1.3.6"),
    ]


def test_a_listing_that_fails_is_not_taken_for_no_tags(tmp_path: Path):
    command = PEERS["oras"](Path("/bin/false")).command(WHOLE, SOURCE, [DESTINATION], tmp_path)
    assert os.spawnvp(os.P_WAIT, "sh", [str(part) for part in command]) != 0
