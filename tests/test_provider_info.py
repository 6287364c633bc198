from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import airflow
import jsonschema
import pytest
from pydantic import ValidationError

from airflow_imagesync.connections import _Extra
from airflow_imagesync.get_provider_info import get_provider_info
from airflow_imagesync.hooks.registry import RegistryHook
from airflow_imagesync.operators import records


def connection_type() -> dict[str, dict[str, dict[str, dict[str, object]]]]:
    (only,) = get_provider_info()["connection-types"]
    found: dict[str, dict[str, dict[str, dict[str, object]]]] = only
    return found


def schema(name: str) -> dict[str, object]:
    found: dict[str, object] = json.loads((Path(airflow.__file__).parent / name).read_text())
    return found


def test_is_what_airflows_schema_asks_for() -> None:
    jsonschema.validate(get_provider_info(), schema("provider_info.schema.json"))


def test_has_the_parts_that_airflows_own_providers_have() -> None:
    """The stricter schema of Airflow's own repository; what it asks for besides is for that repository alone."""
    errors = jsonschema.Draft7Validator(schema("provider.yaml.schema.json")).iter_errors(get_provider_info())
    assert [one.message for one in errors if one.path or one.validator != "required"] == []


def test_is_what_the_entry_point_leads_to() -> None:
    (point,) = [
        one for one in entry_points(group="apache_airflow_provider") if one.module.startswith("airflow_imagesync")
    ]
    assert point.load() is get_provider_info
    assert point.dist is not None
    assert get_provider_info()["package-name"] == point.dist.name


def test_names_modules_and_classes_that_are_there() -> None:
    from importlib import import_module

    info = get_provider_info()
    for kind in ("hooks", "operators", "sensors", "triggers"):
        for entry in info[kind]:
            for module in entry["python-modules"]:
                import_module(module)
    for path in (*info["cli"], *info["notifications"], *info["extra-links"], connection_type()["hook-class-name"]):
        module, _, name = str(path).rpartition(".")
        assert callable(getattr(import_module(module), name))


def test_says_of_the_connection_what_the_hook_says() -> None:
    entry = get_provider_info()["connection-types"][0]
    assert (entry["connection-type"], entry["hook-name"]) == (RegistryHook.conn_type, RegistryHook.hook_name)


def test_every_field_of_the_form_is_read_from_a_connection_and_the_other_way_round() -> None:
    fields = connection_type()["conn-fields"]
    assert set(fields) == set(_Extra.model_fields)
    # What a form sends for a field that was left alone.
    _Extra.model_validate(dict.fromkeys(fields))
    _Extra.model_validate({name: field["schema"].get("default") for name, field in fields.items()})  # type: ignore[attr-defined]
    with pytest.raises(ValidationError):
        _Extra.model_validate({"max_concurrent": 0})


def test_secrets_are_hidden_in_the_form() -> None:
    from airflow.sdk._shared.secrets_masker import should_hide_value_for_key

    fields = connection_type()["conn-fields"]
    assert fields["identity_token"]["schema"]["format"] == "password"  # type: ignore[index]
    assert should_hide_value_for_key("identity_token")


def test_the_options_of_its_section_are_those_that_are_read() -> None:
    options = get_provider_info()["config"]["imagesync"]["options"]
    source = inspect.getsource(records)
    assert set(options) == set(re.findall(r'conf\.get\(SECTION, "(\w+)"', source))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("providers", "list", "--output", "json"), "airflow-imagesync"),
        (("imagesync", "--help"), "check"),
        (("config", "get-value", "imagesync", "records"), "{home}/imagesync.db"),
    ],
    ids=["list", "commands", "configuration"],
)
def test_airflow_finds_the_provider(
    arguments: tuple[str, ...], expected: str, airflow_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AIRFLOW__IMAGESYNC__RECORDS")
    done = subprocess.run(
        [sys.executable, "-m", "airflow", *arguments],
        env=dict(os.environ),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert expected.format(home=airflow_home) in done.stdout
    # Discovery warns of what it can't use.
    assert "imagesync" not in "".join(line for line in done.stderr.splitlines(keepends=True) if "WARN" in line.upper())


def test_airflow_finds_the_hook_of_the_connection_type(airflow_home: Path) -> None:
    from airflow.sdk.providers_manager_runtime import ProvidersManagerTaskRuntime

    found = ProvidersManagerTaskRuntime().hooks["oci_registry"]
    assert found is not None
    assert found.hook_class_name == "airflow_imagesync.hooks.registry.RegistryHook"
    assert (found.connection_id_attribute_name, found.connection_testable) == ("registry_conn_id", True)
