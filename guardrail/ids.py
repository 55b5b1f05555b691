"""Strict ARM resource ids. Whoever drifted wrote them, so an id is parsed or refused, and never repaired. Pure.

An id keeps the spelling it came with; `fold` gives the key that it is compared and stored by.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from typing import NewType
from urllib.parse import quote

from guardrail.errors import Malformed
from guardrail.paths import fold as fold_text

ResourceId = NewType("ResourceId", str)

_GUID = re.compile(r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}")
_NAMESPACE = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:\.[A-Za-z0-9]+)*")
_TYPE = re.compile(r"[A-Za-z][A-Za-z0-9]*")
_NAME_LENGTH = 260
_ID_LENGTH = 2048


def name_is_sound(name: str) -> bool:
    """Whether a resource name can stand in a URL and lead nowhere else: printable, NFC, no separator, no `..`."""
    return (
        0 < len(name) <= _NAME_LENGTH
        and name not in (".", "..")
        and not set(name) & set("/\\%?#")
        and name.isprintable()
        and unicodedata.is_normalized("NFC", name)
        and name == name.strip()
    )


def _sound_steps(text: str) -> Iterator[tuple[int, str]]:
    """Each (end, kind) at which `text`, cut off there, is a whole id: subscription, group, or resource."""
    if len(text) > _ID_LENGTH or not text.startswith("/"):
        return
    parts = text.split("/")[1:]
    ends, at = [], 0
    for part in parts:
        at += len(part) + 1
        ends.append(at)
    if len(parts) < 2 or fold_text(parts[0]) != "subscriptions" or not _GUID.fullmatch(parts[1]):
        return
    yield ends[1], "subscription"
    index = 2
    if len(parts) >= 4 and fold_text(parts[2]) == "resourcegroups" and name_is_sound(parts[3]):
        yield ends[3], "group"
        index = 4
    while len(parts) > index + 1 and fold_text(parts[index]) == "providers" and _NAMESPACE.fullmatch(parts[index + 1]):
        index += 2
        first = index
        while len(parts) > index + 1 and _TYPE.fullmatch(parts[index]) and name_is_sound(parts[index + 1]):
            if index > first and fold_text(parts[index]) == "providers":
                break
            index += 2
            yield ends[index - 1], "resource"
        if index == first:
            return


@lru_cache(maxsize=16384)
def parse(text: str) -> ResourceId:
    """`text` as an id of a subscription, a resource group or a resource. Errors: Malformed."""
    if not isinstance(text, str) or not any(end == len(text) for end, _ in _sound_steps(text)):
        raise Malformed(f"not an ARM id: {text[:200]!r}")
    return ResourceId(text)


def soundest(text: str) -> ResourceId | None:
    """The longest prefix of `text` that is an id: a bad tail must not hide the resource above it."""
    ends = [end for end, _ in _sound_steps(text)] if isinstance(text, str) else []
    return ResourceId(text[: ends[-1]]) if ends else None


@lru_cache(maxsize=16384)
def fold(id: ResourceId) -> str:
    """The key of an id: ids that differ in ASCII case alone are one."""
    return fold_text(id)


@lru_cache(maxsize=16384)
def type_of(id: ResourceId) -> str:
    """`Microsoft.Storage/storageAccounts/blobServices`, as spelled; groups and subscriptions are Microsoft.Resources's."""
    parts = id.split("/")[1:]
    heads = [index for index in range(2, len(parts), 2) if fold_text(parts[index]) == "providers"]
    if not heads:
        return "Microsoft.Resources/subscriptions" + ("/resourceGroups" if len(parts) == 4 else "")
    tail = parts[heads[-1] + 1:]
    return "/".join((tail[0], *tail[1::2]))


def name_of(id: ResourceId) -> str:
    return id.rsplit("/", 1)[1]


@lru_cache(maxsize=16384)
def parent(id: ResourceId) -> ResourceId | None:
    """The id one step up: a child's parent, an extension's resource, a resource's group; None above a subscription."""
    ends = [end for end, _ in _sound_steps(id)]
    return ResourceId(id[: ends[-2]]) if len(ends) > 1 else None


def ancestors(id: ResourceId) -> Iterator[ResourceId]:
    """The id itself, then everything above it, nearest first."""
    at: ResourceId | None = id
    while at is not None:
        yield at
        at = parent(at)


def up_to(id: ResourceId, type: str) -> ResourceId | None:
    """The nearest of `ancestors` that has this type."""
    wanted = fold_text(type)
    return next((one for one in ancestors(id) if fold_text(type_of(one)) == wanted), None)


def subscription(id: ResourceId) -> str:
    """The subscription's GUID, folded."""
    return fold_text(id.split("/")[2])


def group(id: ResourceId) -> str:
    """The resource group's name as spelled, "" at subscription scope."""
    parts = id.split("/")
    return parts[4] if len(parts) > 4 and fold_text(parts[3]) == "resourcegroups" else ""


def url_path(id: ResourceId) -> str:
    """The id as a request path, each part percent-encoded by itself."""
    return "/".join(quote(part, safe="$@") for part in id.split("/"))
