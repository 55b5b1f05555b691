"""guardrail scan: all controls now, on documents from files or stdin, or live. Offline it needs no Azure library."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from cli import documents, target
from cli.documents import Given, Problem
from cli.output import Code, Ended, count, emit, emit_json, emit_lines, nearest, say, table, text, value, warn
from guardrail import app, ids, names, ocsf, plans, policy
from guardrail.paths import ABSENT, fold
from guardrail.policy_schema import glob
from guardrail.values import SEVERITIES, Control, Decision, Finding

FORMATS = ("table", "json", "csv")
OCSF_CLASS = "With -o ocsf: 2004 Detection Finding or 2003 Compliance Finding."
SERVICES = {"microsoft.storage": "Storage", "microsoft.cognitiveservices": "AI services", "microsoft.keyvault": "Key Vault",
            "microsoft.machinelearningservices": "Machine Learning", "microsoft.network": "Network",
            "microsoft.authorization": "Role assignments", "microsoft.apimanagement": "API Management",
            "microsoft.botservice": "Bot Service", "microsoft.containerregistry": "Container Registry",
            "microsoft.search": "AI Search"}


def service(type: str) -> str:
    """What people call the namespace of a type; one without a name here keeps its own. "*": every service."""
    namespace = fold(type).split("/")[0]
    return SERVICES.get(namespace, namespace.removeprefix("microsoft."))


@dataclass(frozen=True, slots=True)
class Judged:
    given: Given
    found: tuple[tuple[Finding, Decision, Control], ...]

    @property
    def verdict(self) -> str:
        kinds = {"exempt" if decision.mode == "ignore" else finding.state for finding, decision, _ in self.found}
        return next((kind for kind in ("drift", "unreadable", "exempt") if kind in kinds), "compliant")


def judge(given: Given, controls: Iterable[Control], loaded: policy.Policy) -> Judged:
    """What the controls find in a document, and what the policy says about each finding."""
    place = policy.place(given.document.id, loaded)
    mine = {control.id: control for control in controls if control.on in ("*", given.type.name)}
    found = plans.judge(mine.values(), given.document, lambda one: policy.parameters(one, place, loaded))
    tags = given.document.get("tags")
    return Judged(given, tuple(
        (one, target.decide(one, mine[one.control], loaded, tags), mine[one.control]) for one in found))


def chosen(loaded: policy.Policy, patterns: Sequence[str], severity: str) -> list[Control]:
    """The controls to judge by. Errors: Ended for a name that fits none."""
    on = policy.enabled(app.CONTROLS, loaded)
    known = [control.id for control in app.CONTROLS]
    for pattern in patterns:
        if not any(glob(pattern, id) for id in known):
            raise nearest(pattern, known, "control")
    least = SEVERITIES.index(known_severity(severity)) if severity else len(SEVERITIES)
    return [control for control in on if SEVERITIES.index(control.severity) <= least
            and (not patterns or any(glob(pattern, control.id) for pattern in patterns))]


def known_severity(word: str) -> Any:
    if word not in SEVERITIES:
        raise nearest(word, SEVERITIES, "severity")
    return word


def scan(
    source: Annotated[str, typer.Argument(metavar="[DOCUMENTS]", help="A file, a folder, or - for stdin. Without: live.")] = "",
    control: Annotated[list[str], typer.Option(help="Only these controls: ids or globs.")] = [],  # noqa: B006
    severity: Annotated[str, typer.Option(help="Only controls of this severity or worse.")] = "",
    fail_on: Annotated[str, typer.Option(help="Only drift of this severity or worse ends with 2.")] = "low",
    exit_zero: Annotated[bool, typer.Option("--exit-zero", help="End with 0, whatever was found.")] = False,
    policy_name: Annotated[str, typer.Option("--policy", metavar="FILE")] = "",
    output: Annotated[str, typer.Option("-o", "--output", help="table, json, csv or ocsf.")] = "table",
    query: Annotated[str, typer.Option(help="JMESPath, with -o json.")] = "",
    subscription: Annotated[list[str], typer.Option(help="Live: all guarded resources of this subscription.")] = [],  # noqa: B006
    group: Annotated[str, typer.Option("-g", "--resource-group", help="Live: of this resource group only.")] = "",
    resource_ids: Annotated[list[str], typer.Option("--ids", help="Live: these ARM ids.")] = [],  # noqa: B006
    cloud: Annotated[str, typer.Option(help="AzureCloud, ..., or a simulator's loopback URL.")] = "",
    ocsf_class: Annotated[int, typer.Option(metavar="2004|2003", help=OCSF_CLASS)] = ocsf.DETECTION,
) -> None:
    """Judges resources by all controls, offline or live, and changes nothing."""
    known_severity(fail_on)
    formats(output, (*FORMATS, "ocsf"), ocsf_class)
    began = time.monotonic()
    loaded = target.load_policy(policy_name)
    controls = chosen(loaded, control, severity)
    if source:
        if subscription or group or resource_ids or cloud:
            raise Ended(Code.USAGE, "documents or live resources, not both. cure: leave out DOCUMENTS, or the live options.")
        say(f"target: offline documents from {'stdin' if source == '-' else source}, {target.policy_text(loaded)}")
        read = list(documents.read(source))
    else:
        from cli import live

        read = live.read(controls, subscription, group, resource_ids, cloud, target.policy_text(loaded))
    problems = [one for one in read if isinstance(one, Problem)]
    for problem in problems:
        warn(str(problem))
    judged = [judge(one, controls, loaded) for one in read if isinstance(one, Given)]
    if output == "ocsf":
        emit_lines(_events(judged, ocsf_class), query)
    else:
        show(judged, output, query, len(controls), time.monotonic() - began)
    raise end(judged, problems, fail_on, exit_zero=exit_zero)


def formats(output: str, known: Sequence[str] = FORMATS, ocsf_class: int = ocsf.DETECTION) -> None:
    if output not in known:
        raise nearest(output, known, "output format")
    if ocsf_class not in (ocsf.DETECTION, ocsf.COMPLIANCE):
        raise Ended(Code.USAGE, f"--ocsf-class {ocsf_class} is no class of findings. cure: 2004 or 2003 (compliance).")


def as_json(finding: Finding) -> dict[str, Any]:
    """One entry of the list that other programs read; what is absent is left out."""
    drift = finding.drift
    values = {} if drift is None else {"observed": drift.observed, "wanted": drift.wanted}
    return {"control": finding.control, "resource_id": finding.resource, "path": finding.path,
            **{name: one for name, one in values.items() if one is not ABSENT},
            "state": finding.state, "severity": finding.severity}


def _events(judged: Sequence[Judged], ocsf_class: int) -> Iterator[dict[str, Any]]:
    """As OCSF has them; the id of a finding is the one that a store would give it."""
    for each in judged:
        incarnation = plans.incarnation(each.given.type, each.given.document)
        for found, decision, _ in each.found:
            if decision.mode != "ignore":
                id = names.finding_id(found.resource, incarnation, *plans.key(found))
                yield ocsf.finding({**as_json(found), "id": id, "why": found.why}, app.now(), ocsf_class)


def show(judged: Sequence[Judged], output: str, query: str, controls: int, took_s: float) -> None:
    found = [one for each in judged for one in each.found if one[1].mode != "ignore"]
    if output == "json":
        emit_json([as_json(finding) for finding, _, _ in found], query)
        return
    found.sort(key=lambda one: (one[0].drift is None, SEVERITIES.index(one[0].severity), one[0].resource))
    rows = [{
        "severity": finding.severity if finding.drift else "unknown", "control": finding.control,
        "resource": short(finding.resource, finding.path), "path": finding.path, "now": now_and_wanted(finding, control),
        "mode": decision.mode, "resource_id": finding.resource} for finding, decision, control in found]
    columns = {"SEVERITY": "severity", "CONTROL": "control", "RESOURCE": "resource", "NOW => WANTED": "now",
               "POLICY SAYS": "mode"}
    if output == "csv":
        emit(rows, {**columns, "PATH": "path", "RESOURCE ID": "resource_id"}, output, query)
        return
    if rows:
        emit(rows, columns, output, query)
    services = Counter((service(one.given.type.name), one.verdict) for one in judged)
    listed = list(dict.fromkeys(name for name, _ in services))
    if listed:
        kinds = ("compliant", "drift", "unreadable", "exempt")
        heads = ("SERVICE", "RESOURCES", *(kind.upper() for kind in kinds))
        numbers = [(sum(many for (other, _), many in services.items() if other == name),
                    *(services[name, kind] for kind in kinds)) for name in listed]
        table(heads, [(name, *(str(one).rjust(len(head)) for one, head in zip(row, heads[1:], strict=True)))
                      for name, row in zip(listed, numbers, strict=True)])
    say(f"{count(len(judged), 'resource')}, {count(controls, 'control')}, {took_s:.1f} s.")


def short(id: str, path: str = "") -> str:
    """The resource's name, with that of the mounted item the path leads to: aoai-chat-prod/strict."""
    item = path.partition("[name='")[2].partition("'")[0] if path.startswith("+") else ""
    return ids.name_of(ids.ResourceId(id)) + (f"/{item}" if item else "")


def now_and_wanted(finding: Finding, control: Control) -> str:
    drift = finding.drift
    if drift is None:
        return f"unreadable: {finding.why}"
    last = drift.path.rsplit(".", 1)[-1] if not drift.path.endswith("]") else ""
    now = f"{last}: {value(drift.observed)}" if last else value(drift.observed)
    if not drift.decided:
        return f"{now}: {finding.why}"
    return f"{now}, cannot be changed" if control.response == "isolate" else f"{now} => {value(drift.wanted)}"


def end(judged: Sequence[Judged], problems: Sequence[Problem], fail_on: str, *, exit_zero: bool) -> Ended:
    """The exit code, and what it means in words."""
    found = [finding for each in judged for finding, decision, _ in each.found if decision.mode != "ignore"]
    drifts = [one for one in found if one.drift]
    counts = Counter(one.severity for one in drifts)
    many = ", ".join(f"{counts[severity]} {severity}" for severity in SEVERITIES if counts[severity])
    drifted = count(sum(any(f.drift and d.mode != "ignore" for f, d, _ in one.found) for one in judged), "resource")
    unreadable = len(found) - len(drifts)
    tail = f", {unreadable} unreadable" if unreadable else ""
    tail += f", {count(len(problems), 'document')} not read" if problems else ""
    is_worse = any(SEVERITIES.index(one.severity) <= SEVERITIES.index(fail_on) for one in drifts)
    words = f"{drifted} drifted, {count(len(drifts), 'finding')} ({many})" if drifts else "no drift"
    if exit_zero:
        return Ended(Code.DONE, f"{words}{tail}. --exit-zero was given.")
    if is_worse:
        return Ended(Code.DRIFT, f"{words}{tail}. --fail-on critical raises the bar, --exit-zero never fails a build.")
    if problems and not judged:
        return Ended(Code.UNFINISHED, f"nothing could be read{tail}.")
    if unreadable or problems:
        return Ended(Code.UNREADABLE, f"{words}{tail}: not clean.")
    return Ended(Code.DONE, f"{words}." + (f" None is {fail_on} or worse." if drifts else ""))


HELP = text("az resource show --ids ID | guardrail scan -", "guardrail scan documents/ --severity high -o json",
            exits=(0, 1, 2, 3, 5))
