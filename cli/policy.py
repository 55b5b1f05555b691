"""guardrail policy: whether a policy file holds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.output import Code, Ended, count, mark, say, tell, text
from guardrail import app, policy_file

group = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="The policy file.")


@group.command("check", epilog=text("guardrail policy check", "guardrail policy check guardrail.story.yaml", exits=(0, 5)))
def check(
    file: Annotated[str, typer.Argument(metavar="[FILE]", help="Without: guardrail.yaml here.")] = "guardrail.yaml",
) -> None:
    """Says whether a policy file is valid: each key, each name, each parameter against its floor."""
    say(f"target: {file}")
    try:
        raw = Path(file).read_bytes()
    except OSError as error:
        raise Ended(Code.BAD_POLICY, f"{file}: {error.strerror}. cure: name a policy file that can be read.") from error
    loaded = policy_file.load(raw, file)
    policy_file.check(loaded, app.CONTROLS, app.now())
    tell(f"{file}: valid, {loaded.hash[:8]}. {count(len(loaded.rules), 'rule')}, "
         f"{count(len(loaded.exemptions), 'exemption')}, {count(len(loaded.controls.disabled), 'control')} or globs off.")
    for index, rule in enumerate(loaded.rules):
        if rule.tag:
            tell(f"{mark('warning')} rules[{index}] '{rule.name}' reads a tag that the one who drifts can set: "
                 "it is honoured only where it tightens.")
    for one in loaded.exemptions:
        if one.until <= app.now():
            tell(f"{mark('warning')} exemption {one.id} of {one.control} ended {one.until:%Y-%m-%d}: it hides nothing.")
