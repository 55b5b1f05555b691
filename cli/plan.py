"""guardrail plan: what would be written to a resource and why, without writing it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated

import typer

from cli import documents, target
from cli.documents import Given, Problem
from cli.output import Code, Ended, count, emit_json, say, tell, text, value, warn
from cli.scan import Judged, chosen, formats, judge
from guardrail import ids, plans, policy, proof
from guardrail.errors import Unsafe
from guardrail.paths import parse, show
from guardrail.plans import Step
from guardrail.policy import Policy
from guardrail.values import Control, Drift, Edit, Kind, Plan, to_json


def plan(
    resource: Annotated[str, typer.Argument(metavar="[RESOURCE|fnd-..]", help="An ARM id, a name, or a finding.")] = "",
    document: Annotated[str, typer.Option(metavar="FILE", help="Offline: the resource as JSON, - for stdin.")] = "",
    policy_name: Annotated[str, typer.Option("--policy", metavar="FILE")] = "",
    output: Annotated[str, typer.Option("-o", "--output", help="table or json.")] = "table",
    subscription: Annotated[list[str], typer.Option(help="Live: where to look for a name.")] = [],  # noqa: B006
    cloud: Annotated[str, typer.Option(help="AzureCloud, ..., or a simulator's loopback URL.")] = "",
) -> None:
    """Shows the diff that would put a resource right, and writes nothing."""
    formats(output, ("table", "json"))
    loaded = target.load_policy(policy_name)
    controls = chosen(loaded, (), "")
    if document:
        say(f"target: offline document {document}, {target.policy_text(loaded)}")
        given = _offline(document, resource)
    elif resource:
        given = asyncio.run(_live(resource, subscription, cloud, controls))
    else:
        raise Ended(Code.USAGE, "plan for what? cure: a RESOURCE, or --document FILE.")
    raise _show(judge(given, controls, loaded), controls, loaded, output)


def _offline(source: str, resource: str) -> Given:
    """The document, or the one of several that `resource` names. Errors: Ended."""
    found = list(documents.read(source))
    for problem in (one for one in found if isinstance(one, Problem)):
        warn(str(problem))
    givens = [one for one in found if isinstance(one, Given)
              and resource.lower() in ("", ids.name_of(one.document.id).lower(), one.document.id.lower())]
    if len(givens) != 1:
        raise Ended(Code.UNFINISHED, f"{count(len(givens), 'document')} in {source} for {resource or 'a plan'}: one is needed.")
    return givens[0]


async def _live(resource: str, subscription: Sequence[str], cloud: str, controls: Sequence[Control]) -> Given:
    from cli import live

    cloud, subscriptions = live.where(cloud, subscription)
    if resource.startswith("fnd-"):
        resource = await asyncio.to_thread(_of_finding, resource)
    is_id = resource.startswith("/")
    if not is_id and not subscriptions:
        raise Ended(Code.USAGE, f"where is {resource}? cure: give its ARM id, --subscription ID, or start guardrail run.")
    async with live.arm(cloud, subscriptions[0] if subscriptions else "") as client:
        id = ids.parse(resource) if is_id else await live.named(client, resource, subscriptions)
        say(f"target: {cloud or 'AzureCloud'}, {id}. Nothing is written.")
        given = await live.one(client, id, controls, asyncio.Semaphore(1))
    if isinstance(given, Problem):
        raise Ended(Code.UNFINISHED, f"{given.where}: {given.why}.")
    return given


def _of_finding(id: str) -> str:
    from cli import ask

    with ask.opened(announce=False) as there:
        return str(there.find("/findings", id)["resource_id"])


def _show(judged: Judged, controls: Sequence[Control], loaded: Policy, output: str) -> Ended:
    """Prints the plans that the findings lead to: what reverts, what isolates, and what only a person can mend."""
    document, type = judged.given.document, judged.given.type
    wanted = [one for one in judged.found if one[1].mode != "ignore"]
    place = policy.place(document.id, loaded)
    mine = [one for one in controls if one.on in ("*", type.name)]
    left, shown = list[tuple[str, str]](), list[tuple[Plan, list[Step]]]()
    for finding, _, control in wanted:
        if finding.drift is None or control.response == "report":
            left.append((control.id, finding.why if finding.drift is None else "this control only reports"))
    for kind, response in (("fix", "revert"), ("isolate", "isolate")):
        drifts = [finding.drift for finding, _, one in wanted if finding.drift and one.response == response]
        names = tuple(sorted({finding.control for finding, _, one in wanted if finding.drift and one.response == response}))
        planned = _steps(judged, drifts, kind, names, left)
        if planned is None:
            continue
        try:
            proof.prove(document, planned[1], mine, lambda one: policy.parameters(one, place, loaded))
        except Unsafe as error:
            raise Ended(Code.REFUSED, f"{error}.") from error
        shown.append(planned)
    if output == "json":
        emit_json([{"schema_version": 1, "resource_id": made.resource, "plan_hash": made.hash, "plan": made,
                    "requests": [step.request for step in steps]} for made, steps in shown])
    else:
        for made, steps in shown:
            _diff(made, steps, judged)
        for what, why in left:
            tell(f"  ? {what}: {why}")
    drifted = [finding for finding, _, _ in wanted if finding.drift]
    if drifted:
        return Ended(Code.DRIFT, f"{count(len(shown), 'plan')} for {count(len(drifted), 'finding')}; nothing was written.")
    if wanted:
        return Ended(Code.UNREADABLE, f"{count(len(wanted), 'control')} could not be decided: not clean.")
    return Ended(Code.DONE, f"nothing to do: {ids.name_of(document.id)} is as it should be.")


def _steps(judged: Judged, drifts: list[Drift], kind: str, controls: tuple[str, ...],
           left: list[tuple[str, str]]) -> tuple[Plan, list[Step]] | None:
    document, type = judged.given.document, judged.given.type
    if kind == "isolate" and drifts and type.isolate is not None:
        drifts = list(type.isolate(document.node(), {}))
    edits, refused = plans.edits(type, drifts)
    left += [(drift.path, why) for drift, why in refused]
    if not edits:
        return None
    kinds: dict[str, Kind] = {"fix": "fix", "isolate": "isolate"}
    made = Plan(document.id, plans.incarnation(type, document), kinds[kind], edits, controls)
    return made, plans.steps(type, document, edits)


def _diff(made: Plan, steps: Sequence[Step], judged: Judged) -> None:
    """As `az deployment what-if` shows it: + create, - delete, ~ modify, now => after."""
    by_path = {finding.drift.path: finding for finding, _, _ in judged.found if finding.drift}
    what = "quarantine" if made.kind == "isolate" else "fix"
    tell(f"plan {made.hash[:8]}   {what}: {count(len(steps), 'write')}, {count(len(made.controls), 'control')}")
    group = made.resource.split("/providers/")[0]
    tell(f"Scope: {group}")
    for step in steps:
        sign = "-" if step.deletes else "+" if step.creates else "~"
        name = step.request.url.split("/providers/", 1)[-1]
        tell(f"  {sign} {name} [{step.request.api_version}]   {step.request.method}")
        width = max((len(_inner(step, edit)) for edit in step.edits), default=0)
        for edit in step.edits:
            finding = by_path.get(edit.path)
            told = f"{finding.severity:<9} {finding.control}" if finding else ""
            tell(f"    {sign_of(edit)} {_inner(step, edit):<{width}}  {change_of(edit)}   {told}".rstrip())
    breaks = dict.fromkeys(control.breaks for _, _, control in judged.found if control.id in made.controls)
    tell(f"May break: {'; '.join(breaks)}.")


def _inner(step: Step, edit: Edit) -> str:
    path = parse(edit.path)
    return f"{show(path[len(step.part):]) or edit.path or 'the resource'}:"


def sign_of(edit: Edit) -> str:
    absent = value(edit.before) == "nothing", value(edit.after) == "nothing"
    return {(True, False): "+", (False, True): "-"}.get(absent, "~")


def change_of(edit: Edit) -> str:
    before, after = value(edit.before), value(edit.after)
    if len(before) + len(after) > 160 and "nothing" in (before, after):
        size = len(to_json(edit.before if after == "nothing" else edit.after))
        return f"{'all of it' if after == 'nothing' else 'created'} ({size} bytes, whole in -o json)"
    return f"{before} => {after}"


HELP = text("guardrail plan stmltrain", "guardrail plan --document recorded/resources/microsoft.storage.storageaccounts.json",
            exits=(0, 1, 2, 3, 4, 5))
