"""``verify`` in this process, on real registries."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from airflow_imagesync.__main__ import main
from airflow_imagesync.cli.tables import verify_view
from airflow_imagesync.domain.verification import Verification, VerifiedImage, VerifiedState
from devtools import images
from devtools.distribution import DistributionRegistry

OLD, NEW = images.image([images.layer(2000, "old")]), images.image([images.layer(2000, "new")])


@pytest.fixture
def push(
    source_registry: DistributionRegistry, destination_registry: DistributionRegistry, repository_prefix: str
) -> Callable[..., None]:
    """Puts an image into the repository of this test, at the source and the destination, or at one of them."""

    def put(image: images.BuiltManifest, *tags: str, at: str = "both") -> None:
        for name, registry in (("source", source_registry), ("destination", destination_registry)):
            if at in (name, "both"):
                images.push(registry.url, f"{repository_prefix}/app", image, tags)

    return put


@pytest.fixture
def write(
    tmp_path: Path,
    source_registry: DistributionRegistry,
    destination_registry: DistributionRegistry,
    repository_prefix: str,
) -> Callable[..., Path]:
    """Writes a configuration that syncs these tags of the repository of this test."""

    def config(tags: str = "", **more: Any) -> Path:
        hosts = (source_registry.host, destination_registry.host)
        path = tmp_path / "sync.yaml"
        source, destination = (f"{host}/{repository_prefix}/app" for host in hosts)
        document = {
            "registries": {host: {"insecure": True} for host in hosts},
            "rules": [{"source": f"{source}{tags}", "destination": destination, **more}],
        }
        path.write_text(yaml.safe_dump(document))
        return path

    return config


Push, Write = Callable[..., None], Callable[..., Path]


def verify(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    code = main(["verify", *(str(one) for one in arguments)])
    output = capsys.readouterr()
    return code, output.out, output.err


def test_what_is_the_same_exits_0(capsys: pytest.CaptureFixture[str], push: Push, write: Write) -> None:
    push(NEW, "v1", "v2")
    # Were it forced, all would have to be copied.
    code, out, err = verify(capsys, write(force=True))
    assert (code, out, err) == (0, "all 2 images are the same\n", "")
    code, out, _ = verify(capsys, write(), "-v")
    assert [line.split()[0] for line in out.splitlines()] == ["State", "same", "same", "all"]


def test_what_differs_exits_1_and_programs_get_json_alone(
    capsys: pytest.CaptureFixture[str], push: Push, write: Write, destination_registry: DistributionRegistry
) -> None:
    push(NEW, "same")
    push(NEW, "missing", "moved", at="source")
    push(OLD, "moved", at="destination")
    code, out, err = verify(capsys, write(":same,missing,moved,gone"), "-o", "json")
    document = json.loads(out)
    assert code == 1
    assert list(document) == ["images", "totals"]
    assert [row["state"] for row in document["images"]] == ["same", "missing", "different", "failed"]
    assert document["totals"] == {"same": 1, "missing": 1, "different": 1, "failed": 1}
    moved = document["images"][2]
    digests = ("source_digest", "expected_digest", "destination_digest")
    assert [moved[key] for key in digests] == [NEW.digest, NEW.digest, OLD.digest]
    assert moved["destination"].startswith(destination_registry.host)
    lines = err.splitlines()
    assert [line.partition(":")[0] for line in lines[:3]] == ["failed", "different", "missing"]
    assert lines[3] == "3 of 4 images are not the same: 1 failed, 1 different, 1 missing, 1 same"

    code, out, err = verify(capsys, write(":same,missing,moved,gone"))
    assert (code, err) == (1, "")
    assert [line.split()[0] for line in out.splitlines()] == ["State", "failed", "different", "missing", "3"]
    assert f"the destination has {OLD.digest} in place of {NEW.digest}" in out


def test_a_report_to_sign_off(capsys: pytest.CaptureFixture[str], push: Push, write: Write, tmp_path: Path) -> None:
    push(NEW, "v1", "v2")
    config = write()
    code, _, _ = verify(capsys, config, "--report", tmp_path / "verified.md")
    lines = (tmp_path / "verified.md").read_text().splitlines()
    assert (code, lines[2]) == (0, "**All 2 images are the same.**")
    assert [line.split(":")[0] for line in lines if line.startswith("- ")] == ["- configuration", "- began", "- ended"]

    push(OLD, "v2", at="destination")
    code, _, _ = verify(capsys, config, "--report", tmp_path / "verified.json")
    document = json.loads((tmp_path / "verified.json").read_text())
    assert (code, document["kind"]) == (1, "verification")
    assert [row["state"] for row in document["images"]] == ["different", "same"]
    assert document["metadata"]["configuration"] == str(config)


def test_a_platform_filter_may_be_given(capsys: pytest.CaptureFixture[str], push: Push, write: Write) -> None:
    push(images.index(), "v1")
    assert verify(capsys, write())[0] == 0
    code, out, _ = verify(capsys, write(), "--platform", "linux/arm64")
    assert code == 1
    assert f"which the platform filter makes of the source's {images.index().digest}" in out


def test_a_mistake_in_the_configuration_exits_2(
    capsys: pytest.CaptureFixture[str], write: Write, tmp_path: Path
) -> None:
    config = write(platforms=["no platform"])
    code, out, err = verify(capsys, config)
    assert (code, out) == (2, "")
    assert str(config) in err
    code, out, _ = verify(capsys, tmp_path / "gone.yaml", "-o", "json")
    assert code == 2
    assert json.loads(out)["errors"]
    code, out, err = verify(capsys, write(), "--report", tmp_path / "no" / "r.md")
    assert (code, out) == (2, "")
    assert "No such file or directory" in err


@pytest.mark.parametrize("option", ["--force", "--no-records", "--records=x", "--output-success-images=x"])
def test_what_means_nothing_to_it_is_no_option(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["verify", "sync.yaml", option])
    assert caught.value.code == 2
    assert "unrecognized arguments" in capsys.readouterr().err


def test_no_records_are_made(
    capsys: pytest.CaptureFixture[str], push: Push, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    push(NEW, "v1")
    assert verify(capsys, write())[0] == 0
    assert not (tmp_path / "state").exists()


def test_its_table_on_a_terminal_has_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    found = Verification(
        (
            VerifiedImage(0, "a.io/x:1", "b.io/x:1", VerifiedState.SAME),
            VerifiedImage(0, "a.io/x:2", "b.io/x:2", VerifiedState.DIFFERENT, error="two\x1b[2J digests"),
        ),
        ("a note",),
    )
    coloured = verify_view(found, all_images=False, terminal=True)
    assert "\x1b[33m" in coloured
    assert "\x1b[2J" not in coloured
    assert verify_view(found, all_images=False, terminal=False).splitlines() == [
        "State      Source    Destination  Detail",
        "different  a.io/x:2  b.io/x:2     two\\x1b[2J digests",
        "a note",
        "1 of 2 images is not the same: 0 failed, 1 different, 0 missing, 1 same",
    ]
