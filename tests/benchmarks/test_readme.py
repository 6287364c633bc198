from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import readme


def test_tables_have_a_column_for_each_program(document: dict[str, Any]):
    assert readme.measured(document).splitlines() == [
        "| seconds, requests for each | airflow-imagesync | skopeo | crane |",
        "| --- | --- | --- | --- |",
        "| 10 tags & more | 3.00 s, 2.0 | 90.0 s*, 4.0 | 1.50 s, 3.0 |",
        "| 2 repositories | 1.00 s, 0.0 |  | 1.00 s, 0.0 |",
        "",
        "| MiB read, MiB sent | airflow-imagesync | skopeo | crane |",
        "| --- | --- | --- | --- |",
        "| 2 repositories | 0, 2 |  | 3, 4 |",
        "",
        "- 1 layer: memory: 3.0 MiB",
        "",
        "Measured on 2 cores; <versions>.",
    ]


def test_only_what_is_between_the_marks_is_replaced(document: dict[str, Any], tmp_path: Path):
    file = tmp_path / "README.md"
    file.write_text(f"before\n{readme.BEGIN}old\n{readme.END}after\n")
    readme.update(document, file)
    assert file.read_text() == f"before\n{readme.BEGIN}{readme.measured(document)}{readme.END}after\n"


def test_a_readme_without_marks_is_left_alone(document: dict[str, Any], tmp_path: Path):
    file = tmp_path / "README.md"
    file.write_text("text\n")
    with pytest.raises(ValueError, match="lacks the lines"):
        readme.update(document, file)
    assert file.read_text() == "text\n"


def test_the_readme_says_what_was_measured():
    published = readme.README.parent / "benchmarks" / "results" / "benchmark.json"
    assert readme.measured(json.loads(published.read_text())) in readme.README.read_text()
