"""The lowest supported Airflow takes the whole package; `make test-floor` runs more of the tests with it."""

from __future__ import annotations

import importlib
import pkgutil
import re
import subprocess
import sys
from importlib.metadata import requires, version

import pytest

import airflow_imagesync
from airflow_imagesync.get_provider_info import get_provider_info

#: What modules need that only those install who use that cloud.
OPTIONAL = {
    "airflow_imagesync.hooks.alibaba": "alibabacloud_cr20181201",
    "airflow_imagesync.hooks.amazon": "airflow.providers.amazon",
    "airflow_imagesync.hooks.azure": "airflow.providers.microsoft",
    "airflow_imagesync.hooks.google": "airflow.providers.google",
}
MODULES = [one.name for one in pkgutil.walk_packages(airflow_imagesync.__path__, "airflow_imagesync.")]


def airflow(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "airflow", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_this_is_the_lowest_airflow_that_the_package_asks_for() -> None:
    wanted = (re.fullmatch(r"apache-airflow>=([\d.]+)", one) for one in requires("airflow-imagesync") or ())
    (lowest,) = [found[1] for found in wanted if found]
    installed = version("apache-airflow")
    assert (installed == lowest) or installed == f"{lowest}.0"


def test_the_walk_finds_the_modules() -> None:
    assert {"airflow_imagesync.dag_factory", "airflow_imagesync.operators.retries"} < set(MODULES)


@pytest.mark.parametrize("name", MODULES)
def test_every_module_is_imported(name: str) -> None:
    if name in OPTIONAL:
        with pytest.raises(ModuleNotFoundError, match=re.escape(OPTIONAL[name])):
            importlib.import_module(name)
    else:
        importlib.import_module(name)


def test_every_module_that_the_provider_info_names_is_there() -> None:
    info = get_provider_info()
    modules = {
        module
        for kind in ("hooks", "operators", "sensors", "triggers")
        for entry in info.get(kind, ())
        for module in entry["python-modules"]
    }
    assert modules <= set(MODULES)


@pytest.mark.parametrize("kind", ["hooks", "triggers"])
def test_the_provider_is_listed(kind: str) -> None:
    assert "imagesync" in airflow("providers", kind, "--output", "json")
