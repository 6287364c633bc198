"""The entries under ``rules`` or ``images`` turned into rules, and checked against each other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from airflow_imagesync.config.defaults import ForAllRules, parse_platforms
from airflow_imagesync.config.environment import Environment, unset_message
from airflow_imagesync.config.plain import Malformed
from airflow_imagesync.config.schema import RuleEntry, read_entry
from airflow_imagesync.domain.notation import (
    check_destination,
    parse_destination,
    parse_source,
    without_repetition,
)
from airflow_imagesync.domain.platform import Platform
from airflow_imagesync.domain.reference import (
    DOCKER_HUB,
    DOCKER_HUB_ALIASES,
    ImageReference,
    Repository,
)
from airflow_imagesync.domain.rules import ByDigest, Destination, Rule, Select, Tags
from airflow_imagesync.errors import InvalidReference, Problem


class RuleReader:
    """Reads rules one by one; problems are told for `file`.

    ``problems`` grows while reading, and so does ``aliases``: other names of Docker Hub, with the rules that
    use them.
    """

    def __init__(self, for_all: ForAllRules, *, file: str | None, environment: Environment) -> None:
        self._for_all = for_all
        self._file = file
        self._environment = environment
        self.problems: list[Problem] = []
        self.aliases: dict[str, list[int]] = {}

    def read(self, index: int, value: object) -> Rule | None:
        """Return the rule at position `index`.

        None where it has a mistake, or variables of an environment that is not known yet.
        """
        if isinstance(value, Malformed):
            self._problem(index, None, value.message)
            return None
        before = len(self.problems)
        entry, wrong = read_entry(RuleEntry, value)
        for key, message in wrong:
            self._problem(index, key, message)
        told = {key for key, _ in wrong}
        if not told & {None, "source"} and entry.source is None:
            self._problem(index, "source", "found no source, expected registry/repository with or without tags")
        if not told & {None, "destination"} and entry.destination is None:
            self._problem(index, "destination", 'found no destination, expected one, a list, or "" for the default')
        source = self._source(index, entry.source)
        destinations = self._destinations(index, entry.destination or [], source)
        platforms = self._platforms(index, entry.platforms)
        if source is None or destinations is None or len(self.problems) > before:
            return None
        select, destinations = without_repetition(source[1], destinations)
        return Rule(
            index,
            source[0],
            select,
            destinations,
            platforms,
            allow_empty=bool(entry.allow_empty),
            force=self._for_all.force or bool(entry.force),
            trust_records=self._for_all.trust_records if entry.trust_records is None else entry.trust_records,
            full_check_every=self._for_all.full_check_every,
        )

    def _problem(self, index: int, key: str | None, message: str) -> None:
        self.problems.append(Problem(message, file=self._file, rule=index, field=key))

    def _fill(self, index: int, key: str, written: str) -> str | None:
        """Return a source or destination with its variables replaced; None where that can't be done."""
        filled = self._environment.fill_name(written)
        if filled.unset:
            self._problem(index, key, unset_message(filled.unset))
        elif filled.text:
            host = filled.text.partition("/")[0].lower()
            if host in DOCKER_HUB_ALIASES and host != DOCKER_HUB:
                self.aliases.setdefault(host, []).append(index)
        return filled.text

    def _source(self, index: int, written: str | None) -> tuple[Repository, Select] | None:
        text = self._fill(index, "source", written) if written is not None else None
        if text is None:
            return None
        try:
            return parse_source(text)
        except InvalidReference as error:
            self._problem(index, "source", str(error))
            return None

    def _destinations(
        self, index: int, written: list[str], source: tuple[Repository, Select] | None
    ) -> tuple[Destination, ...] | None:
        """Return the destinations; None where one of them has a mistake or is not known yet."""
        found = []
        for one in written:
            text = self._fill(index, "destination", one)
            if text is None:
                continue
            try:
                destination = self._destination(text, source)
            except InvalidReference as error:
                self._problem(index, "destination", str(error))
            else:
                if destination is not None:
                    found.append(destination)
        return tuple(found) if len(found) == len(written) else None

    def _destination(self, text: str, source: tuple[Repository, Select] | None) -> Destination | None:
        place = self._for_all.place
        if text:
            if source is not None:
                return parse_destination(text, source[1])
            check_destination(text)
            return None
        may_come = not self._environment.known and place is not None and not place.complete
        if source is None or place is None or may_come:
            return None
        repository, select = source
        return parse_destination(str(place.destination(repository)), select)

    def _platforms(self, index: int, written: list[str] | None) -> tuple[Platform, ...]:
        """Return the platforms that count for a rule which says `written`, None for nothing."""
        own = self._for_all.default_platforms
        if written is not None:
            try:
                own = parse_platforms(written)
            except InvalidReference as error:
                self._problem(index, "platforms", str(error))
        return self._for_all.platforms or own


def find_conflicts(rules: Iterable[Rule], *, file: str | None, called: Callable[[int], str]) -> Iterator[Problem]:
    """Yield a problem for each two rules, or one, that send different things to one destination tag.

    Only tags that are written down are compared; what a listing brings is compared when it is known. The same
    image to the same tag in two rules is no mistake: whoever plans does it once, for the first of them. `called`
    gives what to call the rule at a position.
    """
    first: dict[ImageReference, tuple[Rule, ImageReference]] = {}
    told: set[tuple[int, int]] = set()
    for rule in rules:
        if not isinstance(rule.select, (Tags, ByDigest)):
            continue
        for source, destination in rule.pairs():
            if destination.tag is None:
                continue
            other, other_source = first.setdefault(destination, (rule, source))
            if (other.index, rule.index) in told:
                continue
            if source != other_source:
                where = "" if other is rule else f"{called(other.index)} and {called(rule.index)} differ: "
                message = (
                    f"{where}{other_source} and {source} both go to {destination}; "
                    "expected one source for a destination tag"
                )
                yield Problem(message, file=file, rule=rule.index, field="destination")
            elif set(rule.platforms) != set(other.platforms):
                message = (
                    f"{called(other.index)} and {called(rule.index)} copy {source} to {destination} with different "
                    "platforms; expected the same"
                )
                yield Problem(message, file=file, rule=rule.index, field="platforms")
            else:
                continue
            told.add((other.index, rule.index))
