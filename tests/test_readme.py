"""The README is true: its configurations load, its programs compile, and it names what there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from airflow_imagesync.cli.options import OPTIONS
from airflow_imagesync.config import parse_config
from airflow_imagesync.config.schema import DefaultsEntry, RegistryEntry, RuleEntry
from airflow_imagesync.get_provider_info import get_provider_info

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
ENVIRON = {"REG_USER": "robot", "REG_PASSWORD": "secret", "QUAY_PASSWORD": "secret"}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("text", blocks("yaml"), ids=["first", "image-syncer", "native"])
def test_its_configurations_load_without_a_warning(text: str) -> None:
    config = parse_config(text, environ=ENVIRON)
    assert config.rules
    unused = [one for one in config.warnings if "no rule uses" not in one]
    assert unused == []


@pytest.mark.parametrize(
    "text", blocks("python"), ids=["dag", "own-dag", "cluster", "events-out", "events-in", "messages"]
)
def test_its_programs_compile(text: str) -> None:
    compile(text, "README.md", "exec")


def test_its_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"make ([a-z]+)", "\n".join(blocks("console")) + README))
    assert {"demo", "test", "lint", "bench"} <= named <= targets


def test_it_names_every_field_of_a_connection() -> None:
    (connection,) = get_provider_info()["connection-types"]
    for field in connection["conn-fields"]:
        assert f"`{field}`" in README


@pytest.mark.parametrize("entry", [DefaultsEntry, RegistryEntry, RuleEntry])
def test_it_names_every_key_of_a_configuration(entry: type[DefaultsEntry | RegistryEntry | RuleEntry]) -> None:
    for name, field in entry.model_fields.items():
        assert f"`{field.alias or name}`" in README


def test_the_options_it_names_exist() -> None:
    flags = {flag for option in OPTIONS for flag in option.flags} | {"--help"}
    others = re.compile(r"`(?:skopeo|docker) [^`]*`|^\$ airflow .*$", re.MULTILINE)
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", others.sub("", README))) <= flags


def test_its_links_to_files_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / target).exists()
