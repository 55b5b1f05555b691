"""The values that flow through the engine: frozen, serialisable, without logic beyond hash and inverse. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from guardrail.ids import ResourceId
from guardrail.paths import ABSENT

if TYPE_CHECKING:
    from guardrail.documents import Document, Node

Severity = Literal["critical", "high", "medium", "low"]
Mode = Literal["ignore", "report", "approve", "enforce"]
Response = Literal["revert", "isolate", "report"]
Kind = Literal["fix", "isolate", "undo"]
Why = Literal["event", "sweep", "due", "approval", "person", "release"]
State = Literal["proposed", "held", "approved", "applying", "applied", "verified", "failed", "unknown",
                "rejected", "expired", "superseded", "rolled_back"]
Parameters = Mapping[str, Any]

MODES: tuple[Mode, ...] = ("ignore", "report", "approve", "enforce")    # the ladder: the minimum of two is the lower one
SEVERITIES: tuple[Severity, ...] = ("critical", "high", "medium", "low")
COMMON = ("id", "name", "type", "etag", "systemData", "properties.provisioningState")   # what ARM itself writes everywhere


def to_json(value: Any) -> bytes:
    """JSON for hashes and rows: UTF-8, keys sorted, no blanks, absent fields left out."""
    return msgspec.json.encode(value, order="sorted")


def digest(value: Any) -> str:
    """SHA-256 of `to_json`, 64 hex digits."""
    return hashlib.sha256(to_json(value)).hexdigest()


@dataclass(frozen=True, slots=True)
class Change:
    """One event, reduced to what it may tell us: where to look, and who claims to have done it."""

    event_id: str
    operation: str              # Microsoft.Storage/storageAccounts/write, as sent
    resource: ResourceId        # what the request named: the subject may lie above it
    actor: str                  # claimed object id, "" if none
    app: str                    # claimed application id, "" if none
    correlation_id: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Look:
    """A resource to be looked at, and why. One waits per resource, changes joined; `generation` counts the joins."""

    resource: ResourceId
    why: Why
    changes: tuple[Change, ...] = ()
    generation: int = 0


@dataclass(frozen=True, slots=True)
class Drift:
    """What one check found at one path. `decided` False: wrong, and only a person knows what is right."""

    path: str
    observed: Any = ABSENT
    wanted: Any = ABSENT
    decided: bool = True
    note: str = ""
    learned: bool | None = None     # wants what was merely seen; None: `judge` finds out, False: parameters vouch for it
    measures: tuple[str, ...] = ()  # paths of what it is only measured by: where those alone moved, nothing was opened


@dataclass(frozen=True, slots=True)
class Finding:
    """A control's verdict on a resource; `drift` None: unreadable, and `why` says what could not be read."""

    control: str
    resource: ResourceId
    severity: Severity
    why: str
    drift: Drift | None

    @property
    def path(self) -> str:
        return self.drift.path if self.drift else ""

    @property
    def state(self) -> Literal["drift", "unreadable"]:
        return "drift" if self.drift else "unreadable"


@dataclass(frozen=True, slots=True)
class Decision:
    finding: Finding
    mode: Mode
    rule: str                   # the policy rule or the default that decided
    why: str                    # what lowered it further: ceiling, switch, breaker, freeze, exemption


@dataclass(frozen=True, slots=True)
class Edit:
    """A place, what stands there, what shall stand there; ABSENT is nothing."""

    path: str
    before: Any = ABSENT
    after: Any = ABSENT


@dataclass(frozen=True, slots=True)
class Plan:
    """A set of edits on one life of one resource: what is shown, approved, stored, hashed and inverted."""

    resource: ResourceId
    incarnation: str
    kind: Kind
    edits: tuple[Edit, ...]
    controls: tuple[str, ...]

    @property
    def hash(self) -> str:
        return digest(self)

    def inverse(self) -> Plan:
        edits = tuple(Edit(edit.path, edit.after, edit.before) for edit in self.edits)
        return replace(self, kind="undo", edits=edits)

    @property
    def intent(self) -> str:
        """A hash of what the plan wants, whatever stands there now: two plans of one intent differ in `before` alone."""
        return digest(("intent", replace(self, edits=tuple(Edit(edit.path, after=edit.after) for edit in self.edits))))


@dataclass(frozen=True, slots=True)
class Request:
    """One call to ARM, derived from edits and the document just read; recorded, never read back."""

    method: str
    url: str                    # path below the ARM endpoint, already encoded
    api_version: str
    body: Any = None
    if_match: str | None = None


@dataclass(frozen=True, slots=True)
class Approval:
    by: str
    at: datetime
    plan: str
    policy_hash: str
    version: str
    signature: str = ""
    intent: str = ""            # Plan.intent, where that was approved: the values that stand there may move on (D10)


@dataclass(frozen=True, slots=True)
class Action:
    """A plan's life. States and their transitions: contracts, "States of an action"."""

    id: str
    plan: Plan
    state: State
    mode: Mode
    opened: datetime
    caused_by: tuple[str, ...]
    asked_by: str = ""
    needs: int = 1                          # people who must say yes, at least
    approvals: tuple[Approval, ...] = ()
    why: str = ""
    expires: datetime | None = None
    attempts: int = 0
    sent: tuple[str, ...] = ()              # client-request-ids written before sending
    reads: int = 0                          # since the last answer, without seeing what was written
    failures: int = 0                       # verifications that failed
    expects: Any = ABSENT                   # the document as predicted: what the verification compares with
    leased_until: datetime | None = None
    lease: str = ""                         # who holds it: one id an invocation
    severity: Severity | Literal[""] = ""     # of an ask: of its findings, one louder each time that nobody decided
    reminded: bool = False                  # an ask's half time is on record
    intent: str = ""                        # Plan.intent, where it is offered: asks for it kept being voided
    undoes: tuple[str, Kind] | None = None  # id and kind of the action that it takes back
    instead: Plan | None = None             # of a fix that a breaker holds: the isolation that people may choose
    seal: str = ""                          # by hands, over what does not change while people decide: guardrail.signing


@dataclass(frozen=True, slots=True)
class Wish:
    """What a person asked of hands, where only hands may read Azure: a quarantine, an undo, or on our own case a sweep."""

    what: Literal["quarantine", "undo", "sweep"]
    by: str
    at: datetime
    reason: str
    action: str = ""            # the one to be undone
    signature: str = ""


@dataclass(frozen=True, slots=True)
class Acceptance:
    """One person's yes to a part of what was seen good, as its hash."""

    by: str
    at: datetime
    hash: str
    signature: str = ""


@dataclass(frozen=True, slots=True)
class Case:
    """All that is known of one resource: one row, one ETag."""

    resource: ResourceId
    seq: int = 0
    head: str = ""
    findings: frozenset[tuple[str, str]] = frozenset()      # (control, path); path "?" for unreadable
    reported: frozenset[tuple[str, str]] = frozenset()      # findings that were only reported: a raised mode asks for them
    refused: frozenset[tuple[str, str]] = frozenset()       # findings of which people know that no plan mends them
    good: Mapping[str, Any] = field(default_factory=dict)   # part ("" or "+x") -> what it held when it last was good
    accepted: Mapping[str, tuple[Acceptance, Acceptance]] = field(default_factory=dict)    # parts of `good`: they stay
    accepting: Mapping[str, Acceptance] = field(default_factory=dict)       # part -> a first yes
    incarnation: str = ""
    due: datetime | None = None
    asked: Action | None = None
    acting: Action | None = None
    outbox: tuple[int, ...] = ()
    wishes: tuple[Wish, ...] = ()                           # of people, for the next look
    stuck: str = ""
    actors: tuple[str, ...] = ()                            # who touched it since it was last seen clean; "" unknown
    wrote: Mapping[str, tuple[datetime, ...]] = field(default_factory=dict)     # when, by breaker: guardrail.breakers
    voids: tuple[datetime, ...] = ()                        # when the newest asks were voided, for the resource changed
    missing: tuple[datetime, ...] = ()                      # 404s in a row: gone is three over a minute
    busy_since: datetime | None = None
    looked: datetime | None = None                          # when it was last read
    told: datetime | None = None                            # when events of it were last answered
    distrusted: datetime | None = None                      # its row was changed by others: until it is clean, people decide
    seal: str = ""                                          # by hands, over what only hands may say: guardrail.signing
    forged: tuple[str, ...] = ()                            # what did not verify when it was loaded; not stored
    etag: str = ""                                          # the store's, not part of the row's body


@dataclass(frozen=True, slots=True)
class Record:
    """What happened, before it is chained; names and details: contracts, "Records and log lines"."""

    event: str
    at: datetime
    actor: str
    correlation_id: str
    mode: str
    policy_hash: str
    detail: Mapping[str, Any]


Check = Callable[["Node", Parameters], Iterator[Drift]]


@dataclass(frozen=True, slots=True)
class Control:
    """One check and what it means. `response` "revert" covers reverting, removing and restoring."""

    id: str
    check: Check
    on: str                                         # the type whose document it reads; "*" any
    severity: Severity
    response: Response
    title: str
    why: str
    breaks: str
    also_reads: tuple[str, ...] = ()                # mounted parts: "+diagnosticSettings"
    triggered_by: tuple[str, ...] = ()              # ARM operation names
    judges_gone: bool = False
    learns: bool = False                            # wants what was: the parts it reads are kept when good
    parameters: Parameters = field(default_factory=dict)
    floors: Mapping[str, Callable[[Any], str]] = field(default_factory=dict)    # parameter -> "" or why it is too weak
    asks: str = ""                                  # why its fix is always a person's: it grants, it is irreversible
    drift: Mapping[str, Any] = field(default_factory=dict)  # edits of the type's good document that make it speak


Write = Callable[["Document", Sequence[Edit]], Request]


@dataclass(frozen=True, slots=True)
class Route:
    """A part of the document that has its own URL. What is not said is refused."""

    path: str = ""                                  # pattern: "+raiPolicies[name]", "properties.securityRules[name]"
    url: str = "{id}"
    api_version: str = ""                           # "": the type's
    update: Literal["PATCH", "PUT", "POST", ""] = ""
    create: bool = False
    delete: bool = False
    whole: tuple[str, ...] = ()                     # under PATCH: objects sent complete. Lists always are
    readonly: tuple[str, ...] = COMMON              # relative to the part; stripped from bodies and from before/after
    actions: Mapping[Any, str] = field(default_factory=dict)    # POST: wanted value -> action
    write: Write | None = None                      # escape hatch: trusted, not proven
    etag: bool = False                              # If-Match is honoured
    round_trip: bool = False                        # a PUT over what stands is known to lose nothing; else it only asks
    write_only: tuple[str, ...] = ()                # secrets that GET leaves out: a PUT of this part is refused
    needs: tuple[str, ...] = ()                     # linked permissions


Send = Callable[[Any, Request, Mapping[str, str]], Awaitable[Any]]      # (arm.Clients, request, headers) -> arm.Answer


@dataclass(frozen=True, slots=True)
class ResourceType:
    """How ARM reads and writes one type; the api-version stands once, here."""

    name: str
    api_version: str
    routes: tuple[Route, ...] = ()
    isolate: Check | None = None
    born: str = "systemData.createdAt"              # what tells one life of an id from the next
    busy: Mapping[str, tuple[str, ...]] = field(default_factory=dict)   # beside a provisioningState that is not final
    dependants: tuple[str, ...] = ()                # lists that tell how many others lean on it (A9)
    stops: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)  # at or below the path: values that end work (A9)
    send: Send | None = None                        # the SDK's call for a request; None: arm.send, the same bytes
