"""A resource's records as a chain of hashes, and the root over all chains. Pure. Contracts: "Ids, hashes, chain".

A record's hash is SHA-256 over the hash of the one before (64 hex digits) and the record's bytes as stored: never over
a value parsed and written again, which another version might write otherwise.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from guardrail.ids import ResourceId
from guardrail.redact import redact
from guardrail.values import Record, to_json

ZERO = "0" * 64     # what the first record follows


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """A record as it lies in the store."""

    seq: int            # from 1, without gaps
    body: bytes         # {"v":1,"seq":…,"event":…,"resource":…,…}: sorted JSON, exactly as it was hashed
    hash: str


@dataclass(frozen=True, slots=True)
class Chain:
    """Where a chain ends, as its case says."""

    resource: ResourceId
    seq: int
    head: str


def follow(previous: str, body: bytes) -> str:
    """The hash of the record that holds `body` and follows `previous`."""
    return hashlib.sha256(previous.encode() + body).hexdigest()


def append(resource: ResourceId, seq: int, head: str, records: Iterable[Record]) -> list[StoredRecord]:
    """`records` of `resource` as they follow record `seq` with hash `head` ("" before the first). Secrets are left out here.

    Each one names its resource, so that a chain cannot pass for that of another.
    """
    stored = list[StoredRecord]()
    head = head or ZERO
    for number, record in enumerate(records, seq + 1):
        body = to_json({
            "v": 1, "seq": number, "event": record.event, "at": record.at, "actor": redact(record.actor),
            "correlation_id": redact(record.correlation_id), "mode": record.mode, "policy_hash": record.policy_hash,
            "detail": redact(record.detail), "resource": resource,
        })
        head = follow(head, body)
        stored.append(StoredRecord(number, body, head))
    return stored


def root(heads: Iterable[tuple[str, str]]) -> str:
    """The Merkle root over (chain key, head), sorted by key.

    Leaf: SHA-256(0x00 + key + head); node: SHA-256(0x01 + left + right); an odd one moves up as it is; nothing: of b"".
    """
    level = [hashlib.sha256(b"\0" + key.encode() + head.encode()).digest() for key, head in sorted(heads)]
    while len(level) > 1:
        pairs = [hashlib.sha256(b"\1" + level[at] + level[at + 1]).digest() for at in range(0, len(level) - 1, 2)]
        level = pairs + level[len(pairs) * 2:]
    return (level[0] if level else hashlib.sha256(b"").digest()).hex()
