from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.chart import draw


def test_a_peer_that_was_asked_for_and_is_missing_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["--peers", "image-syncer"]) == 2
    assert capsys.readouterr().err == "image-syncer: not found on PATH.\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--publish", "--only", "plan"], "--publish is for all workloads"),
        (["--svg", "/no/such/folder/chart.svg"], "there is no folder"),
        (["--peers", "docker"], "invalid choice"),
    ],
)
def test_what_can_not_be_is_refused_at_once(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert said in capsys.readouterr().err


def test_what_a_workload_came_to_is_written_also_where_it_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from benchmarks import workloads
    from benchmarks.measure import MeasurementError
    from benchmarks.workloads.bench import Bench

    def fails(bench: Bench) -> None:
        raise MeasurementError("ours ended with 1")

    monkeypatch.setitem(workloads.WORKLOADS, "plan", fails)
    result, chart = tmp_path / "result.json", tmp_path / "chart.svg"
    assert main(["--only", "plan", "--peers", "--json", str(result), "--svg", str(chart)]) == 1
    document = json.loads(result.read_text())
    assert document["workloads"][0]["problems"] == ["ours ended with 1"]
    assert "no peers" in document["machine"]
    assert chart.read_text() == draw(document)
