"""What ``check`` shows of a configuration: what each rule means, and which login it will use."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from airflow_imagesync.domain.reference import Repository
from airflow_imagesync.domain.rules import AllTags, ByDigest, Destination, Rule, SyncConfig, TagPattern
from airflow_imagesync.errors import Problem


def check_document(config: SyncConfig, problems: Iterable[Problem] = ()) -> dict[str, Any]:
    """Return the object of ``check -o json``.

    `problems` are the mistakes that were found; `config` then has the rules that are right.
    """
    return {
        "rules": [_rule(rule, config) for rule in config.rules],
        "warnings": list(config.warnings),
        "errors": [
            {"file": one.file, "rule": one.rule, "field": one.field, "message": one.message} for one in problems
        ],
    }


def _rule(rule: Rule, config: SyncConfig) -> dict[str, Any]:
    return {
        "rule": rule.index,
        "source": str(rule.source),
        "select": _select(rule),
        "destinations": [_destination(rule, one, config) for one in rule.destinations],
        "source_auth": _login_key(rule.source, config),
    }


def _select(rule: Rule) -> dict[str, Any]:
    select = rule.select
    if isinstance(select, AllTags):
        return {"all": True}
    if isinstance(select, TagPattern):
        return {"regex": select.pattern}
    if isinstance(select, ByDigest):
        return {"digest": select.digest}
    return {"tags": list(dict.fromkeys(select.tags))}


def _destination(rule: Rule, destination: Destination, config: SyncConfig) -> dict[str, Any]:
    by_digest_only = isinstance(rule.select, ByDigest) and not destination.tags
    return {
        "repository": str(destination.repository),
        "tags": list(destination.tags) if destination.tags else None,
        "digest": rule.select.digest if isinstance(rule.select, ByDigest) and by_digest_only else None,
        "auth": _login_key(destination.repository, config),
    }


def _login_key(repository: Repository, config: SyncConfig) -> str | None:
    login = config.login_for(repository)
    return login.key if login is not None else None
