"""guardrail role: the least that the enabled controls need of Azure, and whether our identity has it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from cli import held, live, remote, target
from cli.documents import BY_NAME
from cli.filters import listed
from cli.output import Code, Ended, count, nearest, say, tell, text
from guardrail import policy, rights, roles
from guardrail.app import CONTROLS
from guardrail.ids import ResourceId
from guardrail.paths import fold
from guardrail.policy import Policy
from guardrail.values import Control

group = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="What it must be allowed to do.")

FORMS = ("table", "json", "bicep")
PARTS = {"reader": "Reads what the enabled controls look at. Generated: infra/roles.json.",
         "remediator": "Writes what the enabled controls put back. Generated: infra/roles.json."}
BY_NAMES = 2        # controls that a line names; the others are counted
GROUPS_VERSION = "2021-04-01"

Needed = Mapping[str, list[str]]


def needed(loaded: Policy, *, report_only: bool) -> tuple[tuple[Control, ...], dict[str, list[str]]]:
    """(the controls that are on, the actions of reader, remediator and probe)."""
    on = policy.enabled(CONTROLS, loaded)
    found = roles.definitions(on, BY_NAME, loaded.controls.reach)
    return on, found | ({"remediator": []} if report_only else {})


def why(controls: Sequence[Control]) -> dict[str, list[str]]:
    """action -> the controls that need it; what no control needs by itself is the sweep's."""
    found = dict[str, list[str]]()
    for control in controls:
        type = BY_NAME[fold(control.on)]
        above = [f"{name}/read" for name in roles.above(type.name)]
        looked_up = roles.LOOKUPS if control.learns else ()
        for action in dict.fromkeys([*(one.action for one in roles.permissions(control, BY_NAME)), *above, *looked_up]):
            found.setdefault(action, []).append(control.id)
    return found


@group.command("show", epilog=text("guardrail role show --report-only", "guardrail role show --as bicep > role.bicep",
                                   "guardrail role show --missing --subscription 00000000-0000-0000-0000-000000000001",
                                   exits=(0, 1, 5)))
def show(
    report_only: Annotated[bool, typer.Option("--report-only", help="Without what writes.")] = False,
    missing: Annotated[bool, typer.Option("--missing", help="Asks Azure, and shows what is not granted.")] = False,
    form: Annotated[str, typer.Option("--as", metavar="FORM", help="json (as infra/roles.json) or bicep.")] = "table",
    policy_name: Annotated[str, typer.Option("--policy", metavar="FILE")] = "",
    subscription: Annotated[list[str] | None, typer.Option(help="With --missing: a guarded one; may be repeated.")] = None,
    principal: Annotated[str, typer.Option(metavar="ID", help="With --missing: object id of the identity of hands; "
                                           "without: azd's, else whoever is signed in.")] = "",
    cloud: Annotated[str, typer.Option(help="A cloud's name, or the simulator's address.")] = "",
) -> None:
    """Shows the actions that the enabled controls need, why, and with --missing which are not granted."""
    if form not in FORMS:
        raise nearest(form, FORMS, "form")
    loaded = target.load_policy(policy_name)
    say(f"target: {target.policy_text(loaded)}")
    controls, found = needed(loaded, report_only=report_only)
    lacking = _missing(found, cloud, subscription or (), principal) if missing else None
    shown = found if lacking is None else {
        part: [one for one in found[part] if one in lacking] for part in PARTS}
    if form == "json":
        tell(json.dumps(shown, indent=2))
    elif form == "bicep":
        parts = [part for part in PARTS if shown[part]]
        if parts:
            tell(bicep({part: found[part] for part in parts}))      # a definition is replaced as a whole
        else:
            say("nothing is missing")
    else:
        _table(controls, found, shown, lacking)


def _table(controls: Sequence[Control], found: Needed, shown: Needed, lacking: Mapping[str, list[str]] | None) -> None:
    reasons = why(controls)
    for part, actions in shown.items():
        if not found[part]:
            continue
        end = "" if lacking is None else f"   missing in Azure: {len(actions)}"
        what = "to prove the event path" if part == "probe" else f"for {count(len(controls), 'control')}"
        tell(f"Guardrail {part}: {count(len(found[part]), 'action')} {what}.{end}")
        width = max((len(one) for one in actions), default=0)
        for action in actions:
            places = f"   in {', '.join(lacking[action])}" if lacking else ""
            tell(f"  - {action.ljust(width)}   {_reason(action, reasons.get(action, []), part)}{places}")


def _reason(action: str, ids: Sequence[str], part: str) -> str:
    if not ids:
        whose = "trusted_deployers, break_glass" if action == roles.WHO else "the sweep"
        return f"needed by {'the probe' if part == 'probe' else whose}"
    rest = f" and {len(ids) - BY_NAMES} more" if len(ids) > BY_NAMES else ""
    return f"needed by {', '.join(ids[:BY_NAMES])}{rest}"


def bicep(parts: Needed) -> str:
    """The definitions as infra/subscription.bicep makes them: deployed over those, they replace them."""
    lines = ["targetScope = 'subscription'", "", "@description('Name of the environment of the guardrail.')",
             "param installation string", ""]
    for part, actions in parts.items():
        lines.append(f"""resource {part} 'Microsoft.Authorization/roleDefinitions@2022-04-01' = {{
  name: guid(subscription().id, installation, '{part}')
  properties: {{
    roleName: 'Guardrail {part} (${{installation}}, ${{subscription().subscriptionId}})'
    description: '{PARTS[part]}'
    type: 'CustomRole'
    permissions: [
      {{
        actions: {listed(list(actions), 8)}
        notActions: []
        dataActions: []
        notDataActions: []
      }}
    ]
    assignableScopes: [
      subscription().id
    ]
  }}
}}
""")
    return "\n".join(lines).rstrip()


# What is granted ---------------------------------------------------------------------------------------------------

def _missing(found: Needed, cloud: str, subscriptions: Sequence[str], principal: str) -> dict[str, list[str]]:
    """action -> where it is not granted. Errors: Ended, Retryable, Final."""
    cloud, given = live.where(cloud, subscriptions)
    given = given or tuple(one.strip() for one in remote.setting("GUARDRAIL_GUARDED")[0].split(",") if one.strip())
    if not given:
        raise Ended(Code.USAGE, "missing where? cure: --subscription ID, or azd's environment (GUARDRAIL_GUARDED).")
    principal = principal or remote.setting("GUARDRAIL_HANDS_PRINCIPAL")[0]
    whose = f"identity {principal}" if principal else "whoever is signed in (--principal names another)"
    say(f"asked of {cloud or 'AzureCloud'}: {', '.join(given)}, of {whose}. Nothing is written.")
    wanted = [action for part in PARTS for action in found[part]]
    return asyncio.run(_asked(cloud, given, principal, wanted))


async def _asked(cloud: str, subscriptions: Sequence[str], principal: str, wanted: Sequence[str]) -> dict[str, list[str]]:
    lacking = dict[str, list[str]]()
    async with live.arm(cloud, subscriptions[0]) as arm:
        for one in subscriptions:
            if principal:
                scopes = {one: held.missing(await held.roles_of(arm, principal, one), wanted, f"/subscriptions/{one}")}
            else:
                listing: list[Any] = await arm.list(f"/subscriptions/{one}/resourcegroups", GROUPS_VERSION, one)
                scopes = {group["name"]: await rights.missing(arm, ResourceId(group["id"]), wanted) for group in listing}
            for scope, actions in scopes.items():
                for action in actions:
                    lacking.setdefault(action, []).append(scope)
    return lacking
