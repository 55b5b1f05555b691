"""What has to hold in a random evening, whatever happens: the invariants of the threat model, by their numbers."""

from __future__ import annotations

import json
import pathlib
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import unquote

import recorded
from detectors import CONTROLS
from guardrail import audit, plans, policy, rights
from guardrail.documents import Document
from guardrail.errors import Unsafe
from guardrail.ids import ResourceId, fold
from guardrail.ids import type_of as type_name
from guardrail.paths import ABSENT, Path, get, parse, same, show, under
from guardrail.proof import prove
from guardrail.settings import LOCAL_GROUP
from guardrail.values import Control, Edit, Finding
from simulator import Exchange
from tests.evening import CANARY, Evening
from tests.flow.harness import TYPES, event, plain_store
from tests.flow.world import PROD, type_of
from tests.oracle import SERVERS, Write, applied, changed, full, is_trusted, root_of

LEASE = timedelta(minutes=5)

# from -> to; contracts, "States of an action". applying -> applying: a worker died, or Azure did not take it
NEXT: Mapping[str, frozenset[str]] = {state: frozenset(after.split()) for state, after in {
    "": "proposed held applying",
    "proposed": "approved rejected expired superseded held",
    "held": "approved rejected superseded applying held",
    "approved": "applying held superseded expired",
    "applying": "applying applied held superseded failed unknown",
    "applied": "verified applying failed unknown superseded",
    "failed": "applying verified superseded",
    "unknown": "verified failed superseded",
    "verified": "rolled_back", "rejected": "superseded", "expired": "superseded"}.items()}

class Trial(Evening):
    """One evening, and its checks. Those of records and requests take what is new: asked again, they go on from there."""

    skew = timedelta(0)         # how far the clocks of workers are apart, and how long a request may be under way

    def __post_init__(self) -> None:
        super().__post_init__()
        self.unseen = list[str]()
        self.edits = dict[str, Sequence[Edit]]()
        self.applied = dict[str, int]()         # how many states had been seen when an action began
        self.requests = dict[str, tuple[datetime, Mapping[str, Any], Mapping[str, Any]]]()      # by client request id
        self.approved = set[str]()
        self.until = dict[ResourceId, datetime]()       # the claim that lives
        self.state = dict[str, str]()                   # of each action
        self.sent = dict[str, Exchange]()

    def before_the_sweep(self) -> None:
        self.unseen = list(self.not_read())

    async def watched(self, what: Callable[[], Any]) -> None:
        """One happening; whatever was called verified in it did stand there at some instant since it was applied."""
        seqs = {id: (await self.here.case(id)).seq for id in self.ids}
        began = {id: len(self.oracle.states.get(id, ())) for id in self.ids}
        for id in self.ids:
            self.oracle.see(id)
        await super().watched(what)
        for id in self.ids:
            self.oracle.see(id)
            for one in await plain_store(self.here.guardrail).records(id, seqs[id]):
                self.saw(id, json.loads(one.body), began[id])

    def saw(self, id: ResourceId, record: Mapping[str, Any], began: int) -> None:
        detail = record["detail"]
        if record["event"] == "action.applying":
            self.applied.setdefault(detail["action_id"], began)
            self.edits[detail["action_id"]] = [
                Edit(edit["path"], after=edit.get("after", ABSENT)) for edit in detail.get("edits", ())] or self.edits.get(
                    detail["action_id"], [])
        if record["event"] in ("action.verified", "resource.quarantined"):
            edits = self.edits[detail["action_id"]]
            states = self.oracle.states[id][self.applied[detail["action_id"]]:]
            if not any(plans.holds(document, edits) for document in states):
                raise AssertionError(self.told_of(5, f"{id}: called verified, and {edits} never stood there"))

    async def check(self) -> None:
        """Errors: AssertionError, with the invariant's number and the seed."""
        chains = {id: await self.here.records(id) for id in self.ids}
        for number, check in ((1, self.written_as_told), (2, self.never_wider), (8, self.once), (12, self.to_nobody_else),
                              (13, self.paths_of_states)):
            for why in check(chains):
                raise AssertionError(self.told_of(number, why))
        for number, later in ((4, self.all_seen), (5, self.at_rest), (13, self.verified), (15, self.no_canary),
                              (6, self.left_alone)):
            async for why in later():
                raise AssertionError(self.told_of(number, why))

    def told_of(self, number: int, why: str) -> str:
        return f"invariant {number}, seed {self.seed}: {why}\n{dict(self.did)}"

    def written_as_told(self, chains: Mapping[ResourceId, Sequence[Mapping[str, Any]]]) -> Iterator[str]:
        """1, 3, 7: each write belongs to a request that was on record, was allowed then, and says nothing but its edits."""
        self.remember(chains)
        for line in self.here.ours:
            if not is_probe(line):
                yield from self.was_told(line)
        for write in self.oracle.writes:
            yield from self.was_declared(write)

    def remember(self, chains: Mapping[ResourceId, Sequence[Mapping[str, Any]]]) -> None:
        for records in chains.values():
            for record in of(records, "action.applying"):
                for one in record["detail"].get("requests", ()):
                    at = datetime.fromisoformat(record["at"])
                    self.requests.setdefault(one["client_request_id"], (at, record["detail"], one["request"]))

    def was_told(self, line: Exchange) -> Iterator[str]:
        what, at = f"{line.method} {line.path}", datetime.fromtimestamp(line.at, self.here.clock().tzinfo)
        known = self.requests.get(line.headers.get("x-ms-client-request-id", ""))
        if known is None or known[0] > at + self.skew:
            yield f"{what} is on no record before it"
            return
        request = known[2]
        path = unquote(request["url"].partition("?")[0])
        if (line.method, line.path, line.api_version) != (request["method"], path, request["api_version"]):
            yield f"{what} {line.api_version} is not what was on record: {request}"
        if f"/subscriptions/{PROD}" in line.path and known[1]["action_id"] not in self.approved:
            yield f"{what} in production, which nobody approved"
        if not any(switch == "policy" for switch in self.switches(at - timedelta(seconds=5) - self.skew, at)):
            yield f"{what} at {at} while the switch was {self.switches(at, at)}"

    def was_declared(self, write: Write) -> Iterator[str]:
        detail = self.requests.get(write.line.headers.get("x-ms-client-request-id", ""), (None, {}))[1]
        if write.before.gone or is_trusted(write):
            return
        born = plans.incarnation(type_of(write.before.type), write.before)
        if detail.get("incarnation", born) != born and not self.lived(write, detail["incarnation"]):
            yield f"{write.line.method} {write.line.path} to another life: {born}, planned for {detail['incarnation']}"
        edits = {edit["path"]: edit.get("after", ABSENT) for edit in detail.get("edits", ())}
        wanted = recorded.laid(write.before.body, edits)
        for path in changed(write):
            said = any(under(path, parse(one)) for one in edits)
            if not said and not same(get(wanted, path), get(applied(write).body, path)) and not self.raced(
                    write, path, edits):
                yield f"{write.line.method} {write.line.path} changes {show(path)}, declared: {list(edits)}"

    def lived(self, write: Write, incarnation: str) -> bool:
        """Whether that life may have ended between our read and the write. Here nothing happens in between."""
        return False

    def raced(self, write: Write, path: Path, edits: Mapping[str, Any] = {}) -> bool:
        """Whether a PUT brought back what stood there before somebody changed it after our read: no ETag, no way to know.

        `edits`: what it meant to change of that; where the whole item was deleted meanwhile, it came back with them.
        """
        brought, route = get(applied(write).body, path), plans.route_of(type_of(write.before.type), path)
        hidden = (*SERVERS, *route.readonly) if route and len(parse(route.path)) == len(path) else ()
        below = {one: after for one, after in edits.items() if under(parse(one), path)}

        def was(body: Any) -> bool:
            stood = get(body, path)
            if same(stood, brought) or stood is ABSENT or not below:
                return same(stood, brought)
            return same(plans.strip(get(recorded.laid(body, below), path), hidden), plans.strip(brought, hidden))

        return write.line.method == "PUT" and any(was(state.body) for state in self.oracle.states.get(write.root, ()))

    def switches(self, since: datetime, until: datetime) -> list[str]:
        """What the switch was in that time."""
        before = [switch for at, switch in self.switched if at <= since][-1:]
        return before + [switch for at, switch in self.switched if since < at <= until]

    def never_wider(self, _: object) -> Iterator[str]:
        """2: no write makes a control speak that was silent, by the documents as they stood."""
        for write in self.oracle.writes:
            if not write.before.gone and not is_trusted(write) and (found := self.opened(write)):
                yield f"{write.line.method} {write.line.path} {write.line.body} opens {[plans.key(one) for one in found]}"

    def opened(self, write: Write) -> list[Finding]:
        """What a write makes controls find that they did not find before it."""
        known = {plans.key(one) for one in self.judged(write.before)}
        return [one for one in self.judged(applied(write)) if plans.key(one) not in known]

    def once(self, chains: Mapping[ResourceId, Sequence[Mapping[str, Any]]]) -> Iterator[str]:
        """8: one live claim a resource; a POST once; a request that is repeated says the same."""
        yield from self.claims(chains)
        yield from self.repeated(self.here.ours)        # the probe's too: each has an id of its own

    def claims(self, chains: Mapping[ResourceId, Sequence[Mapping[str, Any]]]) -> Iterator[str]:
        for id, records in chains.items():
            for record in records:
                at = datetime.fromisoformat(record["at"])
                if record["event"] == "action.applying" and record["detail"].get("requests"):
                    if id in self.until and at + self.skew < self.until[id]:
                        yield f"two claims on {id} at {at}"
                    self.until[id] = at + LEASE
                elif record["event"].startswith(("action.", "resource.", "look.retried")):
                    self.until[id] = at

    def repeated(self, lines: Sequence[Exchange]) -> Iterator[str]:
        for line in lines:
            before = self.sent.setdefault(line.headers.get("x-ms-client-request-id", ""), line)
            if before is not line and (line.body != before.body or line.method == "POST" and is_open(before.status)):
                yield f"{line.method} {line.path} twice"
            self.sent[line.headers.get("x-ms-client-request-id", "")] = line

    def to_nobody_else(self, _: object) -> Iterator[str]:
        """12: methods, paths and versions are those of the tables and of what stands in the world."""
        yield from self.elsewhere(self.here.sim.log)

    def elsewhere(self, lines: Sequence[Exchange]) -> Iterator[str]:
        versions = {kind.api_version for name in TYPES for kind in (type_of(name),)} | {
            route.api_version for name in TYPES for route in type_of(name).routes}
        for line in lines:
            if line.actor != "guardrail" or line.path == "/msi/token" or is_probe(line):
                continue
            graph = line.path.endswith("/Microsoft.ResourceGraph/resources")
            root = fold(ResourceId(root_of(line.path)))      # a change that no event told of is named in small letters
            known = root in map(fold, self.ids) and (line.method != "GET" or line.api_version in versions)
            if not graph and not known and not self.sweeps(line, versions):
                yield f"{line.method} {line.path} {line.api_version}"
            if line.method == "GET" and set(line.query) != {"api-version"}:
                yield f"{line.path} with {line.query}"

    def sweeps(self, line: Exchange, versions: Collection[str]) -> bool:
        """Whether it is a read of the sweep's: our rights in a group that holds one of ours, or the list that one is in."""
        above, is_rights, _ = line.path.partition("/providers/Microsoft.Authorization/permissions")
        holds = any(fold(id).startswith(f"{fold(ResourceId(above))}/") for id in self.ids)
        version = line.api_version == rights.VERSION if is_rights else line.api_version in versions
        return line.method == "GET" and holds and version and (bool(is_rights) or above.count("/") > 8)

    def paths_of_states(self, chains: Mapping[ResourceId, Sequence[Mapping[str, Any]]]) -> Iterator[str]:
        """13: the records of an action are a path of the table, without gaps."""
        for records in chains.values():
            for record in records:
                kind, _, word = record["event"].partition(".")
                if kind != "action" and record["event"] != "resource.quarantined":
                    continue
                if word == "approved" and "from" not in record["detail"]:
                    continue        # the first yes of two
                word = "verified" if record["event"] == "resource.quarantined" else word
                id, was = record["detail"]["action_id"], record["detail"]["from"]
                if id in self.state and self.state[id] != was:
                    yield f"{id} was {self.state[id]}, and moves from {was} to {word}"
                if word not in NEXT.get(was if id in self.state else "", frozenset()):
                    yield f"{id} moves from {was if id in self.state else 'nothing'} to {word}"
                self.state[id] = word

    async def all_seen(self) -> Any:
        """4: after every acknowledged event on a guarded resource a read of it began, or its row still waits."""
        for why in self.unseen:
            yield why

    def not_read(self) -> Iterator[str]:
        last = dict[ResourceId, int]()
        for index, line in enumerate(self.here.sim.log):
            if line.method == "GET" and line.actor == "guardrail":
                last[ResourceId(line.path)] = index
        for index, subject in self.arrived:
            root = root_of(subject)
            if root in self.ids and last.get(root, -1) < index:
                yield f"{subject} was never read after its event"

    async def at_rest(self) -> Any:
        """5: compliant, or an open action or a finding that no one can act on says why not. Nothing stays applying."""
        by_id = {control.id: control for control in CONTROLS}
        for id in self.ids:
            case, waiting = await self.here.guardrail.store.load(id)
            document = replace(full(self.here, id), good=case.good)
            found = self.judged(document)
            if {plans.key(one) for one in found} != case.findings:
                yield f"{id}: found {case.findings}, and it is {[plans.key(one) for one in found]}"
            if case.stuck:
                yield f"{id} is stuck: {case.stuck}"
            if case.acting is not None and case.acting.state in ("applying", "applied", "approved"):
                yield f"{id} is still {case.acting.state}: {case.acting.why}"
            if case.acting is not None and case.acting.leased_until is not None:
                yield f"{id} is still leased"
            if waiting is not None and waiting.changes:
                yield f"{id} has events that nobody looked at"
            open_for = [action for action in (case.asked, case.acting) if action is not None]
            for one in found:
                control = by_id[one.control]
                wanted = one.drift is not None and one.drift.decided and control.response == "revert"
                waits = case.asked is not None or (case.acting is not None and case.acting.state == "unknown")
                says = waits or any(control.id in action.plan.controls for action in open_for)
                if wanted and not says and self.can_be_mended(document, one):
                        yield f"{id}: {plans.key(one)} is open and nothing says why: {await self.here.events_of(id)}"

    def can_be_mended(self, document: Document, finding: Finding) -> bool:
        """Whether a plan for this finding alone would pass: if not, its decision said so."""
        type = type_of(document.type)
        edits, refused = plans.edits(type, [finding.drift] if finding.drift else [])
        try:
            prove(document, plans.steps(type, document, edits), self.controls(document), self.parameters(document))
        except Unsafe:
            return False
        return not refused

    async def left_alone(self) -> Any:
        """6: nothing more is written, whatever comes, where nothing is wrong."""
        count = Counter(root_of(write.line.path) for write in self.oracle.writes)
        for id in self.ids:
            await self.tell(*[event(id), event(id, f"{type_name(id)}/frobnicate/action")] * 3)
        for _ in range(2):
            await self.here.guardrail.sweep()
            for _ in range(6):
                await self.settle()
                self.here.clock.forward(20)
                await self.here.guardrail.tend()
        after = Counter(root_of(write.line.path) for write in self.oracle.writes)
        for id in self.ids:
            case = await self.here.case(id)
            if after[id] != count[id] and case.acting is None and case.asked is None:
                yield f"{id} was right, and was written to"

    async def verified(self) -> Any:
        report = await audit.verify_store(self.here.guardrail.store)
        for one in report.broken:
            yield str(one)

    async def no_canary(self) -> Any:
        file = pathlib.Path(self.here.guardrail.settings.store)
        for path in file.parent.glob(f"{file.name}*"):
            if CANARY.encode() in path.read_bytes():
                yield f"a secret stands in {path.name}"

    def controls(self, document: Document) -> Sequence[Control]:
        return self.here.guardrail.engine.controls_on(type_of(document.type))

    def parameters(self, document: Document) -> Callable[[Control], Mapping[str, Any]]:
        file = self.here.guardrail.engine.policy
        place = policy.place(document.id, file)
        return lambda control: policy.parameters(control, place, file)

    def judged(self, document: Document) -> list[Finding]:
        return plans.judge(self.controls(document), document, self.parameters(document))


def is_probe(line: Exchange) -> bool:
    """7: the one write of an installation that only reports: one tag, the time, on our own group, nothing else."""
    asked = (line.method, line.path, line.api_version, set(line.query))
    if asked != ("PATCH", f"{LOCAL_GROUP}/providers/Microsoft.Resources/tags/default", "2025-04-01", {"api-version"}):
        return False
    value = line.body["properties"]["tags"].get("guardrail-probe", "")
    is_time = re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", value) is not None
    return is_time and line.body == {"operation": "Merge", "properties": {"tags": {"guardrail-probe": value}}}


def is_open(status: int) -> bool:
    """Whether a request that was answered so may have taken effect, as far as its sender can know (0: no answer)."""
    return not 400 <= status < 500 or status == 408


def of(records: Sequence[Mapping[str, Any]], event: str) -> list[Mapping[str, Any]]:
    return [record for record in records if record["event"] == event]
