"""What infra/ takes from the tables is what they say, and its own resources pass our own controls."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace

import pytest

import tools.infra
from detectors import CONTROLS
from guardrail import authorize, roles, settings
from guardrail.paths import fold
from guardrail.values import Drift
from remediators import TYPES
from tests import facts, infra
from tests.bicep import Runtime
from tests.infra import ACCOUNTS, ALL


@pytest.mark.parametrize("file", list(tools.infra.files()))
def test_generated_files_are_what_the_tables_say(file: str) -> None:
    assert (infra.ROOT / file).read_text("utf-8") == tools.infra.files()[file], "run make infra"


@pytest.mark.threat("F8")
def test_roles_json_is_exactly_the_role_of_the_enabled_controls() -> None:
    found = json.loads((infra.INFRA / "roles.json").read_bytes())
    controls, reach = tools.infra.enabled()
    types = {fold(type.name): type for type in TYPES}
    assert sorted(found["reader"] + found["remediator"]) == list(roles.role(controls, types, reach))
    assert tuple(found["reader"]) == roles.role(controls, types, report_only=True)
    assert not [action for action in found["remediator"] if action.endswith("/read")]


def sent_by_fixes() -> set[str]:
    """The folded actions of every request that the fix of a control's drift, or a type's isolation, sends."""
    sent = set[str]()
    for control in facts.ACTING:
        steps = [*facts.fix_of(control.id), *(facts.isolation_of(control.on)[1] if control.response == "isolate" else ())]
        type = facts.BY_TYPE[control.on]
        sent |= {fold(action) for step in steps for action in (roles.action_of(type, step), *step.route.needs)}
    return sent


@pytest.mark.threat("F8")
def test_every_write_in_the_role_is_sent_by_a_fix_and_every_write_of_a_fix_is_in_it() -> None:
    """With nothing opted in, and with every type: then two deletes are more than any fix sends, and only ask."""
    controls, _ = tools.infra.enabled()
    types = tools.infra.BY_NAME
    plain = {fold(action) for action in roles.definitions(controls, types)["remediator"]}
    every = {fold(action) for action in roles.definitions(controls, types, [type.name for type in TYPES])["remediator"]}
    sent = sent_by_fixes()
    assert plain - sent == set()
    assert {action for action in sent - every if roles.tier(action) != "forbidden"} == set()
    assert every - sent == {fold("Microsoft.CognitiveServices/accounts/connections/delete"),
                            fold("Microsoft.CognitiveServices/accounts/projects/connections/delete")}


def test_the_app_registration_has_the_roles_that_the_console_asks_for() -> None:
    found = json.loads((infra.INFRA / "app-roles.json").read_bytes())
    assert [one["value"] for one in found] == list(authorize.ROLES)
    assert len({one["id"] for one in found}) == len(found)
    assert all(one["allowedMemberTypes"] == ["User"] for one in found), "an application decides nothing"


def test_the_app_registration_brings_what_the_console_reads_from_a_token() -> None:
    """acct, groups and scp (docs/reference/http-api.md). Graph refuses a client of a scope that is in the same request."""
    asked = json.loads((infra.INFRA / "app-scope.json").read_bytes())
    client = json.loads((infra.INFRA / "app-client.json").read_bytes())
    assert [one["name"] for one in asked["optionalClaims"]["accessToken"]] == ["acct"]
    assert asked["groupMembershipClaims"] == "ApplicationGroup"
    [scope] = asked["api"]["oauth2PermissionScopes"]
    assert (scope["type"], scope["isEnabled"]) == ("User", True)
    [allowed] = client["api"]["preAuthorizedApplications"]
    assert allowed["delegatedPermissionIds"] == [scope["id"]]
    assert not set(client["api"]) & set(asked["api"])
    tutorial = (infra.ROOT / "docs/tutorials/first-deployment.md").read_text("utf-8")
    told = [tutorial.index(f"@infra/app-{name}.json") for name in ("roles", "scope", "client")]
    assert told == sorted(told)


def test_the_pages_name_every_filter_setting_and_output() -> None:
    page = (infra.ROOT / "docs/reference/events-and-filters.md").read_text("utf-8")
    filters = json.loads((infra.INFRA / "filters.json").read_bytes())
    assert re.findall(r"^- `([^`]+)`$", page, re.MULTILINE) == [*filters["operations"], *filters["events"]]
    tutorial = (infra.ROOT / "docs/tutorials/first-deployment.md").read_text("utf-8")
    given = set(re.findall(r"\$\{(GUARDRAIL_\w+)", (infra.INFRA / "main.parameters.json").read_text("utf-8")))
    unnamed = {name for name in given if f"`{name}`" not in tutorial and f" {name} " not in tutorial}
    assert unnamed == {"GUARDRAIL_TOPICS", "GUARDRAIL_UNKNOWN_ACTIONS", "GUARDRAIL_ANCHORS_STATE"}, "preprovision.sh sets them"
    pages = "".join(path.read_text("utf-8") for path in (infra.ROOT / "docs").rglob("*.md"))
    told = set(re.findall(r"`(GUARDRAIL_\w+)`", pages))
    known = {f"GUARDRAIL_{name}" for name in settings.NAMES} | given | set(infra.template().outputs())
    assert told - known <= {"GUARDRAIL_DEPLOY"}, "a name that nothing takes"


def found_by_our_controls(name: str) -> Iterator[tuple[str, str, Drift]]:
    for one in infra.documents(name):
        for control in CONTROLS:
            if control.on == one.type:
                node = one.node()
                yield from ((control.id, str(one.id), drift) for drift in control.check(node, control.parameters))
                assert node.troubles == {}, f"{control.id} cannot read {one.id}"


@pytest.mark.parametrize("name", [name for name in ALL if infra.DEPLOYMENTS[name].get("network") != "service"])
def test_our_own_controls_find_nothing_in_our_own_template(name: str) -> None:
    assert list(found_by_our_controls(name)) == []


def test_the_cheap_network_is_found_by_our_own_controls() -> None:
    """With service endpoints the public endpoints stay, behind a firewall: the page on costs says so."""
    found = {control for control, _, _ in found_by_our_controls("enforcing, cheap, with chats")}
    assert found == {"storage-public-network-access", "keyvault-public-network-access"}


def test_a_bad_template_would_be_found() -> None:
    """The test above can fail: one account with keys and one vault that forgets, before the same controls."""
    every = infra.deployed()
    account = next(one for one in every if one.type == ACCOUNTS)
    bad = replace(account, body={**account.body, "properties": {**account.body["properties"], "allowSharedKeyAccess": True}})
    found = {control.id for control in CONTROLS if control.on == ACCOUNTS
             for _ in control.check(infra.document(bad, every).node(), control.parameters)}
    assert {"storage-shared-key-access"} <= found


def test_what_only_azure_knows_is_marked() -> None:
    """Else a test could compare two unknowns and call them equal."""
    assert isinstance(infra.template().outputs()["GUARDRAIL_HANDS_PRINCIPAL"], Runtime)
