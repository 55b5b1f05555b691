"""What a check says, and what several of them ask of what was seen."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from cli.seen import NotSeen, Seen, at, of
from guardrail.paths import fold

Mark = Literal["done", "failed", "warning", "skipped"]

PERMISSIONS = "docs/runbooks/permission-lost.md"
PROVISION = "azd provision --no-state"       # without it azd skips what it deployed before, whatever became of it
NAMED = 3               # of a list that a line names


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the answer; `cure`: what to do about it."""

    mark: Mark
    text: str
    cure: str = ""


Check = Callable[[Seen], Iterator[Line]]


def few(names: Iterable[str]) -> str:
    every = list(names)
    rest = f" and {len(every) - NAMED} more" if len(every) > NAMED else ""
    return ", ".join(every[:NAMED]) + rest


def ceiling(seen: Seen) -> str:
    """As the running app has it, else as azd does; report for one that no app starts with."""
    try:
        found = of(seen, "settings", "hands").get("GUARDRAIL_CEILING")
    except NotSeen:
        found = at(seen, "here", "ceiling")
    return found if found in ("approve", "enforce") else "report"


def is_read(action: str) -> bool:
    return fold(action).endswith("/read")


def answer(seen: Seen, page: str) -> Any:
    """The body of a page of the console's API; a refusal is a NotSeen with what it means."""
    found = of(seen, "console", page)
    if found["status"] == 200:
        return found["body"]
    why = {401: "it does not take az's token", 403: "you have no app role there",
           404: f"this version has no {page}"}.get(found["status"], "")
    if found["status"] == 403 and found["body"] is None:        # Azure's own page
        why = "it is not reachable from here: a private console, or an address that is shut out"
    told = at(found["body"], "error", "message")
    raise NotSeen(f"the console answers {found['status']}{f', {why}' if why else ''}{f': {told}' if told else ''}")
