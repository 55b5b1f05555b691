"""Resources for a simulator: recorded samples, and worlds made from them by name (recorded/story/world.json)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import recorded
from cli.documents import BY_NAME
from cli.output import Code, Ended
from guardrail import ids
from guardrail.errors import Malformed
from guardrail.paths import fold
from guardrail.settings import LOCAL_GROUP
from recorded import Sample
from simulator import Simulator

STORY, GOOD = recorded.FOLDER / "story", recorded.FOLDER / "resources"


def samples(folder: Path) -> Iterator[Sample]:
    """Every {"id", "api_version", "document"} and {"like": type, "id"} of the *.json there. Errors: Ended."""
    files = sorted(folder.rglob("*.json")) if folder.is_dir() else [folder]
    for file in files:
        try:
            content = json.loads(file.read_bytes())
        except (OSError, ValueError) as error:
            raise Ended(Code.USAGE, f"{file}: {error}. cure: JSON files with id, api_version and document.") from error
        for entry in content if isinstance(content, list) else [content]:
            if isinstance(entry, dict) and "id" in entry:
                yield sample(entry, str(file))


def sample(entry: dict[str, Any], where: str) -> Sample:
    try:
        id = ids.parse(entry["id"])
        if "like" in entry:
            return renamed(recorded.good(entry["like"]), id)
        return Sample(id, entry["api_version"], entry["document"])
    except (Malformed, KeyError, OSError) as error:
        raise Ended(Code.USAGE, f"{where}: {error}. cure: an entry has id, api_version and document.") from error


def renamed(good: Sample, id: ids.ResourceId) -> Sample:
    """The good document as another resource's: its id, its group and its name wherever they stand in it."""
    group, new_group = (one.split("/providers/")[0] for one in (good.id, id))
    text = json.dumps(good.body)
    for old, new in ((good.id, str(id)), (f"{group}/", f"{new_group}/"), (ids.name_of(good.id), ids.name_of(id))):
        text = re.sub(rf"{re.escape(old)}(?![\w-])" if old != f"{group}/" else re.escape(old), new, text, flags=re.IGNORECASE)
    return Sample(id, good.api_version, json.loads(text))


def seed(sim: Simulator, world: Iterable[Sample]) -> int:
    """Puts them into the simulator, mounted parts at URLs of their own; how many resources."""
    many = 0
    sim.seed(LOCAL_GROUP, {"location": "westeurope"})       # ours: the probe's tag
    for one in world:
        type = BY_NAME.get(fold(ids.type_of(one.id)))
        if type is None:
            sim.seed(one.id, one.body, one.api_version)
        else:
            for id, version, body in recorded.resources(one, type):
                sim.seed(id, body, version)
        many += 1
    return many


def subscriptions(world: Iterable[Sample]) -> tuple[str, ...]:
    return tuple(sorted({ids.subscription(one.id) for one in world}))
