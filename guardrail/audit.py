"""The proof that nobody rewrote the records: every chain followed, and its heads compared with the anchors.

Verifying works on the lines of an export, so that a stranger can do it without us; a live store is exported as it is
read. Who can rewrite store and anchors alike is not found out: keep a copy of the anchors elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from guardrail import ocsf
from guardrail.anchors import AnchorLine, hash_of, latest
from guardrail.chain import ZERO, Chain, StoredRecord, follow, root
from guardrail.errors import Held, Malformed
from guardrail.ids import ResourceId
from guardrail.names import chain_key
from guardrail.redact import redact
from guardrail.stores import Store

__all__ = ["Broken", "Report", "Verifier", "anchor_lines", "export", "export_ocsf", "redact", "verify",
           "verify_store"]


@dataclass(frozen=True, slots=True)
class Broken:
    """The first place in a chain where something does not fit. `seq` 0: the chain as such."""

    resource: str       # "" for the anchors
    seq: int
    why: str            # what does not fit, without the hashes
    expected: str = ""  # what was written down earlier: a hash, or a number
    found: str = ""     # what stands there now

    def __str__(self) -> str:
        hashes = f" (hash {self.found[:8] or 'none'}.. expected {self.expected[:8]}..)" if self.expected else ""
        return f"{self.resource.rsplit('/', 1)[-1] or ('anchors' if self.seq else 'export')}: {self.why}{hashes}"


@dataclass(frozen=True, slots=True)
class Report:
    records: int
    chains: int
    intact: int                     # of `chains`; one that is missing altogether is in `broken` alone
    anchors: int
    newest_anchor: datetime | None
    broken: tuple[Broken, ...]

    @property
    def ok(self) -> bool:
        return not self.broken


class _Named(msgspec.Struct, frozen=True):
    """What a verifier needs of a record. The first ones that were ever written do not name their resource."""

    event: str = ""
    resource: str = ""
    detail: msgspec.Raw = msgspec.Raw(b"{}")


# Writing

async def export(store: Store, since: datetime | None = None) -> AsyncIterator[bytes]:
    """JSON lines: the anchors, each chain and its records (from the first one not before `since`), late anchors, the end."""
    number = 0
    async for fields in _export(store, since):
        number += 1
        yield json.dumps({"v": 1, **fields}, separators=(",", ":")).encode()
    yield json.dumps({"v": 1, "kind": "end", "lines": number}, separators=(",", ":")).encode()


async def _export(store: Store, since: datetime | None) -> AsyncIterator[dict[str, Any]]:
    anchors = await store.anchors()
    for line in anchors:
        yield {"kind": "anchor", "line": _text(line)}
    async for chain in store.chains():
        chain, records = await _still(store, chain)
        first = next((at for at, one in enumerate(records) if since is None or not _before(one, since)), len(records))
        before = records[first - 1] if first else StoredRecord(0, b"", ZERO)
        yield {"kind": "chain", "resource": chain.resource, "seq": chain.seq, "head": chain.head, "after": before.seq,
               "previous": before.hash}
        for one in records[first:]:
            yield {"kind": "record", "resource": chain.resource, "seq": one.seq, "hash": one.hash, "body": _text(one.body)}
    for line in (await store.anchors())[len(anchors):]:
        yield {"kind": "late anchor", "line": _text(line)}


async def export_ocsf(store: Store, since: datetime | None = None,
                      class_uid: int = ocsf.DETECTION) -> AsyncIterator[bytes]:
    """JSON lines for a SIEM: what was found and what was attempted, chain by chain. They prove nothing: `export` does."""
    first = ocsf.milliseconds(since) if since else 0
    async for chain in store.chains():
        told = ocsf.Records(chain.resource, class_uid)
        for one in await store.records(chain.resource):
            event = told.event(one)
            if event is not None and event["time"] >= first:
                yield msgspec.json.encode(event)


async def _still(store: Store, chain: Chain) -> tuple[Chain, Sequence[StoredRecord]]:
    """Head and records of one moment, while others go on writing: records first, then a head that has not moved on."""
    records = await store.records(chain.resource)
    while chain.seq and len(records) != chain.seq:
        try:
            case, _ = await store.load(chain.resource)
        except (Held, Malformed):
            break
        if case.seq == chain.seq:
            break       # it stands still, and does not fit: that is for the verifier
        chain = Chain(chain.resource, case.seq, case.head)
        records = await store.records(chain.resource)
    return chain, records


def _before(record: StoredRecord, since: datetime) -> bool:
    try:
        return datetime.fromisoformat(json.loads(record.body)["at"]) < since
    except (ValueError, KeyError, TypeError):
        return False


def _text(stored: bytes) -> str:
    """Bytes as stored, damaged ones too, so that `_bytes` gives them back exactly."""
    return stored.decode("utf-8", "surrogateescape")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


# Verifying

async def verify_store(store: Store, anchors: Iterable[bytes] = ()) -> Report:
    """Of a live store; `anchors`: lines kept elsewhere, which the store must agree with."""
    verifier = Verifier(anchors)
    async for line in export(store):
        verifier.add(line)
    return verifier.report()


def verify(lines: Iterable[bytes], anchors: Iterable[bytes] = ()) -> Report:
    """Of an export, without any store."""
    verifier = Verifier(anchors)
    for line in lines:
        verifier.add(line)
    return verifier.report()


def anchor_lines(lines: Iterable[bytes]) -> list[bytes]:
    """The anchors among `lines` that somebody kept: themselves, as they lie in the store, or in an export.

    What is neither is taken for an anchor, so that the verifier says that it cannot be read.
    """
    return [_bytes(one["line"]) if isinstance(one.get("line"), str) else line
            for line, one in ((line, _fields(line)) for line in lines) if one.get("kind") not in ("chain", "record", "end")]


def _fields(line: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return fields if isinstance(fields, dict) else {}


@dataclass(slots=True)
class _Chain:
    """A chain as far as it was read."""

    resource: str
    seq: int                        # of the newest record, by the case
    head: str
    at: int                         # the record that was read last
    hash: str
    broken: Broken | None = None    # the first place only: what follows it does not fit either

    def breaks(self, seq: int, why: str, expected: str = "", found: str = "") -> None:
        self.broken = self.broken or Broken(self.resource, seq, why, expected, found)


class Verifier:
    """Takes an export line by line. `kept`: anchor lines from elsewhere, the store's own must be the same."""

    def __init__(self, kept: Iterable[bytes] = ()) -> None:
        self._chains = dict[str, _Chain]()
        self._anchors = list[tuple[bytes, AnchorLine]]()
        self._anchored = dict[str, dict[int, tuple[str, str]]]()    # chain key -> seq -> (resource, head)
        self._written = dict[int, str]()                            # anchor -> its root, by the installation's records
        self._late = list[AnchorLine]()
        self._broken = list[Broken]()
        self._records = self._lines = 0
        self._ended = -1                                            # the line that says it is the last one
        for line in kept:
            self._anchor(line)

    def add(self, line: bytes) -> None:
        self._lines += 1
        try:
            fields = json.loads(line)
            match fields["kind"]:
                case "anchor":
                    self._anchor(_bytes(fields["line"]))
                case "late anchor":
                    self._late.append(msgspec.json.decode(_bytes(fields["line"]), type=AnchorLine))
                case "chain":
                    self._chains[chain_key(fields["resource"])] = _Chain(
                        fields["resource"], fields["seq"], fields["head"], at=fields["after"], hash=fields["previous"])
                case "record":
                    self._record(fields["resource"], fields["seq"], fields["hash"], _bytes(fields["body"]))
                case "end":
                    self._ended = fields["lines"] + 1
                case kind:
                    self._broken.append(Broken("", 0, f"line {self._lines} is of no known kind: {kind!r}"))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            self._broken.append(Broken("", 0, f"line {self._lines} cannot be read: {error!r}"))

    def _anchor(self, raw: bytes) -> None:
        try:
            line = msgspec.json.decode(raw, type=AnchorLine)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            self._broken.append(Broken("", 0, f"anchor {len(self._anchors) + 1} cannot be read: {error}"))
            return
        if line.n <= len(self._anchors):
            if raw != (other := self._anchors[line.n - 1][0]):
                self._broken.append(Broken("", line.n, f"anchor {line.n} is not the one that was kept", hash_of(other),
                                           hash_of(raw)))
            return
        before = hash_of(self._anchors[-1][0]) if self._anchors else ZERO
        if line.n != len(self._anchors) + 1 or line.previous != before:
            why = f"anchor {line.n} does not follow the one before"
            self._broken.append(Broken("", line.n, why, line.previous, before))
        self._anchors.append((raw, line))
        for resource, seq, head in line.moved:
            self._anchored.setdefault(chain_key(ResourceId(resource)), {})[seq] = (resource, head)

    def _record(self, resource: str, seq: int, hash: str, body: bytes) -> None:
        self._records += 1
        key = chain_key(ResourceId(resource))
        chain = self._chains[key]
        computed = follow(chain.hash, body)
        _, anchored = self._anchored.get(key, {}).get(seq, ("", hash))
        if seq != chain.at + 1:
            chain.breaks(chain.at + 1, f"record {chain.at + 1} is missing")
        elif computed != hash:
            chain.breaks(seq, f"record {seq} does not follow record {seq - 1}", hash, computed)
        elif anchored != hash:
            chain.breaks(seq, f"record {seq} is not the one that was anchored", anchored, hash)
        chain.at, chain.hash = seq, hash
        try:
            record = msgspec.json.decode(body, type=_Named)
        except (ValueError, RecursionError):
            chain.breaks(seq, f"record {seq} cannot be read")
            return
        if record.resource and chain_key(ResourceId(record.resource)) != key:
            chain.breaks(seq, f"record {seq} is one of {record.resource}")
        if record.event == "anchor.written":
            detail = msgspec.json.decode(record.detail)
            self._written[detail["n"]] = detail["root"]

    def report(self) -> Report:
        for key, chain in self._chains.items():
            newest, (_, head) = max(self._anchored.get(key, {}).items(), default=(0, ("", "")))
            if chain.at < chain.seq:
                chain.breaks(chain.at + 1, f"record {chain.at + 1} and all after are missing", chain.head, chain.hash)
            elif not chain.seq:
                chain.breaks(0, "its case is missing, its records are there")
            elif chain.at > chain.seq:
                chain.breaks(chain.seq + 1, f"record {chain.seq + 1} lies beyond the head", chain.head, chain.hash)
            elif chain.head != chain.hash:
                chain.breaks(chain.seq, f"record {chain.seq} is not the head", chain.head, chain.hash)
            if newest > chain.at:
                chain.breaks(newest, f"record {newest} was anchored and is missing", head)
        in_chains = [chain.broken for chain in self._chains.values() if chain.broken]
        broken = (*self._broken, *self._cut(), *in_chains, *self._missing(), *self._anchors_broken())
        newest_at = self._anchors[-1][1].at if self._anchors else None
        chains = len(self._chains)
        return Report(self._records, chains, chains - len(in_chains), len(self._anchors), newest_at, broken)

    def _cut(self) -> Iterable[Broken]:
        if self._ended != self._lines:
            yield Broken("", 0, f"the export is cut off, or lines are missing: {self._lines} are here")

    def _missing(self) -> Iterable[Broken]:
        for key, seqs in self._anchored.items():
            if key not in self._chains:
                seq, (resource, head) = max(seqs.items())
                yield Broken(resource, seq, f"the chain is missing, its record {seq} was anchored", head)

    def _anchors_broken(self) -> Iterable[Broken]:
        lines = [line for _, line in self._anchors]
        found = {line.n: line.root for line in (*lines, *self._late)}
        for number, expected in self._written.items():
            if found.get(number) != expected:
                yield Broken("", number, f"anchor {number} is not the one that was recorded", expected,
                             found.get(number, ""))
        if lines:
            heads = latest(lines)
            if (total := root(heads.items())) != lines[-1].root or len(heads) != lines[-1].heads:
                why = f"the root of anchor {lines[-1].n} is not that of its heads"
                yield Broken("", lines[-1].n, why, lines[-1].root, total)
