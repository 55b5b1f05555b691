"""Whether what a plan brings back leads anywhere: a name that was let go may be somebody else's by now (A12).

Asked when a restore is planned and again before an approved one begins. Not seen: names that are no ARM id and no URL.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from guardrail import ids
from guardrail.errors import Final
from guardrail.ids import ResourceId
from guardrail.paths import ABSENT, fold
from guardrail.turn import Turn
from guardrail.values import Control, Edit

AT_MOST = 20        # references in one plan; more is a person's to look through
# A backslash is a slash to many who read a URL. Before @ stands whoever signs in, or a container.
_HOST = re.compile(r"\b(?:https?|wss?|abfss?|wasbs?):[/\\]+(?:[^/\\@\s\"'<>]*@)?([^/\\:\s\"'<>?#]+)",
                   re.ASCII | re.IGNORECASE)


def references(edits: Iterable[Edit], declared: Iterable[str], own: ResourceId) -> tuple[list[ResourceId], list[str]]:
    """(ARM ids, hosts of URLs) that the edits bring and that nothing vouches for: the policy's parameters do, and so does
    what stands there now, and the resource itself with all that holds it."""
    found, hosts = dict[str, ResourceId](), dict[str, None]()
    vouched = {fold(one) for one in declared}
    kept = vouched | {host for one in vouched for host in _HOST.findall(one)}
    for edit in edits:
        before = {fold(text) for text in _strings(edit.before)}
        for text in _strings(edit.after):
            if fold(text) in kept | before:
                continue
            id = ids.soundest(text)
            if id is not None and ids.fold(id) not in kept and not _holds(own, id):
                found[ids.fold(id)] = id
            old = {host for one in before for host in _HOST.findall(one)}
            hosts.update(dict.fromkeys(host for host in map(fold, _HOST.findall(text)) if host not in kept | old))
    return list(found.values()), list(hosts)


def _holds(own: ResourceId, id: ResourceId) -> bool:
    """Whether `id` is the resource, above it, or a part of it."""
    one, other = ids.fold(own) + "/", ids.fold(id) + "/"
    return one.startswith(other) or other.startswith(one)


def _strings(value: Any) -> Iterator[str]:
    """Every string in a value, names of properties too: identities are listed by their ids."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield name
            yield from _strings(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _strings(inner)


async def dangling(turn: Turn, controls: Sequence[Control], edits: Sequence[Edit]) -> str:
    """Why these edits must not be written, "" if nothing in them dangles. Errors: Retryable."""
    declared = [text for control in controls for text in _strings(turn.parameters(control))]
    found, hosts = references([edit for edit in edits if edit.after is not ABSENT], declared, turn.case.resource)
    if hosts:
        return f"dangling: no parameter of the policy names the host {', '.join(hosts[:3])}"
    if len(found) > AT_MOST:
        return f"dangling: more than {AT_MOST} references"
    for id in found:
        try:
            stands = await turn.engine.arm.stands(id, turn.engine.types.get(fold(ids.type_of(id))))
        except Final as error:
            return f"dangling: {id} cannot be read: {error}"
        if not stands:
            return f"dangling: {id} does not exist"
    return ""
