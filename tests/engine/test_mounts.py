from __future__ import annotations

import pytest

from airflow_imagesync.engine.mounts import Mounting, Mounts


def test_a_registry_is_thought_to_mount_anything() -> None:
    assert Mounts().of("registry.example.com:5000") is Mounting.ANYTHING


@pytest.mark.parametrize(
    "registry",
    [
        "123456789012.dkr.ecr.eu-central-1.amazonaws.com",
        "123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn",
        "123456789012.dkr-ecr.eu-west-1.on.aws",
    ],
)
def test_amazons_registries_mount_what_a_manifest_refers_to(registry: str) -> None:
    assert Mounts().of(registry) is Mounting.REFERENCED


def test_a_refusal_of_what_no_manifest_refers_to_teaches_to_wait_for_one() -> None:
    mounts = Mounts()
    mounts.learn("a", referenced=False, mounted=False)
    assert mounts.of("a") is Mounting.REFERENCED
    assert mounts.of("b") is Mounting.ANYTHING


def test_one_refusal_where_others_succeeded_teaches_nothing() -> None:
    mounts = Mounts()
    mounts.learn("a", referenced=False, mounted=True)
    mounts.learn("a", referenced=False, mounted=False)
    assert mounts.of("a") is Mounting.ANYTHING


def test_a_registry_that_refuses_even_what_manifests_refer_to_is_not_asked_for_ever() -> None:
    mounts = Mounts()
    for _ in range(3):
        assert mounts.of("a") is not Mounting.NOTHING
        mounts.learn("a", referenced=True, mounted=False)
    assert mounts.of("a") is Mounting.NOTHING
