"""ARM ids as the simulator reads them: leniently, since it must take whatever a client sends."""

from __future__ import annotations

import string
from collections.abc import Iterator
from functools import lru_cache

GROUP = "Microsoft.Resources/resourceGroups"
SUBSCRIPTION = "Microsoft.Resources/subscriptions"
_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


@lru_cache(maxsize=1 << 16)
def fold(text: str) -> str:
    """ASCII letters in lower case: ARM compares ids without case, and only ASCII has one there."""
    return text.translate(_LOWER)


def split(path: str) -> tuple[str, str, list[str]]:
    """scope, namespace and the segments after it, cut at the last `/providers/`; namespace "" if there is none.

    >>> split("/subscriptions/s/resourceGroups/g/providers/Microsoft.Storage/storageAccounts/a")
    ('/subscriptions/s/resourceGroups/g', 'Microsoft.Storage', ['storageAccounts', 'a'])
    """
    at = fold(path).rfind("/providers/")
    if at < 0:
        return path, "", []
    namespace, *segments = path[at + len("/providers/") :].split("/")
    return path[:at], namespace, segments


def is_resource(path: str) -> bool:
    """Whether the path names one thing, not a collection or an action: type and name alternate to the end."""
    scope, namespace, segments = split(path)
    if namespace:
        return bool(segments) and len(segments) % 2 == 0
    parts = fold(scope).strip("/").split("/")
    return parts[0] == "subscriptions" and (len(parts) == 2 or (len(parts) == 4 and parts[2] == "resourcegroups"))


@lru_cache(maxsize=1 << 16)
def type_of(id: str) -> str:
    """`Microsoft.Storage/storageAccounts/blobServices`; groups and subscriptions have ARM's own; "" if unclear."""
    scope, namespace, segments = split(id)
    if namespace:
        return "/".join([namespace, *segments[::2]])
    parts = scope.strip("/").split("/")
    if len(parts) == 2:
        return SUBSCRIPTION
    return GROUP if len(parts) == 4 else ""


def name_of(id: str) -> str:
    return id.rsplit("/", 1)[-1]


@lru_cache(maxsize=1 << 16)
def parent_of(id: str) -> str:
    """The parent resource, for an extension what it extends, for a top-level resource its group; "" above the top."""
    scope, namespace, segments = split(id)
    if namespace:
        return id.rsplit("/", 2)[0] if len(segments) > 2 else scope
    parts = scope.strip("/").split("/")
    return "/" + "/".join(parts[:2]) if len(parts) == 4 else ""


def ancestors(id: str) -> Iterator[str]:
    """Parents, nearest first."""
    while id := parent_of(id):
        yield id


def subscription_of(path: str) -> str:
    parts = path.strip("/").split("/")
    return parts[1] if len(parts) > 1 and fold(parts[0]) == "subscriptions" else ""


def group_of(path: str) -> str:
    """The id of the resource group; "" where there is none."""
    parts = path.strip("/").split("/")
    is_in_group = len(parts) >= 4 and fold(parts[2]) == "resourcegroups"
    return "/" + "/".join(parts[:4]) if is_in_group else ""
