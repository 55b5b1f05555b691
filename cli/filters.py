"""guardrail filters: what Event Grid must send us for the controls that are on."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from cli import target
from cli.output import nearest, say, tell, text
from guardrail import policy, roles
from guardrail.app import CONTROLS

group = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="What Event Grid must send us.")

FORMS = ("table", "json", "bicep", "az")
KEY = "data.operationName"
VALUES = 25         # in all advanced filters of a subscription together (Event Grid's quota)


@group.command("show", epilog=text("guardrail filters show", "guardrail filters show --as az", exits=(0, 5)))
def show(
    form: Annotated[str, typer.Option("--as", metavar="FORM", help="json (as infra/filters.json), bicep or az.")] = "table",
    policy_name: Annotated[str, typer.Option("--policy", metavar="FILE")] = "",
) -> None:
    """Shows the event types and operations that the enabled controls need from Event Grid."""
    if form not in FORMS:
        raise nearest(form, FORMS, "form")
    loaded = target.load_policy(policy_name)
    say(f"target: {target.policy_text(loaded)}")
    heard = roles.heard(policy.enabled(CONTROLS, loaded))
    events, operations = heard["events"], heard["operations"]
    if form == "json":
        tell(json.dumps(heard, indent=2))
    elif form == "bicep":
        say("the filter of the event subscription's properties")
        tell(bicep(events, operations))
    elif form == "az":
        tell(" \\\n  ".join((
            "az eventgrid system-topic event-subscription update --name NAME --system-topic-name TOPIC -g GROUP",
            f"--included-event-types {' '.join(events)}",
            f"--advanced-filter {KEY} StringBeginsWith {' '.join(operations)}")))
    else:
        tell(f"{KEY} StringBeginsWith, {len(operations)} of {VALUES} values:")
        for one in operations:
            tell(f"  {one}")
        tell(f"{len(events)} event types:")
        for one in events:
            tell(f"  {one}")
        tell("Never delivered, so only the sweep sees it: management group scope. Entra ID and the data plane: not seen.")


def bicep(events: list[str], operations: list[str]) -> str:
    """The filter as infra/modules/events.bicep has it."""
    return f"""{{
  includedEventTypes: {listed(events, 2)}
  isSubjectCaseSensitive: false
  advancedFilters: [
    {{
      operatorType: 'StringBeginsWith'
      key: '{KEY}'
      values: {listed(operations, 6)}
    }}
  ]
}}"""


def listed(items: list[str], indent: int) -> str:
    """An array in Bicep; none of our names holds a quote."""
    inner = "".join(f"\n{' ' * (indent + 2)}'{one}'" for one in items)
    return f"[{inner}\n{' ' * indent}]"
