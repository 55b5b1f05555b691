"""Children that Resource Graph may not list, by their parents' own lists: computes, channels, projects, model versions.

Which child types it has is documented nowhere in full, so all of those with an enabled control are listed, a request a
parent and type. A list is a hint like a row of the graph: what it names is looked at.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from guardrail import ids
from guardrail.errors import Gone, Malformed
from guardrail.ids import ResourceId, subscription, url_path
from guardrail.paths import fold
from guardrail.roles import above
from guardrail.turn import Engine


@dataclass(frozen=True, slots=True)
class Kind:
    """A guarded child type: the lists that lead to it from its topmost parent, and their api-version."""

    name: str
    lists: tuple[str, ...]          # ("models", "versions")
    api_version: str


def kinds(engine: Engine) -> Mapping[str, tuple[Kind, ...]]:
    """Topmost type (folded) -> the guarded child types below it that an enabled control is on."""
    found = dict[str, tuple[Kind, ...]]()
    enabled = {fold(control.on) for control in engine.controls}
    for name, type in engine.types.items():
        if (over := above(type.name)) and name in enabled:
            kind = Kind(type.name, tuple(type.name.split("/")[2:]), type.api_version)
            found[fold(over[0])] = (*found.get(fold(over[0]), ()), kind)
    return found


async def children(engine: Engine, parent: ResourceId, kind: Kind) -> list[ResourceId]:
    """All resources of a child type below one parent; none where Azure knows no such list. Errors: Retryable, Final."""
    parents = [parent]
    for name in kind.lists:
        parents = [child for one in parents for child in await _listed(engine, one, name, kind.api_version)]
    return parents


async def _listed(engine: Engine, parent: ResourceId, name: str, api_version: str) -> list[ResourceId]:
    url = f"{url_path(parent)}/{name}"
    try:
        items = await engine.arm.list(url, api_version, subscription(parent))
    except Gone:
        return []
    return [id for item in items if isinstance(item, Mapping) for id in _id(item.get("id"), parent, name)]


def _id(text: object, parent: ResourceId, name: str) -> Iterator[ResourceId]:
    """The id of a list's item, if it is one of that list: an answer leads nowhere else."""
    try:
        found = ids.parse(text) if isinstance(text, str) else None
    except Malformed:
        return
    if found and ids.fold(found).startswith(f"{ids.fold(parent)}/{fold(name)}/") and ids.fold(found).count("/") == (
            parent.count("/") + 2):
        yield found
