"""The recorded data, as values: one good document a type, and what a control's `drift=` makes of it.

For tests, the embedded run and docs; the deployed app does not carry it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from guardrail.documents import Document
from guardrail.ids import ResourceId, parse, type_of
from guardrail.paths import ABSENT, Item, fold, put
from guardrail.paths import parse as parse_path
from guardrail.plans import part_url
from guardrail.values import Control, ResourceType

FOLDER = Path(__file__).resolve().parent


@dataclass(frozen=True, slots=True)
class Sample:
    """A document with its mounted parts as "+name" lists, and the api-version that it is told in."""

    id: ResourceId
    api_version: str
    body: Any

    @property
    def document(self) -> Document:
        """As it would be read, where it was last seen good as its type's good document is."""
        known = good(type_of(self.id)).body
        parts = frozenset(name for name in known if name.startswith("+"))
        own = {name: value for name, value in known.items() if name not in parts}
        return Document(self.id, type_of(self.id), self.body, {"": own, **{name: known[name] for name in parts}}, parts=parts)


@lru_cache(maxsize=64)
def _read(path: Path) -> Any:
    return json.loads(path.read_bytes())


def good(type: str) -> Sample:
    """The good document of a type: no control of it speaks."""
    text = _read(FOLDER / "resources" / f"{fold(type).replace('/', '.')}.json")
    return Sample(parse(text["id"]), text["api_version"], text["document"])


def drifted(control: Control) -> Sample:
    """The good document of the control's type with the control's `drift` laid over it."""
    sample = good(control.on)
    return Sample(sample.id, sample.api_version, laid(sample.body, control.drift))


def laid(body: Any, edits: Mapping[str, Any]) -> Any:
    for path, value in edits.items():
        body = put(body, parse_path(path), value)
    return body


def resources(sample: Sample, type: ResourceType) -> Iterator[tuple[str, str, Any]]:
    """(id, api-version, body) of the resource and of each mounted item, as ARM holds them: at URLs of their own."""
    if sample.body is ABSENT:
        return
    yield sample.id, sample.api_version, {name: value for name, value in sample.body.items() if not name.startswith("+")}
    for route in type.routes:
        path = parse_path(route.path)
        if not path or not str(path[0]).startswith("+"):
            continue
        for item in sample.body.get(path[0], ()):
            part = (str(path[0]), Item((("name", item["name"]),)))
            yield part_url(route, sample.id, part), route.api_version or type.api_version, item
