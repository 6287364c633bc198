"""What the command line says and does when a registry asks to wait."""

from __future__ import annotations

import io
import json
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from airflow_imagesync.__main__ import main
from airflow_imagesync.cli import terminal
from airflow_imagesync.cli.options import build_parser, duration
from airflow_imagesync.cli.progress import open_display
from airflow_imagesync.config import load_config
from airflow_imagesync.engine.progress import Snapshot
from airflow_imagesync.engine.progress_text import counts_text
from airflow_imagesync.engine.sync import SyncEngine
from airflow_imagesync.registry.pace import Pace
from airflow_imagesync.registry.retry import RetryPolicy
from devtools import images
from devtools.distribution import DistributionRegistry
from tests.support.faults import answer, pull_quota
from tests.support.front import Front


@pytest.fixture
def front(source_registry: DistributionRegistry) -> Iterator[Front]:
    with Front(source_registry.host) as front:
        yield front


@pytest.fixture
def config(front: Front, destination_registry: DistributionRegistry, tmp_path: Path, repository_prefix: str) -> Path:
    """A configuration for one image that comes through the front."""
    images.push(f"http://{front.upstream}", f"{repository_prefix}/app", images.image(), ["v1"])
    path = tmp_path / "sync.json"
    document = {
        "registries": {host: {"insecure": True} for host in (front.host, destination_registry.host)},
        "rules": [
            {
                "source": f"{front.host}/{repository_prefix}/app:v1",
                "destination": f"{destination_registry.host}/{repository_prefix}/app",
            }
        ],
    }
    path.write_text(json.dumps(document))
    return path


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    code = main([str(one) for one in arguments])
    output = capsys.readouterr()
    return code, output.out, output.err


@pytest.mark.parametrize("command", ["plan", "run", "verify"])
def test_a_longer_wait_than_allowed_fails_and_says_what_allows_it(
    capsys: pytest.CaptureFixture[str], front: Front, config: Path, command: str
) -> None:
    front.on(None, "", answer(429, {"Retry-After": "5400"}))
    begun = time.monotonic()
    code, out, err = run(capsys, command, config, "-o", "json")
    assert time.monotonic() - begun < 10
    assert code == 1
    (image,) = json.loads(out)["images"]
    assert "retry_at" not in image
    assert "5400 s" in image["error"] or "left alone until" in image["error"]
    assert re.search(
        rf"WARNING {front.host} asks to wait 1 h 30 min, until 2\S+ \S+ UTC: what still needs it fails", err
    )
    last = err.splitlines()[-1]
    assert last.startswith("1 image failed for a registry's limit, which asks to wait until ")
    assert last.endswith("UTC: run again then, or have a run wait with --max-wait 2h")


def test_a_wait_that_is_allowed_is_told_and_sat_out(
    capsys: pytest.CaptureFixture[str], front: Front, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_imagesync.registry.pace._WORTH_A_WARNING", 1.0)
    front.on(None, "/manifests/", answer(429, {"Retry-After": "1"}), times=1)
    code, _, err = run(capsys, "run", config, "--max-wait", "2s")
    assert code == 0
    assert re.search(rf"WARNING {front.host} asks to wait 1.0 s, until 2\S+ \S+ UTC: waiting", err)
    assert "--max-wait" not in err


def test_with_no_time_to_wait_everything_that_must_wait_fails(
    capsys: pytest.CaptureFixture[str], front: Front, config: Path
) -> None:
    front.on(None, "/manifests/", answer(429, {"Retry-After": "1"}), times=1)
    code, _, err = run(capsys, "run", config, "--max-wait", "0")
    assert code == 1
    assert err.splitlines()[-1].endswith("have a run wait with --max-wait 1m")


def test_docker_hubs_limit_is_told(capsys: pytest.CaptureFixture[str], front: Front, config: Path) -> None:
    front.on(None, "/manifests/", pull_quota(0))
    code, out, err = run(capsys, "run", config)
    assert code == 1
    assert "has 0 pulls left for this login" in out
    assert re.search(r"WARNING \S+ has 0 pulls left for this login: no manifest is asked for before 2\S+ \S+ UTC", err)
    assert err.splitlines()[-1].endswith("have a run wait with --max-wait 15m")


def test_while_it_waits_the_progress_says_how_long_still() -> None:
    snapshot = Snapshot(to_plan=3, planned=1)
    assert counts_text(snapshot, {"quay.io": 75.0}) == "1 of 3 images compared, quay.io to be waited for: 1 min 15 s"


def test_an_engine_tells_which_registries_it_waits_for(front: Front, config: Path) -> None:
    front.on(None, "/manifests/", answer(429, {"Retry-After": "1"}), times=1)
    with SyncEngine(load_config(config)) as engine, ThreadPoolExecutor(1) as pool:
        assert engine.held == {}
        plan = pool.submit(engine.plan)
        while not engine.held and not plan.done():
            time.sleep(0.01)
        held = engine.held
        assert list(held) == [front.host]
        assert 0 < held[front.host] <= 1
        assert plan.result().totals["new"] == 1
        assert engine.held == {}


def test_a_wait_is_told_above_a_live_display() -> None:
    from rich.console import Console

    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=120)
    terminal.set_up_logging(0, console)
    display = open_display(console)
    display.update(Snapshot(to_plan=3, planned=1))
    Pace("quay.io").hold(30, RetryPolicy())
    display.update(Snapshot(to_plan=3, planned=2))
    display.close()
    assert re.search(r"WARNING quay\.io asks to wait 30\.0 s, until \S+ \S+ UTC: waiting", stream.getvalue())


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("90", 90), ("30s", 30), ("10m", 600), ("6h", 21600), ("1d", 86400), ("1.5m", 90), (" 5m ", 300)],
)
def test_times_are_seconds_or_have_a_unit(text: str, seconds: float) -> None:
    assert duration(text) == seconds
    assert build_parser().parse_args(["run", "c.yaml", "--max-wait", text]).max_wait == seconds


@pytest.mark.parametrize("text", ["", "soon", "-1", "1w", "m", "1h30m", "1e3", "inf", "9" * 30])
def test_what_is_no_time_is_a_usage_error(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        build_parser().parse_args(["run", "c.yaml", f"--max-wait={text}"])
    assert caught.value.code == 2
    assert "is no time, such as 30s, 10m or 6h" in capsys.readouterr().err


def test_a_minute_is_waited_unless_something_else_is_said() -> None:
    assert build_parser().parse_args(["plan", "c.yaml"]).max_wait == 60
    with pytest.raises(SystemExit):
        build_parser().parse_args(["check", "c.yaml", "--max-wait", "5m"])
