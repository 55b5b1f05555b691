"""What guardrail.yaml may say, as frozen values; anything else is refused by `policy_file`. Pure.

The defaults are those of a key that is left out: report, everywhere.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from guardrail.names import exemption_id
from guardrail.paths import fold
from guardrail.values import Severity

Acting = Literal["report", "approve", "enforce"]
Guid = Annotated[str, Meta(pattern=r"\A[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}\Z")]
Duration = Annotated[str, Meta(pattern=r"\A[1-9][0-9]{0,4}[smhd]\Z")]
Time = Annotated[datetime, Meta(tz=True)]
Text = Annotated[str, Meta(min_length=1, max_length=500)]
Names = Text | Annotated[tuple[Text, ...], Meta(min_length=1)]      # never empty: that would match everything
Count = Annotated[int, Meta(ge=1, le=10_000)]


class _Part(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A block of the file: what it does not know it refuses."""


class Controls(_Part, frozen=True):
    disabled: tuple[Text, ...] = ()
    reach: tuple[Text, ...] = ()
    parameters: dict[str, dict[str, Any]] = {}


class Default(_Part, frozen=True):
    production: Acting = "report"
    other: Acting = "report"


class Rule(_Part, frozen=True):
    """All keys that stand must match; a list is "one of". `group`, `type` and `control` are globs."""

    name: Text
    mode: Acting
    management_group: Names = ()
    subscription: Names = ()
    environment: Names = ()
    severity: Severity | Annotated[tuple[Severity, ...], Meta(min_length=1)] = ()
    group: Names = ()
    type: Names = ()
    control: Names = ()
    tag: Annotated[dict[str, Names], Meta(min_length=1)] = {}
    parameters: dict[str, dict[str, Any]] = {}


class Expires(_Part, frozen=True):
    critical: Duration = "4h"
    other: Duration = "8h"


class Approver(_Part, frozen=True):
    scope: Text
    group: Guid


class Approvals(_Part, frozen=True):
    expires: Expires = Expires()
    approvers: tuple[Approver, ...] = ()
    people: dict[Guid, Guid] = {}


class Flapping(_Part, frozen=True):
    writes: Count = 2
    window_text: Duration = msgspec.field(name="window", default="15m")

    @property
    def window(self) -> timedelta:
        return timedelta(seconds=seconds(self.window_text))


class BlastRadius(_Part, frozen=True):
    writes: Count = 20
    percent: Annotated[int, Meta(ge=1, le=100)] = 10
    least: Count = 5
    window_text: Duration = msgspec.field(name="window", default="1h")
    reserve: Annotated[int, Meta(ge=0, le=10_000)] = 5

    @property
    def window(self) -> timedelta:
        return timedelta(seconds=seconds(self.window_text))


class Breakers(_Part, frozen=True):
    flapping: Flapping = Flapping()
    blast_radius: BlastRadius = BlastRadius()


class Freeze(_Part, frozen=True):
    """Nothing is enforced while it lasts; `scope` "" is everywhere."""

    name: Text
    start: Time = msgspec.field(name="from")
    until: Time
    scope: str = ""


class Deployer(_Part, frozen=True):
    object_id: Guid
    scope: Text


class Exemption(_Part, frozen=True):
    """One control may drift on one resource or in one group, as it was first seen, until then."""

    control: Text
    scope: Text
    reason: Text
    owner: Text
    until: Time

    @property
    def id(self) -> str:
        return exemption_id(self.control, self.scope, self.until, self.reason)


class Notify(_Part, frozen=True):
    show_actor: Literal["name", "object_id", "none"] = "object_id"
    least: Severity = "medium"


class Schema(_Part, frozen=True):
    """What guardrail.yaml may say."""

    version: Literal[1] = 1
    environments: dict[str, tuple[str, ...]] = {}
    controls: Controls = Controls()
    default: Default = Default()
    rules: tuple[Rule, ...] = ()
    approvals: Approvals = Approvals()
    breakers: Breakers = Breakers()
    freezes: tuple[Freeze, ...] = ()
    trusted_deployers: tuple[Deployer, ...] = ()
    break_glass: tuple[Guid, ...] = ()
    exemptions: tuple[Exemption, ...] = ()
    notify: Notify = Notify()


class Policy(Schema, frozen=True):
    """The file's content. Without any: report, everywhere."""

    hash: str = ""                      # SHA-256 of the file's bytes, 64 hex digits; "" without a file
    source: str = "guardrail.yaml"
    lines: dict[tuple[str | int, ...], int] = {}    # place in the file -> line, from 1

    def expires(self, severity: Severity) -> timedelta:
        """How long an approval may wait."""
        text = self.approvals.expires.critical if severity == "critical" else self.approvals.expires.other
        return timedelta(seconds=seconds(text))


def seconds(duration: str) -> int:
    return int(duration[:-1]) * {"s": 1, "m": 60, "h": 3600, "d": 86_400}[duration[-1]]


def glob(pattern: str, text: str) -> bool:
    """Whether `text` fits `pattern`, where * is any run of characters and letter case is folded. Linear, no regex."""
    first, *rest = fold(pattern).split("*")
    text = fold(text)
    if not rest:
        return text == first
    if not text.startswith(first) or len(text) < len(first) + len(rest[-1]) or not text.endswith(rest[-1]):
        return False
    at, end = len(first), len(text) - len(rest[-1])
    for piece in rest[:-1]:
        found = text.find(piece, at, end)
        if found < 0:
            return False
        at = found + len(piece)
    return True
