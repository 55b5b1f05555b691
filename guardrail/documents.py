"""A resource as one document, and the Node through which a check looks at it. Pure.

A check never sees ARM, a clock or another resource. What it touches and cannot read (a part that was refused, a value
of another shape) is noted here, so that `judge` makes it a finding of its own: unreadable, never compliant.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from guardrail.ids import ResourceId
from guardrail.paths import ABSENT, Item, Path, fold, get, parse, show, under
from guardrail.values import Drift

_ODD = object()


@dataclass(frozen=True, slots=True)
class Document:
    """What ARM returns, with the parts that controls ask for mounted into it under "+name"."""

    id: ResourceId
    type: str
    body: Any                                                       # ABSENT: 404
    good: Mapping[str, Any] = field(default_factory=dict)           # part -> what it held when it last was good
    unreadable: Mapping[str, str] = field(default_factory=dict)     # part -> why
    parts: frozenset[str] = frozenset()                             # mounted parts that were read

    @property
    def gone(self) -> bool:
        return self.body is ABSENT

    def get(self, path: str) -> Any:
        return get(self.body, parse(path))

    def node(self) -> Node:
        return Node(self, self.body, (), {})


class Node:
    """A place in a document that knows its path and its value; it never raises on odd JSON."""

    __slots__ = ("_document", "_path", "_value", "troubles")

    def __init__(self, document: Document, value: Any, path: Path, troubles: dict[str, str]) -> None:
        self._document, self._value, self._path = document, value, path
        self.troubles = troubles        # path -> why it could not be read; shared by all nodes of one check

    def path(self, below: str = "") -> str:
        """Where it stands in the document, as a drift says it."""
        return show((*self._path, *parse(below)))

    def get(self, path: str = "") -> Any:
        """The value there; ABSENT for nothing, for null, and for what cannot be read."""
        below = parse(path)
        at = (*self._path, *below)
        if at and isinstance(at[0], str) and at[0].startswith("+") and at[0] not in self._document.parts:
            self.troubles.setdefault(at[0], self._document.unreadable.get(at[0], f"{at[0]} was not read"))
            return ABSENT
        for part, why in self._document.unreadable.items():
            if under(at, parse(part)):
                self.troubles[show(at[:1]) if part else ""] = why
                return ABSENT
        value = get(self._value, below, _ODD)
        if value is _ODD:
            self.troubles[show(at)] = f"{show(at)} cannot be reached: something on the way has another shape"
            return ABSENT
        return value

    def text(self, path: str = "") -> str:
        """The string there, folded for comparison; "" if nothing or something else stands there."""
        value = self.get(path)
        if value is not ABSENT and not isinstance(value, str):
            self._odd(path, "a string")
        return fold(value) if isinstance(value, str) else ""

    def items(self, path: str, *key: str) -> Iterator[Node]:
        """The items of a list, each addressed by the fields `key`; without any, by its own value (strings, numbers)."""
        value = self.get(path)
        if value is ABSENT:
            return
        if not isinstance(value, list):
            self._odd(path, "a list")
            return
        seen: dict[str, int] = {}
        for item in value:
            named = self._name(path, item, key)
            if named is None:
                continue
            token = fold(repr(named))
            seen[token] = seen.get(token, 0) + 1
            yield Node(self._document, item, (*self._path, *parse(path), Item(named, seen[token])), self.troubles)

    def _name(self, path: str, item: Any, key: Sequence[str]) -> tuple[tuple[str, Any], ...] | None:
        if not key:
            if isinstance(item, (str, int, float)):
                return (("", item),)
            self._odd(path, "a list of plain values")
            return None
        fields = [get(item, parse(name), _ODD) for name in key]
        if any(not isinstance(value, (str, int, bool)) for value in fields):
            self._odd(path, f"a list of items with {', '.join(key)}")
            return None
        return tuple(zip(key, fields, strict=True))

    def expect(self, path: str, *, one_of: Sequence[Any] = (), at_least: Any = None, order: Sequence[Any] = (),
               absent: Any = ABSENT, known: Sequence[Any] = ()) -> Iterator[Drift]:
        """Drift unless the value is one of `one_of`, or not before `at_least` in `order` (weakest first).

        `absent` is what Azure takes a missing value for. The first of `one_of`, or `at_least`, is what is wanted. A value
        that is neither good nor known to be bad (booleans; `absent`; `order`; `known`) is left to a person.
        """
        before = len(self.troubles)
        observed = self.get(path)
        if len(self.troubles) > before:
            return
        value = absent if observed is ABSENT else observed
        if any(_equal(value, good) for good in one_of):
            return
        ranks = [rank for rank, known_value in enumerate(order) if _equal(value, known_value)]
        if at_least is not None and ranks and ranks[0] >= order.index(at_least):
            return
        wanted = at_least if at_least is not None else (one_of[0] if one_of else ABSENT)
        is_known = (value is ABSENT or ranks or _equal(value, absent) or any(_equal(value, bad) for bad in known)
                    or (isinstance(value, bool) and isinstance(wanted, bool)))
        at = self.path(path)
        if is_known:
            yield Drift(at, observed, wanted)
        else:
            yield Drift(at, observed, wanted, decided=False, note="a value that we do not know is not written over")

    def missing(self, path: str, item: Any, *key: str, learned: bool | None = None) -> Iterator[Drift]:
        """This item should be in the list; `key` as in `items`, `learned` as in Drift."""
        named = tuple((name, get(item, parse(name))) for name in key) or (("", item),)
        yield Drift(show((*self._path, *parse(path), Item(named))), ABSENT, item, learned=learned)

    def unwanted(self, note: str = "") -> Iterator[Drift]:
        """This node should not be there."""
        yield Drift(self.path(), self._value, ABSENT, note=note)

    def undecided(self, path: str, note: str) -> Iterator[Drift]:
        """Something is wrong there, and only a person knows what is right."""
        yield Drift(self.path(path), self.get(path), ABSENT, decided=False, note=note)

    @property
    def known_good(self) -> Node:
        """The same place when its part last was good; a node of nothing if it never was."""
        good = dict(self._document.good.get("") or {})
        good.update({part: value for part, value in self._document.good.items() if part})
        parts = frozenset(part for part in good if part.startswith("+"))
        document = Document(self._document.id, self._document.type, good, parts=parts)
        return Node(document, get(good, self._path), self._path, {})

    @property
    def id(self) -> ResourceId:
        return self._document.id

    def _odd(self, path: str, wanted: str) -> None:
        at = self.path(path)
        self.troubles[at] = f"{at or 'the resource'} is not {wanted}"


def _equal(value: Any, wanted: Any) -> bool:
    """Strings fold ASCII case and nothing else (no trimming: "Disabled " is another value); true is not 1."""
    if isinstance(value, str) and isinstance(wanted, str):
        return fold(value) == fold(wanted)
    return type(value) is type(wanted) and bool(value == wanted)
