"""Who may do what after a deployment: every role definition and assignment of the template, worked out."""

from __future__ import annotations

import pytest

from guardrail import roles
from tests import infra
from tests.infra import ACCOUNTS, ALL, DEFINITIONS, FRONT, GRANTS, HANDS, NARROW, grants


@pytest.mark.threat("F8", "I7")
@pytest.mark.parametrize("name", ALL)
def test_with_the_ceiling_report_nothing_writes_to_what_is_guarded(name: str) -> None:
    given = {**infra.LEAST, **infra.DEPLOYMENTS[name]}
    definitions = {one.id: one.body["properties"] for one in infra.made(DEFINITIONS, name)}
    at_subscriptions = [(role, scope) for role, scope, _ in grants(name) if scope.count("/") == 2]
    actions = {action for role, _ in at_subscriptions for action in definitions[role]["permissions"][0]["actions"]}
    only_reads = all(action.endswith("/read") for action in actions)
    assert actions
    assert only_reads == (given.get("ceiling", "report") == "report")


@pytest.mark.threat("F8")
@pytest.mark.parametrize("name", ALL)
def test_custom_roles_reach_exactly_the_guarded_scopes(name: str) -> None:
    guarded = infra.template(name).outputs()["GUARDRAIL_GUARDED"].split(",")
    group = infra.template(name).outputs()["GUARDRAIL_GROUP"]
    for one in infra.made(DEFINITIONS, name):
        scopes = one.body["properties"]["assignableScopes"]
        assert scopes == [group] if "probe" in one.body["properties"]["roleName"] else scopes == [one.scope]
        assert one.scope in {group, *(f"/subscriptions/{id}" for id in guarded)}
    readers = [one for one in infra.made(DEFINITIONS, name) if "reader" in one.body["properties"]["roleName"]]
    assert {one.scope for one in readers} == {f"/subscriptions/{id}" for id in guarded}


@pytest.mark.threat("F6", "F8")
@pytest.mark.parametrize("name", ALL)
def test_custom_roles_hold_nothing_wide(name: str) -> None:
    for one in (*infra.made(DEFINITIONS, name), *infra.at_management_group()):
        if one.type == DEFINITIONS:
            (permission,) = one.body["properties"]["permissions"]
            assert permission["dataActions"] == permission["notActions"] == permission["notDataActions"] == []
            assert [action for action in permission["actions"] if "*" in action or roles.tier(action) == "forbidden"] == []


@pytest.mark.threat("F5")
@pytest.mark.parametrize("name", ALL)
def test_no_built_in_role_but_the_narrow_ones(name: str) -> None:
    """All of them on our own accounts, keys and logs, never at a group or a subscription."""
    custom = {one.id for one in infra.made(DEFINITIONS, name)}
    for role, scope, _ in grants(name):
        assert role in NARROW.values() or role in custom
        assert role in custom or scope.count("/") >= 8


@pytest.mark.threat("D12", "F1")
@pytest.mark.parametrize("name", ALL)
def test_front_can_do_nothing_in_azure(name: str) -> None:
    """Neither at a guarded scope nor to an app's settings: every role of it is on data of ours."""
    mine = list(grants(name, FRONT))
    assert mine
    assert all(role in NARROW.values() for role, _, _ in mine)
    assert not [scope for _, scope, _ in mine if "stgrhands" in scope]


@pytest.mark.threat("C6")
@pytest.mark.parametrize("name", ALL)
def test_each_host_has_its_own_account_and_only_the_app_a_role_there(name: str) -> None:
    """Whoever writes to the account of a host runs code as its app."""
    for part, app in (("front", FRONT), ("hands", HANDS)):
        holders = {principal for _, scope, principal in grants(name) if f"stgr{part}" in scope}
        assert len(holders) == 1
        assert app in holders.pop()
        settings = infra.settings(part, name)
        own = settings["AzureWebJobsStorage__blobServiceUri"]
        assert f"stgr{part}" in own
        assert "stgrrecords" in settings["GUARDRAIL_STORE"]
        deployment = infra.site(part, name).body["properties"]["functionAppConfig"]["deployment"]
        assert deployment["storage"]["value"] == f"{own}package"


@pytest.mark.threat("C3", "C6")
@pytest.mark.parametrize("name", ALL)
def test_front_cannot_write_anchors_and_the_topic_only_what_it_delivers(name: str) -> None:
    anchors = {(role, HANDS in principal) for role, scope, principal in grants(name) if "stgranchor" in scope}
    assert anchors == {("Storage Blob Data Contributor", True), ("Storage Blob Data Reader", False)}
    topic = {(role, scope.rsplit("/", 1)[1]) for role, scope, principal in grants(name, "systemTopics")}
    assert topic == {("Storage Queue Data Message Sender", "events"), ("Storage Blob Data Contributor", "dead-letters")}


@pytest.mark.parametrize("name", ALL)
def test_each_signs_with_its_own_key_only(name: str) -> None:
    found = {(role, scope.rsplit("/", 1)[1], FRONT in who) for role, scope, who in grants(name)
             if scope.endswith(("front-key", "hands-key"))}
    assert found == {("Key Vault Crypto User", "front-key", True), ("Key Vault Crypto User", "hands-key", False),
                     ("Key Vault Reader", "hands-key", True), ("Key Vault Reader", "front-key", False)}


@pytest.mark.threat("F2")
@pytest.mark.parametrize("name", ALL)
def test_no_identity_that_somebody_could_assign_has_power(name: str) -> None:
    """The one there is unwraps with one key what only its accounts hold; the apps and the topic have none but their own."""
    identities = {one.name: one.body["identity"] for one in infra.deployed(name) if not one.existing and "identity" in one.body}
    assert {who for who, identity in identities.items() if identity != {"type": "SystemAssigned"}} == {
        one.name for one in infra.made(ACCOUNTS, name)}
    (assignable,) = infra.made("Microsoft.ManagedIdentity/userAssignedIdentities", name)
    assert [(role, scope.rsplit("/", 1)[1]) for role, scope, _ in grants(name, assignable.name)] == [
        ("Key Vault Crypto Service Encryption User", "storage-key")]
    assert {one.body["properties"]["principalType"] for one in infra.made(GRANTS, name)} == {"ServicePrincipal"}
