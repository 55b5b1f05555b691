"""What is in a row: cases and looks as bytes and back, whatever the store; and bytes as properties of a table's entity.

An entity's string or binary property holds 64 KiB, an entity 1 MiB, a batch 4 MiB and 100 entities (Azure Tables, service
limits; azure-data-tables 12.7 sends them as they are).
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from guardrail.chain import StoredRecord
from guardrail.errors import Held, Malformed
from guardrail.ids import ResourceId
from guardrail.stores import V, unknown
from guardrail.values import Case, Look, to_json

OWN = ("resource", "etag", "seq", "head")       # fields of a Case that have their own column
UNKEPT = (*OWN, "forged")
ROWS = 90                                       # for the records of one commit: room is left for case, look and more
TEXT_BYTES = 32_000                             # as one string: never more than 64 KiB of UTF-16
PIECE_BYTES = 60 * 1024
BATCH_BYTES = 1_000_000                         # and so of an entity: more in one piece holds up the event loop (aiohttp)
UNPACKED_BYTES = 64 * 1024 * 1024               # a row of ours is never larger: what is, was put there to burst us


def known(v: object, row: str, resource: str) -> None:
    """Errors: Held for a row of a version that this program does not know."""
    if v != V:
        raise Held(f"the row {row} of {resource} is of version {v}, this program knows {V}: it is left untouched")


def decode(body: bytes, type: type[Any], where: str) -> Any:
    """Errors: Malformed."""
    try:
        return msgspec.json.decode(body, type=type)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(f"the row of {where} cannot be read: {error}") from error


def case_of(v: object, resource: str, etag: str, seq: int, head: str, body: bytes) -> Case:
    """Errors: Held, Malformed."""
    known(v, "case", resource)
    fields = decode(body, dict[str, Any], resource)
    if isinstance(fields.get("accepted"), list):        # a row from before people signed: it does not say who they were
        fields.update(accepted={}, accepting={})
    try:
        fields.update(resource=resource, etag=etag, seq=seq, head=head, forged=())
        case: Case = msgspec.convert(fields, Case)
    except msgspec.MsgspecError as error:
        raise Malformed(f"the row of {resource} cannot be read: {error}") from error
    return case


def case_body(case: Case) -> bytes:
    fields = msgspec.to_builtins(case)
    for name in UNKEPT:
        del fields[name]
    return to_json({"v": V, **fields})


def is_open(case: Case) -> bool:
    """Whether something is left to do, so that tend and the console must find it."""
    return bool(case.findings or case.asked or case.acting or case.stuck or case.outbox or case.wishes or case.due)


def due_at(case: Case) -> float | None:
    """From when tend must see to it, in seconds since 1970; 0: at once; None: never by itself."""
    if case.outbox or case.wishes:
        return 0.0
    return case.due.timestamp() if case.due and not case.stuck else None


def look_of(resource: ResourceId, generation: int, body: bytes) -> Look:
    """A look that cannot be read is one by unknown actors: only a hint, it costs no more than a read."""
    try:
        look: Look = decode(body, Look, resource)
    except Malformed:
        return Look(resource, "sweep", (unknown(resource),), generation)
    return replace(look, resource=resource, generation=generation)


def look_body(look: Look) -> bytes:
    return to_json({"v": V, **msgspec.to_builtins(look)})


# Records as rows: one a row, or several where one commit has more than ROWS of them

def record_rows(stored: Sequence[StoredRecord]) -> list[tuple[str, bytes]]:
    """(row key, body) of records that are written together. The key names the last record in the row."""
    size = max(1, -(-len(stored) // ROWS))
    packs = [stored[at: at + size] for at in range(0, len(stored), size)]
    return [(record_key(pack[-1].seq), b"\n".join(f"{one.hash} ".encode() + one.body for one in pack)) for pack in packs]


def record_key(seq: int) -> str:
    return f"r-{seq:012}"


def records_of(row_key: str, body: bytes) -> Iterable[StoredRecord]:
    """The records in a row, as they stand there, damaged ones too: it is for a verifier to say what is wrong."""
    lines = body.split(b"\n")
    for seq, line in enumerate(lines, int(row_key[2:]) - len(lines) + 1):
        hash, _, record = line.partition(b" ")
        yield StoredRecord(seq, record, hash.decode("utf-8", "replace"))


# Bodies as properties

def packed(body: bytes) -> dict[str, Any]:
    """As text where it is short, else compressed in pieces; how much of that fits is for the store to see."""
    if len(body) <= TEXT_BYTES:
        return {"body": body.decode()}
    small = zlib.compress(body, 6)
    return {f"z{at // PIECE_BYTES:03}": small[at: at + PIECE_BYTES] for at in range(0, len(small), PIECE_BYTES)}


def pieces(entity: Mapping[str, Any]) -> list[str]:
    """The names of the properties that hold the body."""
    return sorted(name for name in entity if name == "body" or (name[:1] == "z" and name[1:].isdigit()))


def unpacked(entity: Mapping[str, Any]) -> bytes:
    """Errors: Malformed."""
    try:
        if "body" in entity:
            return str(entity["body"]).encode()
        return inflated(b"".join(entity[name] for name in pieces(entity)))
    except (TypeError, UnicodeEncodeError) as error:
        raise Malformed(f"a row's body cannot be read: {error}") from error


def inflated(small: bytes) -> bytes:
    """Errors: Malformed."""
    unpacker = zlib.decompressobj()
    try:
        body = unpacker.decompress(small, UNPACKED_BYTES)
    except zlib.error as error:
        raise Malformed(f"a row's body cannot be read: {error}") from error
    if not unpacker.eof:
        raise Malformed("a row's body is cut off, or larger than any of ours")
    return body


def outside(entity: dict[str, Any]) -> tuple[str, bytes]:
    """Takes the body out of an entity, which then names it by its hash; both, for a blob."""
    body = zlib.compress(unpacked(entity), 6)
    for name in pieces(entity):
        del entity[name]
    entity["blob"] = hashlib.sha256(body).hexdigest()
    return entity["blob"], body


def size(entity: Mapping[str, Any]) -> int:
    """Bytes in a batch, at most: binary in base64, text in ASCII as the SDK sends it, and a kilobyte for the rest."""
    return 1024 + sum(
        len(value) * 4 // 3 + 4 if isinstance(value, bytes) else len(json.dumps(value)) for value in entity.values())
