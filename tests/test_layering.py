from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import airflow_imagesync

PACKAGE = Path(airflow_imagesync.__file__).parent
AIRFLOWS_SIDE = {"hooks", "operators", "sensors", "triggers", "notifications"} | {
    "dag_factory",
    "airflow_cli",
    "assets",
    "plugin",
}
HTTP_STACK = {"requests", "urllib3", "tenacity"}
#: What each layer may import of this package, besides itself and errors.
ALLOWED = {
    "errors": set(),
    "domain": set(),
    "config": {"domain"},
    "registry": {"domain"},
    "engine": {"domain", "registry"},
    "connections": {"domain"},
    "kubernetes": {"domain"},
}

# Imports every module that is not Airflow's side where importing Airflow raises.
WITHOUT_AIRFLOW = """
import importlib, sys

class NoAirflow:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "airflow":
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, NoAirflow())
for name in sys.argv[1:]:
    importlib.import_module(name)
print(len(sys.argv) - 1)
"""


def modules() -> Iterator[tuple[str, str, Path]]:
    """Yield the layer, the name and the path of every module."""
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(("airflow_imagesync", *parts)).removesuffix(".__init__")
        yield parts[0], name, path


def imported(path: Path) -> Iterator[str]:
    """Yield the names of the modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            yield node.module or ""


def test_the_engine_runs_where_there_is_no_airflow() -> None:
    names = [name for layer, name, _ in modules() if layer not in AIRFLOWS_SIDE]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_AIRFLOW, *names], env=dict(os.environ), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == len(names) > 30


def test_only_airflows_side_imports_airflow() -> None:
    found = {
        layer for layer, _, path in modules() if any(name.partition(".")[0] == "airflow" for name in imported(path))
    }
    assert found <= AIRFLOWS_SIDE


def test_only_the_registry_layer_speaks_http() -> None:
    """Ruff sees imports at module level only."""
    found = {layer for layer, _, path in modules() if HTTP_STACK & {name.partition(".")[0] for name in imported(path)}}
    assert found == {"registry"}


@pytest.mark.parametrize("layer", sorted(ALLOWED))
def test_a_layer_imports_only_what_is_below_it(layer: str) -> None:
    found = {
        name.split(".")[1]
        for one, _, path in modules()
        if one == layer
        for name in imported(path)
        if name.startswith("airflow_imagesync.")
    }
    assert found - {layer, "errors"} <= ALLOWED[layer]


def test_the_package_itself_imports_nothing() -> None:
    """Airflow's provider discovery imports it half-way through Airflow's own start."""
    assert set(imported(PACKAGE / "__init__.py")) == set()
    assert set(imported(PACKAGE / "get_provider_info.py")) <= {"__future__", "typing"}
