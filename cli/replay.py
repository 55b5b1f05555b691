"""guardrail replay: recorded events through the real engine, on documents of your own; or on to a running host."""

from __future__ import annotations

import asyncio
import http.client
import os
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli import documents, hook, target
from cli.output import Code, Ended, count, say, table, tell, text
from guardrail import app, events, ids, names
from guardrail.app import Guardrail
from guardrail.events import Ignored, Rejected
from guardrail.ids import ResourceId
from guardrail.paths import ABSENT
from guardrail.stores import HOME
from guardrail.values import MODES, Change, Drift, Finding, to_json

if TYPE_CHECKING:
    from console.views import Row
    from simulator import Simulator

STEP = timedelta(minutes=1)     # between two events, on the replay's own clock: none is debounced
WORDS = {"ignore": "exempt", "report": "report", "approve": "ask", "enforce": "revert"}
ENDS = ("action.verified", "resource.quarantined", "action.proposed", "action.held", "action.failed")
LOOKS_AT_MOST = 50              # of one event; a world that never rests must not hang a replay


def replay(
    source: Annotated[str, typer.Argument(metavar="FILE|FOLDER|-", help="Events, as Event Grid delivered them.")],
    documents_in: Annotated[str, typer.Option("--documents", metavar="DIR", help="The resources; without: the recorded "
                                              "good ones.")] = "",
    policy_name: Annotated[str, typer.Option("--policy", metavar="FILE")] = "",
    to: Annotated[str, typer.Option(metavar="URL", help="Sends the events on to this host instead.")] = "",
    apply: Annotated[bool, typer.Option("--apply", help="Let the engine write, to the replay's own simulator.")] = False,
    output: Annotated[str, typer.Option("-o", "--output", help="table or json.")] = "table",
) -> None:
    """Plays recorded events through the engine, which reports what it would do."""
    from cli.scan import formats

    formats(output, ("table", "json"))
    deliveries = list(documents.sources(source, "events"))
    if to:
        if documents_in or policy_name or apply:
            raise Ended(Code.USAGE, "--to sends events on; it goes without --documents, --policy and --apply.")
        raise send(deliveries, to)
    loaded = target.load_policy(policy_name)
    name = str(Path(policy_name).absolute()) if policy_name else os.environ.get("GUARDRAIL_POLICY", "guardrail.yaml")
    mode = "enforce on its own simulator" if apply else "report"
    where = documents_in or "recorded good ones (--documents DIR for yours)"
    say(f"target: offline documents: {where}, mode {mode}, {target.policy_text(loaded)}")
    with tempfile.TemporaryDirectory() as folder:
        played = asyncio.run(Player(Path(folder), name, apply).play(deliveries, documents_in))
    raise show(played, output)


def send(deliveries: Sequence[tuple[str, bytes]], to: str) -> Ended:
    """Each delivery as one POST."""
    say(f"target: {hook.url(to)}")
    answers = Counter[str]()
    for where, raw in deliveries:
        try:
            status = str(hook.post(hook.url(to), raw))
        except (OSError, http.client.HTTPException) as error:
            raise Ended(Code.UNFINISHED, f"{to}: {error}. cure: is the host running there?") from error
        except ValueError as error:
            raise Ended(Code.USAGE, f"--to: {error}.") from error
        answers[status] += 1
        tell(f"{status}  {where}")
    taken = answers["202"] + answers["200"]
    if taken < len(deliveries):
        return Ended(Code.UNFINISHED, f"{taken} of {count(len(deliveries), 'delivery', 'deliveries')} taken.")
    return Ended(Code.DONE, f"{count(taken, 'delivery', 'deliveries')} taken.")


@dataclass(slots=True)
class Played:
    """What one event led to."""

    change: str
    resource: str
    verdict: str                # no control, compliant, drift, unreadable, unknown, duplicate, malformed
    findings: list[str] = field(default_factory=list)
    decision: str = ""


class Player:
    """The engine on a simulator of its own, and on a clock that moves with the events."""

    def __init__(self, folder: Path, policy: str, apply: bool) -> None:
        self.folder, self.policy, self.apply = folder, policy, apply
        self.now = app.now()
        self.seen = set[tuple[str, str]]()
        self.simulator: Simulator

    def clock(self) -> datetime:
        return self.now

    async def play(self, deliveries: Sequence[tuple[str, bytes]], documents_in: str) -> list[Played]:
        from cli import simulate, world
        from guardrail.settings import read as read_settings
        from guardrail.signing import Keys, LocalKey
        from guardrail.stores.sqlite import SqliteStore

        self.simulator, _ = simulate.made(documents_in or str(world.GOOD), self.folder)
        url = self.simulator.start(0)
        environment = {
            "GUARDRAIL_SUBSCRIPTIONS": ",".join(self.simulator.subscriptions), "GUARDRAIL_CLOUD": url,
            "IDENTITY_ENDPOINT": f"{url}/msi/token",
            "GUARDRAIL_CEILING": "enforce" if self.apply else "report", "GUARDRAIL_POLICY": self.policy}
        os.environ.update(IDENTITY_ENDPOINT=f"{url}/msi/token", IDENTITY_HEADER="replay")
        store, key = SqliteStore(":memory:", self.clock, durable=False), LocalKey()
        guardrail = app.build(read_settings(environment), store=store, keys=Keys(key, key), clock=self.clock)
        try:
            rules = await guardrail.engine.store.rules()
            await guardrail.engine.set_rules(type(rules)(switch="policy", generation=rules.generation))
            return [played for _, raw in deliveries for played in await self._delivery(guardrail, raw)]
        finally:
            await guardrail.close()
            self.simulator.stop()

    async def _delivery(self, guardrail: Guardrail, raw: bytes) -> list[Played]:
        """Each event of a delivery by itself, so that what it led to can be told apart."""
        played = list[Played]()
        for read in events.read(raw, self.now):
            self.now += STEP
            if isinstance(read, Rejected):
                await guardrail.intake(read.raw)
                id = names.record_id((await guardrail.store.records(HOME))[-1].hash)
                played.append(Played(read.why, "-", "malformed", decision=id))
            elif isinstance(read, Ignored):
                played.append(Played(read.why, "-", "no control"))
            else:
                played.append(await self._change(guardrail, read))
        return played

    async def _change(self, guardrail: Guardrail, change: Change) -> Played:
        engine = guardrail.engine
        actor = f" by {change.actor[:8]}" if change.actor else ""
        told = Played("/".join(change.operation.split("/")[-2:]) + actor, ids.name_of(change.resource), "no control")
        subjects = events.subjects(change, engine.controls, engine.types, engine.subscriptions)
        if not subjects:
            return told
        is_known = (change.event_id, ids.fold(change.resource)) in self.seen
        self.seen.add((change.event_id, ids.fold(change.resource)))
        await guardrail.intake(_again(change))
        for _ in range(LOOKS_AT_MOST):
            if not await guardrail.settle():
                break
        kinds = [await self._subject(guardrail, subject, told) for subject in subjects]
        told.verdict = next((kind for kind in ("drift", "unreadable", "unknown") if kind in kinds), "compliant")
        if is_known:
            told.verdict, told.decision = "duplicate", told.decision or "looked again, nothing new"
        return told

    async def _subject(self, guardrail: Guardrail, subject: ResourceId, told: Played) -> str:
        """What is now known of one subject; its findings are added to the row."""
        from console import views

        entries = await views.timeline(guardrail.store, subject)
        mine = [one for one in entries if one.at >= self.now]
        last = next((one for one in reversed(mine) if one.event in ENDS), None)
        case, _ = await guardrail.store.load(subject)
        found = [row for row in await views.findings(guardrail.store) if row["resource_id"] == case.resource]
        if last is not None:
            told.decision = f"{last.event.partition('.')[2]} {last.detail.get('action_id', '')[:10]}"
            raised = [one.detail for one in mine if one.event == "finding.raised"]
            told.findings = sorted({str(one["severity"]) for one in raised}, key=views.rank)
        if not found:
            gone = any(one.event == "resource.gone" for one in mine) or case.missing
            told.decision = told.decision or ("no document of it" if gone else "")
            return "drift" if last is not None else "unknown" if gone else "compliant"
        told.findings = [f"{many} {severity}" for severity, many in views.severities(found).items()]
        plan = next((str(one.detail["plan_hash"])[:8] for one in entries
                     if one.event == "decision.made" and one.detail.get("plan_hash")), "")
        told.decision = told.decision or self._would(guardrail, subject, found)
        told.decision += f"   plan {plan}" if plan else ""
        return "unreadable" if all(row["state"] == "unreadable" for row in found) else "drift"

    def _would(self, guardrail: Guardrail, subject: ResourceId, rows: Sequence[Row]) -> str:
        """What the policy would do, were it not for report mode: the furthest of the findings' modes."""
        controls = {control.id: control for control in guardrail.engine.controls}
        tags = (self.simulator.document(subject) or {}).get("tags")
        said = list[tuple[int, str]]()
        for row in rows:
            control = controls[row["control"]]
            drift = Drift(row["path"], row.get("observed", ABSENT), row.get("wanted", ABSENT))
            is_drift = row["state"] == "drift"
            finding = Finding(control.id, subject, control.severity, row["why"], drift if is_drift else None)
            mode = target.decide(finding, control, guardrail.engine.policy, tags).mode
            word = "quarantine" if control.response == "isolate" and mode == "enforce" else WORDS[mode]
            said.append((MODES.index(mode), "exempt" if mode == "ignore" else f"would {word}"))
        return max(said)[1]


def _again(change: Change) -> bytes:
    """The change as an event of its own: what the engine reads of it is all that is in it."""
    claims = {"http://schemas.microsoft.com/identity/claims/objectidentifier": change.actor, "appid": change.app}
    kind = {"write": "Write", "delete": "Delete"}.get(change.operation.rsplit("/", 1)[-1].lower(), "Action")
    return to_json([{
        "id": change.event_id, "subject": change.resource, "eventType": f"Microsoft.Resources.Resource{kind}Success",
        "eventTime": change.at.isoformat(), "dataVersion": "2", "metadataVersion": "1",
        "data": {"operationName": change.operation, "correlationId": change.correlation_id, "claims": claims}}])


def show(played: Sequence[Played], output: str) -> Ended:
    if output == "json":
        from cli.output import emit_json

        emit_json(played)
    else:
        rows = [(str(at).rjust(5), one.change, one.resource, ", ".join(one.findings) or "-",
                 one.verdict if one.verdict != "drift" else one.decision) for at, one in enumerate(played, 1)]
        table(("EVENT", "CHANGE", "RESOURCE", "FINDINGS", "DECISION"), rows)
    many = Counter(one.verdict for one in played)
    names_of = {"no control": "touch no control", "unknown": "of a resource without a document"}
    parts = ", ".join(f"{many[kind]} {names_of.get(kind, kind)}" for kind in (
        "no control", "compliant", "drift", "unreadable", "unknown", "duplicate", "malformed") if many[kind])
    words = f"{count(len(played), 'event')}: {parts or 'nothing'}."
    if many["drift"]:
        return Ended(Code.DRIFT, words)
    if many["unreadable"]:
        return Ended(Code.UNREADABLE, words)
    return Ended(Code.DONE, words)


HELP = text("guardrail replay recorded/events", "guardrail replay recorded/events --to http://127.0.0.1:8800",
            exits=(0, 1, 2, 3, 5))
