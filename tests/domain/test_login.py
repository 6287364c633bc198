from __future__ import annotations

import itertools

import pytest

from airflow_imagesync.domain.login import Login, login_for
from airflow_imagesync.domain.reference import Repository

LOGINS = [
    Login(key, *key.partition("/")[::2])
    for key in ("quay.io", "quay.io/coreos", "quay.io/coreos/etcd", "localhost:5000", "registry.io/a/b")
]


@pytest.mark.parametrize(
    ("repository", "key"),
    [
        ("quay.io/other/x", "quay.io"),
        ("quay.io/coreosx/x", "quay.io"),
        ("quay.io/coreos/flannel", "quay.io/coreos"),
        ("quay.io/coreos/etcd", "quay.io/coreos/etcd"),
        ("quay.io/coreos/etcd/sub", "quay.io/coreos/etcd"),
        ("quay.io/coreos/etcd2", "quay.io/coreos"),
        ("localhost:5000/x", "localhost:5000"),
        ("localhost/x", None),
        ("registry.io/a/c", None),
        ("registry.io/a/b/c", "registry.io/a/b"),
        ("nginx", None),
    ],
)
def test_longest_key_on_whole_parts_wins_in_any_order(repository: str, key: str | None) -> None:
    for logins in itertools.permutations(LOGINS):
        login = login_for(logins, Repository.parse(repository))
        assert (login.key if login else None) == key


@pytest.mark.parametrize(
    ("login", "expected"),
    [
        (Login(), False),
        (Login(insecure=True), False),
        (Login(username="u", password="p"), True),
        (Login(identity_token="t"), True),
    ],
    ids=["nothing", "transport only", "password", "token"],
)
def test_has_credentials(login: Login, expected: bool) -> None:
    assert login.has_credentials is expected


def test_secrets_are_not_shown() -> None:
    assert "s3cret" not in repr(Login(username="u", password="s3cret-1", identity_token="s3cret-2"))
