"""How a write changes a document, and how a document is shown: PATCH, PUT, defaults, projection. Pure.

Property names are matched without case, as ARM does; what is stored keeps the spelling of its first write.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from simulator.paths import OMIT, drop, has, places, read, spelling, write
from simulator.types.habits import Body, Habits

ENVELOPE = (
    "id",
    "name",
    "type",
    "etag",
    "systemData",
    "properties.provisioningState",
    "identity.principalId",
    "identity.tenantId",
)
"""What only the service writes, on every type."""


def patch(habits: Habits, before: Body | None, sent: Body) -> Body:
    """RFC 7396 over the stored document, but tags (and what the type replaces) are replaced as a whole."""
    if habits.unwrapped:
        sent = {"properties": sent}
    if habits.patchable:
        taken: Body = {}
        for path in habits.patchable:
            if has(sent, path):
                write(taken, path, read(sent, path))
        sent = taken
    return _laid_over(habits, before or {}, sent, whole=("tags", *habits.replaced))


def put(habits: Habits, before: Body | None, sent: Body) -> Body:
    """The new document: what was sent, with what only the service writes and what the type keeps taken from before.

    Types that merge in PUT as well (storage accounts) are laid over what stands, tags included.
    """
    if before is None:
        after = stripped(habits, sent)
    elif habits.put == "merge":
        return _laid_over(habits, before, sent, whole=("tags", *habits.replaced))
    else:
        after = stripped(habits, sent)
        for path in ("systemData", *habits.readonly, *habits.keep):
            if not has(after, path) and has(before, path):
                write(after, path, copy.deepcopy(read(before, path)))
    return _finished(habits, before, after, sent)


def _laid_over(habits: Habits, before: Body, sent: Body, whole: Sequence[str]) -> Body:
    sent_clean = stripped(habits, sent, nulls=True)
    after = copy.deepcopy(before)
    for path in whole:
        if isinstance(read(sent_clean, path), dict):
            drop(after, path)
    after = merged(after, sent_clean)
    return _finished(habits, before, after, sent)


def _finished(habits: Habits, before: Body | None, after: Body, sent: Body) -> Body:
    _identity(before, after, sent)
    for path, words in habits.rewrite.items():
        for holder, key in places(after, path):
            value = holder.get(key)
            if isinstance(value, str) and value.lower() in words:
                if words[value.lower()] is None:
                    del holder[key]
                else:
                    holder[key] = words[value.lower()]
    if habits.settle:
        habits.settle(before, after, sent)
    return after


def _identity(before: Body | None, after: Body, sent: Body) -> None:
    """`identity.type` decides: without UserAssigned the assigned ones go, None drops all."""
    identity = after.get("identity")
    if not isinstance(identity, dict):
        return
    kind = str(identity.get("type") or "").lower()
    old = before.get("identity") if before else None
    if isinstance(old, dict):
        for name in ("principalId", "tenantId"):
            if name in old:
                identity.setdefault(name, old[name])
    if "userassigned" not in kind.replace(" ", ""):
        identity.pop("userAssignedIdentities", None)
    if "systemassigned" not in kind:
        identity.pop("principalId", None)
        identity.pop("tenantId", None)
    if kind in ("none", ""):
        after["identity"] = {"type": "None"} if kind else {}
        if not kind:
            del after["identity"]


def merged(target: Any, change: Any) -> Any:
    """RFC 7396: objects merge, null removes, all else (lists too) replaces. Keys are matched without case."""
    if not isinstance(change, dict):
        return copy.deepcopy(change)
    result: Body = dict(target) if isinstance(target, dict) else {}
    for key, value in change.items():
        at = spelling(result, key)
        if value is None:
            result.pop(at, None)
        else:
            result[at] = merged(result.get(at), value)
    return result


def stripped(habits: Habits, sent: Body, nulls: bool = False) -> Body:
    """A copy of a request's body without what only the service writes. A PATCH keeps its nulls, they delete."""
    clean: Body = copy.deepcopy(sent) if nulls else without_nulls(sent)
    for path in (*ENVELOPE, *habits.readonly):
        drop(clean, path)
    for path in habits.parts:
        drop(clean, path)
    return clean


def without_nulls(value: Any) -> Any:
    """In a PUT null is as good as left out."""
    if isinstance(value, dict):
        return {key: without_nulls(inner) for key, inner in value.items() if inner is not None}
    return [without_nulls(inner) for inner in value] if isinstance(value, list) else value


def shown(habits: Habits, body: Body, version: str, made: Mapping[str, Any] | None = None) -> Body:
    """The document as GET at this version shows it: no secrets, with defaults, nothing the version does not know.

    `made`: path -> what the service knows besides (dates).
    """
    view = copy.deepcopy(body)
    for path, value in (made or {}).items():
        write(view, path, value)
    for path in habits.secret:
        drop(view, path)
    for path, value in habits.shown.items():
        for holder, key in places(view, path, make=True):
            if spelling(holder, key) not in holder:
                holder[key] = copy.deepcopy(value(view, version) if callable(value) else value)
    for path, first in habits.since.items():
        if version and dated(version) < first:
            drop(view, path)
    for path, first in habits.until.items():
        if not version or dated(version) >= first:
            drop(view, path)
    for holder, key in (pair for path in habits.shown for pair in places(view, path)):
        if holder.get(key, ...) is OMIT:
            del holder[key]
    return view


def dated(version: str) -> str:
    """The date of an api-version; previews of a day count as that day."""
    return version[:10]
