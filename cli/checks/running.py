"""What it was told, and what the running app says of itself."""

from __future__ import annotations

from collections.abc import Iterator

from cli.checks.line import PROVISION, Line, answer, ceiling, few
from cli.seen import PARTS, NotSeen, Seen, at, of
from guardrail import settings as app_settings
from guardrail.errors import ConfigError
from guardrail.paths import fold

CHANNELS = ("TEAMS", "SLACK", "WEBHOOK", "TOPIC")


def policy(seen: Seen) -> Iterator[Line]:
    found = of(seen, "here", "policy")
    if isinstance(found, ConfigError):
        yield Line("failed", f"policy: {found}", "guardrail policy check")
        return
    try:
        running = at(answer(seen, "/modes"), "policy_hash")
    except NotSeen:
        running = None
    if running and running != found:
        yield Line("warning", f"policy: valid here, {found[:8]}, and {str(running)[:8]} is running", "azd deploy")
    else:
        yield Line("done", f"policy: valid, {found[:8] or 'none: everything on, report only'}; ceiling {ceiling(seen)}")


def settings(seen: Seen) -> Iterator[Line]:
    for part in PARTS:
        given = {name: str(value) for name, value in of(seen, "settings", part).items()}
        try:
            found = app_settings.read({**given, app_settings.AZURE_MARKS[0]: "doctor"})
        except ConfigError as error:
            yield Line("failed", f"settings of {part}: {error}", PROVISION)
            continue
        if found.part != part:
            yield Line("failed", f"settings of {part}: GUARDRAIL_PART is {found.part}", PROVISION)
        elif fold(found.group) != fold(of(seen, "own")[0]):
            yield Line("failed", f"settings of {part}: GUARDRAIL_GROUP is not the group that it stands in", PROVISION)
        else:
            yield Line("done", f"settings of {part} are valid")


def channels(seen: Seen) -> Iterator[Line]:
    given = of(seen, "settings", "hands")
    found = [name.lower() for name in CHANNELS if given.get(f"GUARDRAIL_{name}")]
    if found:
        yield Line("done", f"messages go to {few(found)}")
    else:
        yield Line("skipped", "messages: no channel is set")


def sign_on(seen: Seen) -> Iterator[Line]:
    given = of(seen, "settings", "front")
    if not given.get("GUARDRAIL_AUDIENCE") or not given.get("GUARDRAIL_TENANT"):
        yield Line("failed", "console: GUARDRAIL_AUDIENCE or GUARDRAIL_TENANT is empty, so that nobody can sign in", PROVISION)
    elif not given.get("GUARDRAIL_APPROVERS") and not at(seen, "here", "has_approvers"):
        yield Line("warning", "console: GUARDRAIL_APPROVERS is empty and the policy names no group: nobody can approve",
                   "azd env set GUARDRAIL_APPROVERS GROUP_ID, then azd provision")
    else:
        answer(seen, "/modes")
        yield Line("done", "console: sign-in works, and you have an app role there")


def audit(seen: Seen) -> Iterator[Line]:
    found = answer(seen, "/audit/verify")
    if at(found, "intact") is True:
        yield Line("done", f"audit: {at(found, 'records')} records, {at(found, 'chains')} chains, all intact")
    else:
        yield Line("failed", f"audit: {at(found, 'chains_intact')} of {at(found, 'chains')} chains are intact",
                   "docs/runbooks/audit-broken.md")


def version(seen: Seen) -> Iterator[Line]:
    here, there = of(seen, "here", "version"), at(answer(seen, "/health"), "version")
    if there == here:
        yield Line("done", f"version: {here}, here and there")
    else:
        yield Line("warning", f"version: {there} runs, and this is {here}", "azd deploy, or take the same version here")


def namesake(seen: Seen) -> Iterator[Line]:
    if found := at(seen, "here", "namesake"):
        yield Line("warning", f"{found} is another product with a plural name", "type guardrail, without s")
