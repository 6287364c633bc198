from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import metadata, version
from pathlib import Path

import pytest

import airflow_imagesync

ROOT = Path(__file__).parents[1]


def test_the_version_is_that_of_the_distribution() -> None:
    assert version("airflow-imagesync") == airflow_imagesync.__version__


def test_the_metadata_say_what_airflow_and_its_users_look_for() -> None:
    found = metadata("airflow-imagesync")
    assert "Framework :: Apache Airflow :: Provider" in found.get_all("Classifier", [])
    assert found["License-Expression"] == "Apache-2.0"
    assert found["Requires-Python"] == ">=3.11"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The names of the files in the wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("airflow_imagesync", "dags", "tests", "devtools"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    build = f"from hatchling.build import build_wheel; print(build_wheel({str(folder)!r}))"
    done = subprocess.run([sys.executable, "-c", build], cwd=source, capture_output=True, text=True)
    if done.returncode != 0:
        assert "No module named 'hatchling'" in done.stderr, done.stderr
        pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(source)]
        subprocess.run(pip, check=True, capture_output=True)
    (path,) = folder.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        return archive.namelist()


def test_the_wheel_holds_the_package_and_nothing_else(wheel: list[str]) -> None:
    tops = {name.partition("/")[0] for name in wheel}
    assert tops == {"airflow_imagesync", f"airflow_imagesync-{airflow_imagesync.__version__}.dist-info"}
    assert "airflow_imagesync/py.typed" in wheel
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "airflow_imagesync").rglob("*.py")}
    assert modules <= set(wheel)
