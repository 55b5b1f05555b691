"""Dotted paths into JSON, without case: `properties.securityRules[].properties.access`. Never raises on odd JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Body = dict[str, Any]


class _Omit:
    """What a computed default gives to say that nothing is shown."""

    def __deepcopy__(self, memo: Any) -> _Omit:
        return self


OMIT = _Omit()


def spelling(holder: Body, key: str) -> str:
    """The key as the object already spells it, else as given."""
    if key in holder:
        return key
    return next((known for known in holder if known.lower() == key.lower()), key)


def places(body: Any, path: str, make: bool = False) -> Iterator[tuple[Body, str]]:
    """The objects that hold (or would hold) the path's last key. `make` creates objects between, never list items."""
    head, _, tail = path.partition(".")
    if head.endswith("[]"):
        items = body.get(spelling(body, head[:-2])) if isinstance(body, dict) else None
        if isinstance(items, list) and tail:
            for item in items:
                yield from places(item, tail, make)
        return
    if not isinstance(body, dict):
        return
    making, make, head = make, make and not head.endswith("?"), head.removesuffix("?")
    key = spelling(body, head)
    if not tail:
        yield body, key
        return
    if make and key not in body:
        body[key] = {}
    yield from places(body.get(key), tail, making)


def section(body: Body, path: str) -> Body:
    """The object at a path, made where nothing is; where anything else stands, a loose one that changes nothing."""
    for holder, key in places(body, path, make=True):
        found = holder.setdefault(key, {})
        return found if isinstance(found, dict) else {}
    return {}


def peek(body: Any, path: str) -> Body:
    """The object at a path to look into; an empty one where none is."""
    found = read(body, path)
    return found if isinstance(found, dict) else {}


def items(body: Any, path: str) -> list[Body]:
    """The objects in the list at a path; none where no list is."""
    found = read(body, path)
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []


def read(body: Any, path: str) -> Any:
    """The value at a path, None if there is none."""
    for holder, key in places(body, path):
        return holder.get(key)
    return None


def has(body: Any, path: str) -> bool:
    return any(key in holder for holder, key in places(body, path))


def write(body: Body, path: str, value: Any) -> None:
    for holder, key in places(body, path, make=True):
        holder[key] = value


def drop(body: Body, path: str) -> None:
    for holder, key in list(places(body, path)):
        holder.pop(key, None)
