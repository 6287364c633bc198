"""Reading a configuration from files or text as a whole: problems are collected, none ends the reading."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from airflow_imagesync.config import shapes
from airflow_imagesync.config.advice import advice, hub_aliases
from airflow_imagesync.config.defaults import Overrides, read_settings
from airflow_imagesync.config.documents import check_text, parse_document, read_document, with_lines
from airflow_imagesync.config.environment import Environment
from airflow_imagesync.config.line_text import looks_like_lines
from airflow_imagesync.config.logins import LoginReader
from airflow_imagesync.config.places import Places
from airflow_imagesync.config.rules import RuleReader, find_conflicts
from airflow_imagesync.config.shapes import Parts
from airflow_imagesync.domain.rules import DEFAULT_CONCURRENCY, DEFAULT_RETRIES, SyncConfig
from airflow_imagesync.errors import ConfigError, Problem


@dataclass(frozen=True, slots=True)
class ReadResult:
    """A configuration and every mistake in it; where there are any, ``config`` has only what was right.

    A configuration with mistakes is for showing. It must not be run: what is left of it may mean something
    that nobody asked for.
    """

    config: SyncConfig
    problems: tuple[Problem, ...] = ()

    def checked(self) -> SyncConfig:
        """Return the configuration; raise ConfigError when it has mistakes."""
        if self.problems:
            raise ConfigError(self.problems)
        return self.config


@dataclass(frozen=True, slots=True)
class ParsedSyntax:
    """What can be said of a configuration without an environment: enough to build a DAG for it."""

    rule_count: int
    concurrency: int = DEFAULT_CONCURRENCY
    retries: int = DEFAULT_RETRIES


def load_config(
    config: str | Path | None = None,
    *,
    auth: str | Path | None = None,
    images: str | Path | None = None,
    overrides: Overrides | None = None,
    environ: Mapping[str, str] | None = None,
) -> SyncConfig:
    """Return the configuration in the file `config`, or in image-syncer's pair of files `auth` and `images`.

    `auth` may be left out. `environ` are the environment variables; None for those of the process. Raises
    ConfigError with every mistake found.
    """
    return read_config(config, auth=auth, images=images, overrides=overrides, environ=environ).checked()


def parse_config(
    text: str,
    *,
    name: str | None = None,
    overrides: Overrides | None = None,
    environ: Mapping[str, str] | None = None,
) -> SyncConfig:
    """Return the configuration in `text`: a whole one, or rules alone.

    That is YAML, JSON, or one ``source destination`` a line, where the first line that says something begins with a
    name and no colon is behind it. Rules alone, as YAML or JSON, are image-syncer's ``images``, a list of rules, of
    pairs ``[source, destination]`` or of texts ``source destination``, or one rule. Problems call the text `name`. A
    ``ca_file`` must be an absolute path. Raises ConfigError with every mistake found.
    """
    return read_text(text, name=name, overrides=overrides, environ=environ).checked()


def read_config(
    config: str | Path | None = None,
    *,
    auth: str | Path | None = None,
    images: str | Path | None = None,
    overrides: Overrides | None = None,
    environ: Mapping[str, str] | None = None,
) -> ReadResult:
    """Return what `load_config` would, with the mistakes beside it instead of raised."""
    environment = Environment(os.environ if environ is None else environ)
    try:
        parts, folder = _from_files(config, auth, images)
    except ConfigError as error:
        return ReadResult(SyncConfig(), error.problems)
    return _assemble(parts, folder, overrides or Overrides(), environment)


def read_text(
    text: str,
    *,
    name: str | None = None,
    overrides: Overrides | None = None,
    environ: Mapping[str, str] | None = None,
    may_be_empty: bool = False,
) -> ReadResult:
    """Return what `parse_config` would, with the mistakes beside it instead of raised.

    `may_be_empty` is whether an empty list or mapping means that there is nothing to do, instead of a mistake; an
    empty text is one always.
    """
    environment = Environment(os.environ if environ is None else environ)
    text = text.removeprefix("\ufeff")
    document: object = None
    try:
        if looks_like_lines(text):
            check_text(text, name=name)
            parts = shapes.line_text(text, name)
        else:
            document = parse_document(text, name=name)
            parts = shapes.form_text(document, name, may_be_empty=may_be_empty)
    except ConfigError as error:
        return ReadResult(SyncConfig(), error.problems)
    result = _assemble(parts, None, overrides or Overrides(), environment)
    if not result.problems or not (parts.one_a_line or "\n" in text.strip()):
        return result  # one line of YAML or JSON holds everything, so that its number says nothing
    if not parts.one_a_line:
        document = with_lines(document, text)
        parts = shapes.form_text(document, name, may_be_empty=may_be_empty)
    places = Places(document, parts)
    problems = sorted(map(places.told, result.problems), key=lambda problem: problem.line or 0)
    return replace(result, problems=tuple(problems))


def check_syntax(
    config: str | Path | None = None,
    *,
    auth: str | Path | None = None,
    images: str | Path | None = None,
) -> ParsedSyntax:
    """Return what is known of a configuration without looking at the environment, or at files it names.

    Values with variables, and empty destinations whose default may be a variable, are not judged. Raises
    ConfigError with every mistake that no environment could mend.
    """
    parts, folder = _from_files(config, auth, images)
    result = _assemble(parts, folder, Overrides(), Environment(None)).checked()
    return ParsedSyntax(len(parts.rules), result.concurrency, result.retries)


def _from_files(config: str | Path | None, auth: str | Path | None, images: str | Path | None) -> tuple[Parts, Path]:
    """Return the parts of the configuration in these files, and the folder its paths are relative to."""
    if config is not None:
        if auth is not None or images is not None:
            raise ConfigError("found a file and a pair of files; expected one file, or auth and images")
        return shapes.one_file(read_document(config), str(config)), Path(config).parent
    if images is None:
        raise ConfigError("found no file with rules; expected one file, or an images file with an auth file")
    problems: list[Problem] = []
    documents: list[object] = []
    for path in (auth, images):
        try:
            documents.append(read_document(path) if path is not None else None)
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
    parts = shapes.pair(documents[0], str(auth) if auth is not None else None, documents[1], str(images))
    return parts, Path(auth if auth is not None else images).parent


def _assemble(parts: Parts, folder: Path | None, overrides: Overrides, environment: Environment) -> ReadResult:
    """Read the parts of a configuration and check them against each other."""
    key = parts.registries_key
    login_reader = LoginReader(key, file=parts.registries_file, folder=folder, environment=environment)
    logins = login_reader.read(parts.registries)
    settings = read_settings(parts.defaults, overrides, environment, file=parts.file, folder=folder)
    rule_reader = RuleReader(settings.for_all, file=parts.file, environment=environment)
    read = [rule_reader.read(index, value) for index, value in enumerate(parts.rules)]
    rules = tuple(rule for rule in read if rule is not None)
    conflicts = list(find_conflicts(rules, file=parts.file, called=parts.called))
    problems = (
        *parts.problems,
        *login_reader.problems,
        *settings.problems,
        *sorted([*rule_reader.problems, *conflicts], key=lambda problem: problem.rule or 0),
    )
    in_conflict = {problem.rule for problem in conflicts}
    rules = tuple(rule for rule in rules if rule.index not in in_conflict)
    config = SyncConfig(rules, logins, settings.concurrency, settings.retries, settings.timeouts, settings.docker)
    warnings = [*login_reader.warnings, *hub_aliases(rule_reader.aliases)]
    if not problems and environment.known:
        # Which logins are used can only be told when no rule is missing.
        warnings += advice(config, key)
    return ReadResult(replace(config, warnings=tuple(warnings)), problems)
