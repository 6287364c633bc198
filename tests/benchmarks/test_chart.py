from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from benchmarks import chart

SVG = "{http://www.w3.org/2000/svg}"


def texts(drawn: str) -> list[str]:
    return ["".join(one.itertext()) for one in ElementTree.fromstring(drawn).iter(f"{SVG}text")]


def bars(drawn: str) -> list[float]:
    return [
        float(one.attrib["width"])
        for one in ElementTree.fromstring(drawn).iter(f"{SVG}rect")
        if one.attrib["class"] in ("bar", "ours")
    ]


def test_medians_and_their_ratios_are_written(document: dict[str, Any]):
    found = texts(chart.draw(document))
    assert "10 tags & more" in found
    first = found.index("airflow-imagesync")
    assert found[first : first + 9] == [
        *("airflow-imagesync", "3.00 s", "2.0"),
        *("skopeo", "90.0 s*  30\u00d7", "4.0"),  # it did half, in 45 s
        *("crane", "1.50 s  0.5\u00d7", "3.0"),
    ]


def test_bars_are_as_long_as_the_times(document: dict[str, Any]):
    ours, skopeo, crane = bars(chart.draw(document))[:3]
    assert round(skopeo / ours) == 30
    assert crane / ours == 0.5


def test_what_ours_did_alone_has_no_panel(document: dict[str, Any]):
    assert "1 layer" not in texts(chart.draw(document))


def test_the_machine_and_the_versions_are_below(document: dict[str, Any]):
    assert texts(chart.draw(document))[-1] == "2 cores; <versions>."


def test_everything_is_on_the_paper(document: dict[str, Any]):
    root = ElementTree.fromstring(chart.draw(document))
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    for one in root.iter():
        if "y" in one.attrib and "x" in one.attrib:
            assert 0 <= float(one.attrib["x"]) + float(one.attrib.get("width", 0)) <= width
            assert 0 <= float(one.attrib["y"]) <= height


def test_it_is_legible_in_the_dark(document: dict[str, Any]):
    drawn = chart.draw(document)
    assert "prefers-color-scheme: dark" in drawn
    assert '<rect class="paper"' in drawn


def test_the_command_draws_a_file(document: dict[str, Any], tmp_path: Path):
    result, drawn = tmp_path / "result.json", tmp_path / "chart.svg"
    result.write_text(json.dumps(document))
    assert chart.main([str(result), str(drawn)]) == 0
    assert drawn.read_text() == chart.draw(document)


def test_the_chart_in_the_readme_is_that_of_the_file_beside_it():
    results = Path(chart.__file__).with_name("results")
    published = json.loads((results / "benchmark.json").read_text())
    assert (results / "benchmark.svg").read_text() == chart.draw(published)
