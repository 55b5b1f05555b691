"""guardrail doctor: looks at a deployment with the caller's own sign-in, one line a check. Nothing is written."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Any

import typer

import guardrail
from cli import checks, live, remote, role, seen, target
from cli.checks.line import Line
from cli.documents import BY_NAME
from cli.output import Code, Ended, count, emit, mark, say, tell, text
from cli.scan import formats
from cli.seen import NotSeen, Seen
from guardrail import app, ids, policy, roles
from guardrail.errors import ConfigError
from guardrail.ids import ResourceId
from guardrail.paths import fold
from guardrail.policy import Policy

PROBE_WAIT_S, PROBE_STEP_S = 300.0, 5.0
NAMED = ("AUDIT_GROUP", "GUARDED", "RECORDS_ID", "ANCHORS", "CEILING", "UNKNOWN_ACTIONS")


def doctor(
    probe: Annotated[bool, typer.Option("--probe", help="Waits up to 5 min until the probe's event is back.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="A warning counts as a failure.")] = False,
    group: Annotated[str, typer.Option(metavar="ID", help="The guardrail's own resource group; without: azd's.")] = "",
    policy_name: Annotated[str, typer.Option("--policy", metavar="FILE")] = "",
    cloud: Annotated[str, typer.Option(help="A cloud's name, or the simulator's address.")] = "",
    output: Annotated[str, typer.Option("-o", "--output", help="table, json or csv.")] = "table",
    query: Annotated[str, typer.Option(help="JMESPath, with -o json.")] = "",
) -> int:
    """Checks a deployment: sign-in, rights, events, storage, keys, settings, audit and probe, each with its cure."""
    formats(output)
    azds = remote.setting("GUARDRAIL_GROUP")[0]
    own = group or azds
    if not own:
        raise Ended(Code.USAGE, "doctor of what? cure: --group ID, or azd's environment (GUARDRAIL_GROUP).")
    own_id = ids.parse(own)
    say(f"target: {own_id} in {cloud or 'AzureCloud'}. Nothing is written.")
    is_azds = not azds or ids.fold(own_id) == ids.fold(ids.parse(azds))
    found = list(checks.lines(asyncio.run(_look(own_id, cloud, policy_name, is_azds=is_azds, waits=probe))))
    if output == "table":
        for line in _merged(found):
            tell(_told(line))
    else:
        rows = [{"check": name, "mark": line.mark, "text": line.text, "cure": line.cure} for name, line in found]
        emit(rows, {"CHECK": "check", "MARK": "mark", "TEXT": "text", "CURE": "cure"}, output, query)
    many = {kind: sum(line.mark == kind for _, line in found) for kind in ("failed", "warning", "skipped")}
    say(f"{count(len(found), 'answer')}: {many['failed']} failed, {count(many['warning'], 'warning')}, "
        f"{many['skipped']} skipped.")
    return Code.UNFINISHED if many["failed"] or (strict and many["warning"]) else Code.DONE


DOCTOR_HELP = HELP = text("guardrail doctor --probe", "guardrail doctor --strict -o json", exits=(0, 1))


def _merged(found: Sequence[tuple[str, Line]]) -> Iterator[Line]:
    """Those that could not look for one reason are one line, where the first of them stands."""
    reasons = dict[str, list[str]]()
    for name, line in found:
        if line.mark == "skipped" and line.text.startswith(f"{name}: "):
            reasons.setdefault(line.text.partition(": ")[2], []).append(name)
    for name, line in found:
        names = reasons.get(line.text.partition(": ")[2], []) if line.mark == "skipped" else []
        if name not in names:
            yield line
        elif name == names[0]:
            yield Line("skipped", f"{', '.join(names)}: {line.text.partition(': ')[2]}", line.cure)


def _told(line: Line) -> str:
    text = line.text.rstrip(".")
    return f"{mark(line.mark)} {text}.{f' Cure: {line.cure}' if line.cure else ''}"


async def _look(group: ResourceId, cloud: str, policy_name: str, *, is_azds: bool, waits: bool) -> Seen:
    """`is_azds`: what azd and the environment say of names and addresses is said of this group."""
    named = {name: remote.setting(f"GUARDRAIL_{name}")[0] if is_azds else "" for name in NAMED}
    known = here(policy_name, named["CEILING"], named["UNKNOWN_ACTIONS"])
    async with live.arm(cloud, ids.subscription(group)) as arm:
        found = await seen.azure(arm, group, named, (type.partition("/")[0] for type in known["versions"]), app.now())
    asked, why = _console() if is_azds else (None, "the console of this group is not known here")
    told = await seen.console(asked, why)
    if waits and asked is not None and _is_unproven(told):
        say("waiting for the probe, up to 5 min")
        known["waited"] = True
        for _ in range(round(PROBE_WAIT_S / PROBE_STEP_S)):
            await asyncio.sleep(PROBE_STEP_S)
            told |= await seen.console(asked, why, ["/event-path"])
            if not _is_unproven(told):
                break
        told = await seen.console(asked, why)       # what was not up at first
    return {**found, "here": known, "console": told}


def _is_unproven(told: Seen) -> bool:
    """Whether waiting may help: it is not proven yet, or the app that was just deployed is not up."""
    page = told["/event-path"]
    if isinstance(page, NotSeen):
        return page.is_late
    is_starting = page["status"] >= 500 or (page["status"] == 404 and page["body"] is None)     # the host's own answers
    return is_starting or (page["status"] == 200 and seen.at(page, "body", "state") != "proven")


def _console() -> tuple[remote.Remote | None, str]:
    """(whom to ask, else why nobody). Errors: ConfigError for an odd address."""
    url = remote.url()
    if not url:
        return None, "no address of the console: set GUARDRAIL_URL, or use azd's environment"
    try:
        return remote.remote(url), ""
    except ConfigError as error:
        return None, str(error)


def here(policy_name: str, ceiling: str, unknown: str = "") -> dict[str, Any]:
    """What this very package wants: policy, roles, filters, api-versions, version. `unknown`: actions that no role can hold."""
    loaded: Policy | ConfigError
    try:
        loaded = target.load_policy(policy_name)
    except ConfigError as error:
        loaded = error
    known = loaded if isinstance(loaded, Policy) else policy.Policy()
    on, actions = role.needed(known, report_only=False)
    return {"policy": loaded.hash if isinstance(loaded, Policy) else loaded, "ceiling": ceiling,
            "has_approvers": bool(known.approvals.approvers), "roles": actions, "filters": roles.heard(on),
            "unknown": [fold(one) for one in unknown.split(",") if one], "versions": versions(),
            "version": guardrail.__version__, "namesake": shutil.which("guardrails") or ""}


def versions() -> dict[str, list[str]]:
    """Type -> the api-versions that our requests to it carry."""
    found = dict[str, list[str]]()
    for type in BY_NAME.values():
        asked: Iterable[tuple[str, str]] = [(type.name, type.api_version), *(
            (roles.resource(type, route), route.api_version or type.api_version) for route in type.routes)]
        for name, version in asked:
            found.setdefault(name, [])
            found[name] += [version] if version not in found[name] else []
    return found
