"""Places in a JSON document, addressed by name and by key, never by index; read, written and compared. Pure.

    properties.contentFilters[name='Hate',source='Prompt'].blocking     an item of a list, by its own keys
    properties.enabledRules[='MFA']                                     an item that is its own key
    identity.userAssignedIdentities['/subscriptions/...']               a name that is not a plain word
    properties.rules[name='a';2]                                        the second of two with the same key
    +diagnosticSettings[name='logs']                                    a mounted part; "" is the resource itself

ARM's property names fold case, and null reads as absent.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import msgspec

from guardrail.errors import Malformed

ABSENT = msgspec.UNSET


@dataclass(frozen=True, slots=True)
class Item:
    """One item of a list: the fields that name it (no fields: the item's own value), and which of equals."""

    keys: tuple[tuple[str, Any], ...]
    nth: int = 1

    def names(self, value: Any) -> bool:
        """Whether `value` carries these keys."""
        return all(same(_field(value, key) if key else value, wanted) for key, wanted in self.keys)


@dataclass(frozen=True, slots=True)
class Each:
    """Any item of a list, in the pattern of a route: `properties.securityRules[name]`."""

    keys: tuple[str, ...]


Path = tuple["str | Item | Each", ...]

_PLAIN = r"[+$@\w-]+"
_TOKEN = re.compile(
    rf"(?P<dot>\.)?(?:(?P<word>{_PLAIN})|\['(?P<quoted>(?:[^']|'')*)'\]|\[(?P<each>{_PLAIN}(?:,{_PLAIN})*)\]|\[(?P<item>"
    rf"(?:{_PLAIN})?=(?:'(?:[^']|'')*'|[^',;\]]+)(?:,{_PLAIN}=(?:'(?:[^']|'')*'|[^',;\]]+))*)(?:;(?P<nth>\d+))?\])"
)
_PAIR = re.compile(rf"({_PLAIN})?=('(?:[^']|'')*'|[^',;\]]+)")
_LOWER = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz")


def fold(text: str) -> str:
    """ASCII lower case only: str.lower() would make the Kelvin sign a k."""
    return text.lower() if text.isascii() else text.translate(_LOWER)


@lru_cache(maxsize=8192)
def parse(text: str) -> Path:
    """The path that `text` shows. Errors: Malformed."""
    at, path = 0, list[str | Item | Each]()
    while at < len(text):
        token = _TOKEN.match(text, at)
        dotted = token is not None and token["dot"] is not None
        if token is None or dotted != (token["word"] is not None and at > 0):
            raise Malformed(f"not a path at {at}: {text[:200]!r}")
        path.append(_segment(token))
        at = token.end()
    return tuple(path)


def _segment(token: re.Match[str]) -> str | Item | Each:
    if token["word"] is not None:
        return token["word"]
    if token["quoted"] is not None:
        return token["quoted"].replace("''", "'")
    if token["each"] is not None:
        return Each(tuple(token["each"].split(",")))
    pairs = tuple((key or "", _literal(value)) for key, value in _PAIR.findall(token["item"]))
    return Item(pairs, int(token["nth"] or 1))


def _literal(text: str) -> Any:
    if text.startswith("'"):
        return text[1:-1].replace("''", "'")
    try:
        return json.loads(text)
    except ValueError as error:
        raise Malformed(f"not a value: {text[:200]!r}") from error


def show(path: Path) -> str:
    """The text of a path; parse(show(path)) == path."""
    parts = list[str]()
    for segment in path:
        if isinstance(segment, Each):
            parts.append(f"[{','.join(segment.keys)}]")
        elif isinstance(segment, Item):
            keys = ",".join(f"{key}={_quoted(value)}" for key, value in segment.keys)
            parts.append(f"[{keys}{f';{segment.nth}' if segment.nth > 1 else ''}]")
        elif re.fullmatch(_PLAIN, segment):
            parts.append(f".{segment}" if parts else segment)
        else:
            parts.append(f"[{_quoted(segment)}]")
    return "".join(parts)


def _quoted(value: Any) -> str:
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else json.dumps(value)


def join(*texts: str) -> str:
    """Paths end to end: join("a", "b") is "a.b"."""
    return show(tuple(segment for text in texts for segment in parse(text)))


def _spelled(body: Mapping[str, Any], name: str) -> str | None:
    """The key of `body` that is `name` but for its case."""
    if name in body:
        return name
    folded = fold(name)
    return next((key for key in body if fold(key) == folded), None)


def _field(value: Any, key: str) -> Any:
    found = _spelled(value, key) if isinstance(value, Mapping) else None
    return ABSENT if found is None else value[found]


def position(items: list[Any], item: Item) -> int | None:
    """Where `item` stands in the list now."""
    matches = (index for index, value in enumerate(items) if item.names(value))
    return next((index for count, index in enumerate(matches, 1) if count == item.nth), None)


def get(body: Any, path: Path, odd: Any = ABSENT) -> Any:
    """The value at `path`; ABSENT if nothing stands there, `odd` if the way leads through something of another shape."""
    for segment in path:
        if body is None or body is ABSENT:
            return ABSENT
        if isinstance(segment, str):
            if not isinstance(body, Mapping):
                return odd
            key = _spelled(body, segment)
            body = ABSENT if key is None else body[key]
        else:
            if not isinstance(body, list) or isinstance(segment, Each):
                return odd
            at = position(body, segment)
            body = ABSENT if at is None else body[at]
    return ABSENT if body is None else body


def put(body: Any, path: Path, value: Any) -> Any:
    """A copy of `body` with `value` at `path`; ABSENT removes; what lies between is made. Errors: Malformed."""
    if not path:
        return value
    head, rest = path[0], path[1:]
    if isinstance(head, str):
        return _put_name(body, head, rest, value)
    if isinstance(head, Each) or not (isinstance(body, list) or body is None or body is ABSENT):
        raise Malformed(f"no list to write {show(path)} into")
    items = list(body) if isinstance(body, list) else []
    at = position(items, head)
    if at is None:
        if value is ABSENT:
            return items if isinstance(body, list) else ABSENT
        items.append(_named(put(dict(head.keys) if rest else ABSENT, rest, value), head))
        return items
    inner = put(items[at], rest, value)
    if inner is ABSENT:
        del items[at]
    else:
        items[at] = _named(inner, head)
    return items


def _named(value: Any, item: Item) -> Any:
    """An item carries the keys that address it, also where a plan left them out as read-only."""
    if isinstance(value, Mapping):
        return {**{key: wanted for key, wanted in item.keys if key and _spelled(value, key) is None}, **value}
    return value


def _put_name(body: Any, name: str, rest: Path, value: Any) -> Any:
    if not (isinstance(body, Mapping) or body is None or body is ABSENT):
        raise Malformed(f"no object to write {name!r} into")
    copy = dict(body) if isinstance(body, Mapping) else {}
    key = _spelled(copy, name) or name
    inner = put(copy.get(key, ABSENT), rest, value)
    if inner is ABSENT:
        copy.pop(key, None)
        return copy if isinstance(body, Mapping) else ABSENT
    copy[key] = inner
    return copy


def agrees(now: Any, want: Any) -> bool:
    """Whether `now` holds all that `want` says; what only the server writes may be more. Strings fold case."""
    if now is want:             # documents made by `put` share what it did not touch
        return True
    if want is None or want is ABSENT:
        return now is None or now is ABSENT
    if isinstance(want, Mapping):
        return isinstance(now, Mapping) and all(agrees(_field(now, key), value) for key, value in want.items())
    if isinstance(want, (list, tuple)):
        return isinstance(now, (list, tuple)) and len(now) == len(want) and _paired(list(now), want)
    if isinstance(want, str):
        return isinstance(now, str) and fold(now) == fold(want)
    return isinstance(now, bool) == isinstance(want, bool) and bool(now == want)


def _paired(now: list[Any], want: list[Any] | tuple[Any, ...]) -> bool:
    """Each wanted item has an item of its own; order is the server's."""
    for index, wanted in enumerate(want):
        if index < len(now) and agrees(now[index], wanted):
            continue
        found = next((at for at in range(index, len(now)) if agrees(now[at], wanted)), None)
        if found is None:
            return False
        now.insert(index, now.pop(found))
    return True


def same(one: Any, other: Any) -> bool:
    """Equal but for letter case, order of lists, and null against absent."""
    return agrees(one, other) and agrees(other, one)


def under(path: Path, prefix: Path) -> bool:
    """Whether `path` is `prefix` or lies below it; a pattern's Each stands for any item with those keys."""
    return len(path) >= len(prefix) and all(_fits(*pair) for pair in zip(path, prefix, strict=False))


def _fits(segment: str | Item | Each, pattern: str | Item | Each) -> bool:
    if isinstance(segment, str) and isinstance(pattern, str):
        return fold(segment) == fold(pattern)
    if isinstance(segment, Item) and isinstance(pattern, Each):
        return tuple(key for key, _ in segment.keys) == pattern.keys
    if isinstance(segment, Item) and isinstance(pattern, Item):
        return segment.nth == pattern.nth and same(dict(segment.keys), dict(pattern.keys))
    return segment == pattern


def walk(body: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every leaf of a document with its path; a list is a leaf."""
    if isinstance(body, Mapping) and body:
        for key, value in body.items():
            yield from walk(value, (*path, key))
    else:
        yield path, body
