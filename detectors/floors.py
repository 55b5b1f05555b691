"""Floors of parameters that many controls share: "" if a value may stand in a policy, else why it is too weak.

Each returns or is a `Callable[[Any], str]`, as `Control.floors` wants it. A list never takes a wildcard: a name that
stands for all names switches a control off without saying so.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from typing import Any

from guardrail import ids
from guardrail.errors import Malformed
from guardrail.paths import fold

Floor = Callable[[Any], str]

_GUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_HOST = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,63}", re.ASCII)
_NAME = re.compile(r"[a-z0-9][a-z0-9._ /-]{0,199}", re.ASCII)


def flag(value: Any) -> str:
    return "" if isinstance(value, bool) else "must be true or false"


def _listed(value: Any, pattern: re.Pattern[str]) -> bool:
    return isinstance(value, (list, tuple)) and all(
        isinstance(one, str) and pattern.fullmatch(fold(one)) is not None for one in value)


def names(value: Any) -> str:
    return "" if _listed(value, _NAME) else "must be a list of names, without wildcards"


def hosts(value: Any) -> str:
    return "" if _listed(value, _HOST) else "must be a list of host names, without wildcards"


def guids(value: Any) -> str:
    return "" if _listed(value, _GUID) else "must be a list of GUIDs"


def resource_ids(value: Any) -> str:
    """Ids of resources: a subscription or a group would stand for all in it."""
    try:
        sound = isinstance(value, (list, tuple)) and all(
            not fold(ids.type_of(ids.parse(one))).startswith("microsoft.resources/") for one in value)
    except (Malformed, TypeError):
        sound = False
    return "" if sound else "must be a list of resource ids"


def some_of(known: Collection[str], always: Collection[str] = (), least: int = 1) -> Floor:
    """At least `least` of the known values, `always` among them."""
    folded, musts = {fold(one) for one in known}, {fold(one) for one in always}

    def floor(value: Any) -> str:
        if not isinstance(value, (list, tuple)) or not all(isinstance(one, str) and fold(one) in folded for one in value):
            return f"must be a list of {', '.join(known)}"
        given = {fold(one) for one in value}
        lost = [one for one in always if fold(one) not in given]
        if musts - given:
            return f"leaves out {', '.join(lost)}"
        return "" if len(given) >= least else "is empty"
    return floor


def one_of(*known: str) -> Floor:
    return lambda value: "" if value in known else f"must be one of {', '.join(known)}"


def none_of(*banned: str) -> Floor:
    """A list of names without these."""
    def floor(value: Any) -> str:
        found = [one for one in banned if isinstance(value, (list, tuple)) and fold(one) in map(fold, map(str, value))]
        return f"exempts {', '.join(found)}" if found else names(value)
    return floor


def keeps(*wanted: str) -> Floor:
    """A list of names with these."""
    def floor(value: Any) -> str:
        lost = [one for one in wanted if not isinstance(value, (list, tuple)) or fold(one) not in map(fold, map(str, value))]
        return f"leaves out {', '.join(lost)}" if lost else names(value)
    return floor
