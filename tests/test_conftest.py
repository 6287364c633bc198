from __future__ import annotations

import os
from pathlib import Path

import pytest


def test_tests_begin_without_settings_of_the_machine(airflow_home: Path):
    found = {name for name in os.environ if name.lower().startswith(("airflow", "http_proxy", "docker_"))}
    assert found == {"AIRFLOW_HOME", "AIRFLOW__CORE__LOAD_EXAMPLES", "AIRFLOW__IMAGESYNC__RECORDS"}
    assert os.environ["AIRFLOW_HOME"] == str(airflow_home)


@pytest.mark.parametrize("number", [1, 2])
def test_what_a_test_sets_is_gone_in_the_next(number: int):
    """Even when it was set without monkeypatch."""
    assert "DEFAULT_REGISTRY" not in os.environ
    os.environ["DEFAULT_REGISTRY"] = f"left by {number}"


def test_airflow_uses_the_home_of_this_run(airflow_home: Path):
    from airflow.configuration import AIRFLOW_HOME

    assert str(airflow_home) == AIRFLOW_HOME


def test_prefixes_are_repository_names(repository_prefix: str):
    assert repository_prefix.startswith("test-prefixes-are-repository-names-")
