"""One type's habits: how ARM takes, merges, answers and shows it. Data; a function only where data cannot say it.

Paths are dotted; `[]` goes into each item of a list: `properties.securityRules[].properties.description`. In `shown`,
objects on the way are made; `?` ends a name that is not: `properties.dhcpOptions?.dnsServers`.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """How a write is answered. `how`: any of `aao` (Azure-AsyncOperation) and `loc` (Location); empty: synchronous.

    `state` is the provisioningState in the answer's own body ("": the settled one), `body` what stands in it.
    """

    status: int = 200
    how: str = ""
    state: str = ""
    body: Literal["resource", "echo", "deleted", ""] = "resource"


@dataclass(frozen=True, slots=True)
class Part:
    """Children that the parent shows as a list inside itself. `written`: a PUT of the parent writes them, too.

    `kept_from`: the api-version from which leaving the list out of the parent's PUT keeps them ("": always removed).
    """

    type: str
    written: bool = True
    kept_from: str = "9999"
    empty: bool = True
    """An empty list is shown as [], else the property is absent."""
    keys: tuple[str, ...] = ()
    """Only these of a child are shown in the parent; empty: all."""
    since: str = ""


@dataclass(frozen=True, slots=True)
class Birth:
    """What a creation knows: the id, the new incarnation (a GUID), when, by whom, at which api-version and tenant."""

    id: str
    incarnation: str
    at: str
    by: str = ""
    version: str = ""
    tenant: str = ""
    siblings: int = 0
    """How many of the type the parent had already."""

    @property
    def name(self) -> str:
        return self.id.rsplit("/", 1)[-1]

    def guid(self, what: str) -> str:
        """A made-up GUID that belongs to this incarnation."""
        return str(uuid.uuid5(uuid.UUID(self.incarnation), what))


@dataclass(frozen=True, slots=True)
class Habits:
    """The habits of one ARM type. Everything has ARM's general rule as its default. Sources: tests/data/exchanges."""

    type: str = ""
    version: str = "2024-01-01"
    """The api-version taken when a caller of Simulator.request names none."""
    versions: tuple[str, ...] = ()
    """The api-versions that exist, newest first; empty: any well-formed one."""

    # where it stands
    extension: bool = False
    """It hangs on any resource, its list at a scope is that scope's."""
    reach: Literal["here", "above", "below", "both"] = "here"
    """What the list of an extension at a scope holds besides the scope's own."""
    parts: Mapping[str, Part] = field(default_factory=dict)
    brings: tuple[str, ...] = ()
    """Children that exist as soon as the resource does: `blobServices/default`."""
    from_parent: tuple[str, ...] = ()
    """Shown as the parent has it."""

    # how a write is answered
    new: Answer = Answer(201)
    existing: Answer = Answer(200)
    patch: Answer | None = Answer(200)
    """None: the type has no PATCH (405)."""
    delete: Answer = Answer(200, body="")
    answers_from: tuple[str, Answer, Answer] | None = None
    """(api-version, new, existing): how a PUT is answered from that version on."""
    at_once: Callable[[Body | None, Body, Body], int] | None = None
    """(before, after, request body): the status, if this write is done when it is answered; 0: it takes time."""
    can_delete: bool = True
    """False: DELETE is refused with 405."""
    deleted: Mapping[str, Any] = field(default_factory=dict)
    """path -> what the answer to DELETE shows there."""
    echoed: Mapping[str, Any] = field(default_factory=dict)
    """What an echo holds besides what was sent, under properties."""
    missing: str = "ResourceNotFound"
    """Error code of a 404 on GET."""
    orphan: str = "ParentResourceNotFound"
    """Error code of GET and DELETE where the parent is missing."""
    bare: bool = False
    """Its 404 comes without Azure's envelope: `{"code", "message"}`."""
    refuse: Callable[[Body | None, Body], tuple[int, str, str] | None] | None = None
    """(before, request body): status, code and message of a refusal, or None."""
    unique: tuple[str, ...] = ()
    """No two at one scope agree in all of these: 409 RoleAssignmentExists."""
    soft: Callable[[Body], bool] | None = None
    """Deleted softly; says whether a PUT with this body brings it back. Another PUT is refused with 409."""

    # what a write does to the document
    put: Literal["replace", "merge"] = "replace"
    keep: tuple[str, ...] = ("identity",)
    """What a replacing PUT leaves as it was when the body does not name it."""
    patchable: tuple[str, ...] = ()
    """The only paths that a PATCH takes, the rest is ignored; empty: all."""
    unwrapped: bool = False
    """A PATCH's body is not wrapped in `properties`."""
    replaced: tuple[str, ...] = ()
    """Objects that a PATCH (or a merging PUT) replaces as a whole, beside tags."""
    readonly: tuple[str, ...] = ()
    """Beside the envelope's; what a client sends there is dropped."""
    secret: tuple[str, ...] = ()
    """Written and never shown; a replacing PUT that does not name them erases them."""
    rewrite: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """path -> folded value sent -> value that is stored instead (None: removed)."""
    settle: Callable[[Body | None, Body, Body], None] | None = None
    """(before, after, request body): last corrections to `after`, in place."""
    born: Callable[[Body, Birth], None] | None = None
    """What the service makes at creation, in place."""

    # what is shown of it
    shown: Mapping[str, Any] = field(default_factory=dict)
    """path -> what GET shows where nothing was set. None is shown as null."""
    since: Mapping[str, str] = field(default_factory=dict)
    """path -> first api-version that shows it; before that it is hidden, set or not."""
    until: Mapping[str, str] = field(default_factory=dict)
    """path -> first api-version that shows it no longer."""
    dated: Mapping[str, Literal["created", "changed"]] = field(default_factory=dict)
    """path -> which of the resource's times it shows."""
    long_name: bool = False
    """`name` is shown with the parent's: `account/project`."""
    shown_name: str = ""
    """Shown as `name` whatever the id says."""
    state: str = "Succeeded"
    """The settled provisioningState; empty: the type has none."""
    system_data: str = "0"
    """First api-version that shows systemData; empty: never."""
    etag: Literal["", "header", "body", "both", "reads"] = ""
    """Where it is shown; `reads`: in the body, and in the header of reads only."""
    weak: bool = False
    """`W/"..."` instead of `"..."`."""
    if_match: bool = True
    """Whether If-Match is honoured, where there is an ETag."""
    finish: Callable[[Body, str], None] | None = None
    """(shown document, api-version): last corrections to what is shown, in place."""

    # what POST does
    actions: Mapping[str, tuple[str, Any]] = field(default_factory=dict)
    """POST {id}/{action} -> path and value that it sets, asynchronously."""
    passing: Mapping[str, Any] = field(default_factory=dict)
    """action -> value at that path while it runs (Stopping)."""
    settings: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """POST {id}/{action} -> field of its body, and the path that takes that value, at once."""
    reads: tuple[str, ...] = ()
    """POST actions that only read (listKeys); answered with an empty object of keys."""
    tells: str = ""
    """The POST action that shows what GET does not: answered with the document."""
    on_parent: Callable[[Body, str, Body], Body] | None = None
    """(parent's body, name, request body): a PUT of this child changes the parent in place; gives the answer."""


GENERAL = Habits()
