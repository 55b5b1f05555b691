"""The ids we give, each derived from what it names, so that made twice it is the same. Pure."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Any

from guardrail.ids import ResourceId, fold
from guardrail.values import digest

SHOWN = 12      # hex digits of a hash that an id carries


def _name(prefix: str, *parts: Any) -> str:
    return f"{prefix}-{digest(parts)[:SHOWN]}"


def finding_id(resource: ResourceId, incarnation: str, control: str, path: str) -> str:
    return _name("fnd", fold(resource), incarnation, control, path)


def action_id(resource: ResourceId, seq: int, plan_hash: str) -> str:
    """`seq` is the case's when the action opens."""
    return _name("act", fold(resource), seq, plan_hash)


def exemption_id(control: str, scope: str, until: datetime | str, reason: str) -> str:
    return _name("exm", control, fold(ResourceId(scope)), until, reason)


def record_id(hash: str) -> str:
    """Of the record's own hash in its chain."""
    return f"rec-{hash[:SHOWN]}"


def chain_key(resource: ResourceId) -> str:
    """The key of a resource's rows and of its chain: SHA-256 of the folded id, 64 hex digits."""
    return hashlib.sha256(fold(resource).encode()).hexdigest()


def message_id(resource: ResourceId, seq: int) -> str:
    """Of the oldest record that the message speaks for: told twice it is the same, so that a receiver can drop one."""
    return _name("msg", fold(resource), seq)
