"""What a resource held when nothing was wrong with it, part by part: `good` of its case, which a restore goes back to. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from guardrail.documents import Document
from guardrail.paths import ABSENT, get, parse, show
from guardrail.values import Control, Finding


def good(controls: Sequence[Control], document: Document, found: Sequence[Finding]) -> dict[str, Any]:
    """The parts that a learning control reads and that no finding touches; nothing while one is unreadable."""
    touched = [parse(finding.path) for finding in found if finding.drift]
    if any(finding.drift is None for finding in found):
        return {}
    known = dict[str, Any]()
    for part in {part for control in controls if control.learns for part in (*control.also_reads, "")}:
        here = parse(part)
        value = get(document.body, here) if part else _own(document.body)
        clean = not any(part_of(show(path)) == part for path in touched)
        if value is not ABSENT and clean:
            known[part] = value
    return known


def part_of(path: str) -> str:
    """The part of `good` that a path lies in: a mounted one, or "" for the resource itself."""
    first = parse(path)[:1]
    return str(first[0]) if first and str(first[0]).startswith("+") else ""


def _own(body: Any) -> Any:
    """A document without what is mounted in it: those are parts of their own."""
    return {name: value for name, value in body.items() if not name.startswith("+")} if isinstance(body, Mapping) else body
