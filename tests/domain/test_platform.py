from __future__ import annotations

import pytest

from airflow_imagesync.domain.platform import Platform, wanted
from airflow_imagesync.errors import InvalidReference


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("linux/amd64", Platform("linux", "amd64")),
        ("linux/arm/v7", Platform("linux", "arm", "v7")),
        (" Linux/ARM64 ", Platform("linux", "arm64")),
    ],
)
def test_parse(text: str, expected: Platform) -> None:
    assert Platform.parse(text) == expected


@pytest.mark.parametrize(
    "text", ["", "linux", "linux/", "/amd64", "linux/arm/v7/x", "linux/amd64,linux/arm64", "a b/c"]
)
def test_parse_refuses(text: str) -> None:
    with pytest.raises(InvalidReference, match="is not a platform; expected os/arch"):
        Platform.parse(text)


@pytest.mark.parametrize(
    ("pattern", "platform", "matches"),
    [
        ("linux/amd64", "linux/amd64", True),
        ("linux/amd64", "linux/arm64", False),
        ("linux/amd64", "windows/amd64", False),
        ("linux/arm", "linux/arm/v6", True),
        ("linux/arm", "linux/arm/v7", True),
        ("linux/arm/v7", "linux/arm/v7", True),
        ("linux/arm/v7", "linux/arm/v6", False),
        ("linux/arm/v7", "linux/arm", False),
        ("linux/arm64", "linux/arm64/v8", True),
        ("linux/arm64/v8", "linux/arm64", True),
        ("linux/arm64/v9", "linux/arm64", False),
    ],
)
def test_filter(pattern: str, platform: str, matches: bool) -> None:
    assert Platform.parse(pattern).wants(Platform.parse(platform)) is matches


@pytest.mark.parametrize(
    ("pattern", "matches"),
    [(Platform("linux", ""), True), (Platform("", "arm"), True), (Platform("", "amd64"), False)],
    ids=["any architecture", "any system", "other architecture"],
)
def test_empty_parts_match_anything(pattern: Platform, matches: bool) -> None:
    assert wanted([pattern], Platform("linux", "arm", "v7")) is matches


def test_os_version_is_a_prefix() -> None:
    windows = Platform("windows", "amd64", os_version="10.0.17763.1")
    assert Platform("windows", "amd64", os_version="10.0.17763").wants(windows)
    assert not Platform("windows", "amd64", os_version="10.0.20348").wants(windows)


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"os": "Linux", "architecture": "arm", "variant": "v7"}, Platform("linux", "arm", "v7")),
        ({"os": "linux", "architecture": "amd64", "os.version": "1"}, Platform("linux", "amd64", os_version="1")),
        ({"os": "linux"}, Platform("linux", "")),
        ({"os": 1, "architecture": None}, None),
        ({}, None),
    ],
)
def test_of_descriptor(document: dict[str, object], expected: Platform | None) -> None:
    assert Platform.of_descriptor(document) == expected


def test_text() -> None:
    assert [str(one) for one in (Platform("linux", "arm", "v7"), Platform("linux", ""), Platform("", "arm64"))] == [
        "linux/arm/v7",
        "linux/*",
        "*/arm64",
    ]
