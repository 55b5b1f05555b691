"""Nodes that note what a check asks of them: places, values that it wants or knows, texts that it compares with.

A typo in one of these does not fail: the check merely never speaks, or never falls silent.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from guardrail.documents import Node
from guardrail.paths import ABSENT, Item, parse
from guardrail.paths import Path as Place
from guardrail.values import Drift


@dataclass
class Asked:
    """What a check looked at, compared with and yielded."""

    paths: set[Place] = field(default_factory=set)
    values: set[tuple[Place, Any]] = field(default_factory=set)         # spelled as the value is to be written
    compared: set[tuple[Place, str]] = field(default_factory=set)       # with a folded text
    drifts: list[Drift] = field(default_factory=list)


class Told(str):
    """A text that remembers what it was compared with."""

    __slots__ = ("asked", "path")
    asked: Asked
    path: Place
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        if isinstance(other, str) and other:
            self.asked.compared.add((self.path, str(other)))
        return str.__eq__(self, other)

    def __ne__(self, other: object) -> bool:
        return not self == other


@contextmanager
def watched() -> Iterator[Asked]:
    """Nodes that note what they are asked for."""
    asked = Asked()
    reads, texts, lists, expects = Node.get, Node.text, Node.items, Node.expect

    def read(node: Node, path: str = "") -> Any:
        asked.paths.add((*node._path, *parse(path)))
        return reads(node, path)

    def text(node: Node, path: str = "") -> str:
        told = Told(texts(node, path))
        told.asked, told.path = asked, (*node._path, *parse(path))
        return told

    def items(node: Node, path: str, *key: str) -> Iterator[Node]:
        asked.paths |= {(*node._path, *parse(path), Item(()), *parse(name)) for name in key}
        return lists(node, path, *key)

    def expect(node: Node, path: str, **given: Any) -> Iterator[Drift]:
        values = [given.get("at_least", ABSENT), given.get("absent", ABSENT), *given.get("one_of", ()),
                  *given.get("order", ()), *given.get("known", ())]
        asked.values |= {((*node._path, *parse(path)), value) for value in values if isinstance(value, (str, int))}
        return expects(node, path, **given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Node, "get", read)
        patch.setattr(Node, "text", text)
        patch.setattr(Node, "items", items)
        patch.setattr(Node, "expect", expect)
        yield asked
