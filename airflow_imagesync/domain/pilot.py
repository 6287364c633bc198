"""The images of a plan that are copied first, so that a person or a failure may stop the rest."""

from __future__ import annotations

import re
from collections import defaultdict
from fnmatch import fnmatchcase
from itertools import chain, islice, zip_longest

from airflow_imagesync.domain.plan import ImagePair, PairState, Plan
from airflow_imagesync.errors import ConfigError


def pilot_positions(plan: Plan, pilot: str) -> set[int]:
    """
    Return the positions of the images in a plan that go first; of images that are the same, none.

    :param plan: the plan
    :param pilot: how many images, which are taken from the rules in turn; or patterns with blanks or commas between
        them, where ``*`` stands for anything: an image goes first whose source or destination one of them matches, as
        a whole or without its registry
    :raises ConfigError: for a number below 1, and when no image of the plan matches, not even one that is the same
    """
    wanted = re.split(r"[\s,]+", pilot.strip())
    if len(wanted) == 1 and re.fullmatch(r"[+-]?\d+", wanted[0]):
        return set(_first(plan, int(wanted[0])))
    found = [position for position, pair in enumerate(plan.images) if any(_matches(pair, one) for one in wanted)]
    if not found and plan.images:
        raise ConfigError(
            f"pilot: no image of the plan matches {' '.join(wanted)!r}; expected a number of images, or patterns of "
            "sources or destinations such as */web:*"
        )
    return {position for position in found if plan.images[position].state is not PairState.SAME}


def _first(plan: Plan, number: int) -> list[int]:
    """Return the first images of all rules in turn: a pilot that is one rule's tells little of the others."""
    if number < 1:
        raise ConfigError(f"pilot: found {number}, expected at least 1 image, or nothing for no pilot")
    by_rule: dict[int, list[int]] = defaultdict(list)
    for position, pair in enumerate(plan.images):
        if pair.state in (PairState.NEW, PairState.CHANGED):
            by_rule[pair.rule].append(position)
    turns = chain.from_iterable(zip_longest(*by_rule.values()))
    return list(islice((position for position in turns if position is not None), number))


def _matches(pair: ImagePair, pattern: str) -> bool:
    names = (pair.source, pair.destination)
    return any(fnmatchcase(name, pattern) or fnmatchcase(name.partition("/")[2], pattern) for name in names)
