"""guardrail controls: what is checked, what it reads, and what a fix may break."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cli import scan, target
from cli.documents import BY_NAME
from cli.output import emit, emit_json, nearest, say, tell, text, value
from cli.scan import formats
from detectors import frameworks
from guardrail import policy
from guardrail.app import CONTROLS
from guardrail.paths import fold
from guardrail.policy import Policy
from guardrail.policy_schema import glob
from guardrail.values import Control

group = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="What is checked, and what a fix may break.")


def as_json(control: Control, loaded: Policy) -> dict[str, Any]:
    """One entry of `controls list -o json`."""
    is_on = control in policy.enabled((control,), loaded)
    return {"id": control.id, "title": control.title, "severity": control.severity, "response": control.response,
            "on": control.on, "enabled": is_on, "why": control.why, "breaks": control.breaks,
            "reads": list(control.also_reads), "triggered_by": list(control.triggered_by),
            "parameters": {**control.parameters, **loaded.controls.parameters.get(control.id, {})},
            "frameworks": {name: list(served) for name, served in frameworks.of(control.id).items()}}


@group.command("list", epilog=text("guardrail controls list --service storage", "guardrail controls list -o csv",
                                   "guardrail controls list --framework eu-ai-act", exits=(0, 5)))
def listed(
    service: Annotated[str, typer.Option(help="storage, network, ai, key vault, ...")] = "",
    response: Annotated[str, typer.Option(help="revert, isolate or report.")] = "",
    framework: Annotated[str, typer.Option(help=", ".join(frameworks.FRAMEWORKS) + ": those that serve it.")] = "",
    policy_name: Annotated[str, typer.Option("--policy", metavar="FILE")] = "",
    output: Annotated[str, typer.Option("-o", "--output", help="table, json or csv.")] = "table",
    query: Annotated[str, typer.Option(help="JMESPath, with -o json.")] = "",
) -> None:
    """Lists the controls."""
    formats(output)
    loaded = target.load_policy(policy_name)
    say(f"target: {target.policy_text(loaded)}")
    services = dict.fromkeys(scan.service(one.on) for one in CONTROLS)
    wanted = {name for name in services if fold(service) in fold(name)}
    if not wanted:
        raise nearest(service, map(fold, services), "service")
    if response not in ("", "revert", "isolate", "report"):
        raise nearest(response, ("revert", "isolate", "report"), "response")
    framework = fold(framework)
    if framework and framework not in frameworks.FRAMEWORKS:
        raise nearest(framework, frameworks.FRAMEWORKS, "framework")
    rows = [as_json(one, loaded) for one in CONTROLS
            if ((one.on == "*" and not service) or scan.service(one.on) in wanted) and response in ("", one.response)
            and (not framework or framework in frameworks.of(one.id))]
    table = [row | {"on?": "yes" if row["enabled"] else "no", "serves": ", ".join(row["frameworks"].get(framework, ()))}
             for row in rows] if output != "json" else rows
    if framework:
        told = frameworks.FRAMEWORKS[framework]
        say(f"{told.name}, {told.edition}. Source: {told.source}.")
    emit(table, {"CONTROL": "id", "SEVERITY": "severity", "RESPONSE": "response", "ON": "on?",
                 **({"SERVES": "serves"} if framework else {}), "TITLE": "title"}, output, query,
         "no control serves it" if framework else "nothing")


@group.command("show", epilog=text("guardrail controls show storage-minimum-tls",
                                   "guardrail controls show diag-keyvault -o json", exits=(0, 5)))
def show(
    control: Annotated[str, typer.Argument(metavar="CONTROL")],
    policy_name: Annotated[str, typer.Option("--policy", metavar="FILE")] = "",
    output: Annotated[str, typer.Option("-o", "--output", help="table or json.")] = "table",
) -> None:
    """Shows one control: why it is there, what it reads, what runs it, what a fix may break."""
    formats(output, ("table", "json"))
    loaded = target.load_policy(policy_name)
    say(f"target: {target.policy_text(loaded)}")
    one = next((one for one in CONTROLS if one.id == fold(control)), None)
    if one is None:
        raise nearest(control, [one.id for one in CONTROLS], "control")
    told = as_json(one, loaded)
    if output == "json":
        emit_json(told)
        return
    state = "on" if told["enabled"] else "off: " + ", ".join(p for p in loaded.controls.disabled if glob(p, one.id))
    type = BY_NAME.get(fold(one.on))
    tell(f"{one.title}      {one.severity}   response: {one.response}   {state}")
    tell(f"  why        {one.why}")
    tell(f"  may break  {one.breaks}")
    tell(f"  reads      {one.on}{f' [{type.api_version}]' if type else ''}{''.join(f', {part}' for part in one.also_reads)}")
    tell(f"  runs on    {', '.join(one.triggered_by) or 'the sweep alone'}")
    for name, served in told["frameworks"].items():
        tell(f"  serves     {frameworks.FRAMEWORKS[name].name}: {', '.join(served)}")
    for name, given in told["parameters"].items():
        tell(f"  parameter  {name}: {value(given)}")
