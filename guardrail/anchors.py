"""The anchors: every five minutes one line that says where all chains end, kept where the records cannot be rewritten with it.

A line holds the root over all heads, the heads that moved since the line before (each DAILY-th: all of them), and that
line's hash. A store that is older than its anchors was put back by somebody.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import msgspec

from guardrail.chain import ZERO, Chain, root
from guardrail.errors import Malformed
from guardrail.ids import ResourceId
from guardrail.names import chain_key
from guardrail.stores import HOME, Store
from guardrail.values import Record, to_json

DAILY = 288     # anchors from one with all heads to the next: a day of them
WHOLE = 12      # anchors from one that walked all chains to the next: an hour of them
UNRECORDED = 3  # anchors that may lack their record: whoever wrote them died right after
LATELY = 500    # records of the installation, of which one mostly is that of an anchor



class AnchorLine(msgspec.Struct, frozen=True):
    v: int
    n: int                                      # from 1
    at: datetime
    root: str
    heads: int
    previous: str                               # SHA-256 of the line before, ZERO before the first
    moved: tuple[tuple[str, int, str], ...]     # resource, seq, head


@dataclass(frozen=True, slots=True)
class Heads:
    """The newest anchors, where chains end, and when the run-time rules were signed by the newest anchor's record."""

    lines: Sequence[bytes]
    anchors: Sequence[AnchorLine]
    chains: Sequence[Chain]     # all, or those that may have moved since the newest anchor
    is_whole: bool
    written: int                # the newest anchor by the installation's records, 0: none
    rules_at: datetime | None

    @property
    def rolled_back(self) -> str:
        """What is older than the anchors say, or gone; "" if nothing is (C4)."""
        newest = self.anchors[-1].n if self.anchors else 0
        if newest < self.written:
            return f"anchor {self.written} was written, and the newest that is there is {newest or 'none'}"
        if newest > self.written + UNRECORDED:
            return f"anchor {newest} is there, and the records know of none after {self.written}"
        found = {chain_key(one.resource): one for one in self.chains}
        anchored = {chain_key(ResourceId(one[0])): one for line in self.anchors for one in line.moved}
        for key, (resource, seq, head) in anchored.items():
            now = found.get(key)
            if now is None and not self.is_whole:
                continue
            if now is None or now.seq < seq:
                return f"{resource}: record {seq} was anchored, and its newest is {now.seq if now else 'none'}"
            if now.seq == seq and now.head != head:
                return f"{resource}: record {seq} is not the one that was anchored"
        return ""


async def heads(store: Store, *, whole: bool = True, only: ResourceId | None = None) -> Heads:
    """Every chain's; else, but for each WHOLE-th anchor, those that the store says have moved since the newest one.

    `only`: that resource's and our own.

    Errors: StoreDown; Malformed if an anchor cannot be read.
    """
    case, _ = await store.load(HOME)
    written, rules_at = 0, None
    for after in dict.fromkeys((max(0, case.seq - LATELY), 0)):
        for one in await store.records(HOME, after):
            if b'"anchor.written"' in one.body and (record := json.loads(one.body))["event"] == "anchor.written":
                written, said = record["detail"]["n"], record["detail"].get("rules")
                rules_at = datetime.fromisoformat(said) if said else None
        if written:
            break
    lines = await store.anchors(last=DAILY)         # after their records, and before the chains: others go on writing
    try:
        anchors = [msgspec.json.decode(line, type=AnchorLine) for line in lines]
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Malformed(f"an anchor cannot be read: {error}") from error
    if only is not None:
        cases = [(await store.load(one))[0] for one in (only, HOME)]
        return Heads(lines, anchors, [Chain(one.resource, one.seq, one.head) for one in cases], False, written, rules_at)
    whole = whole or not anchors or anchors[-1].n % WHOLE == 0
    chains = [chain async for chain in store.chains(None if whole else anchors[-1].at)]
    return Heads(lines, anchors, chains, whole, written, rules_at)


async def write(store: Store, at: datetime, known_heads: Heads | None = None, rules_at: datetime | None = None) -> bytes:
    """The next anchor over all heads, written and recorded. Errors: Stale if another wrote it first, as `heads`."""
    now = known_heads or await heads(store, whole=False)
    lines, last = now.lines, now.anchors[-1] if now.anchors else None
    number = last.n + 1 if last else 1
    before = latest(now.anchors)
    found = {chain_key(one.resource): one for one in now.chains if one.seq}
    ends = {**({} if now.is_whole else before), **{key: one.head for key, one in found.items()}}
    known = {} if number % DAILY == 1 else before
    moved = [(one.resource, one.seq, one.head) for key, one in found.items() if known.get(key) != one.head]
    total = root(ends.items())
    line = to_json(AnchorLine(1, number, at, total, len(ends), hash_of(lines[-1]) if lines else ZERO, tuple(moved)))
    await store.add_anchor(number, line, Record("anchor.written", at, "guardrail", "", "", "",
                                                {"n": number, "root": total, "heads": len(ends), "rules": rules_at}))
    return line


def latest(lines: Iterable[AnchorLine]) -> dict[str, str]:
    return {chain_key(ResourceId(resource)): head for line in lines for resource, _, head in line.moved}


def hash_of(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()
