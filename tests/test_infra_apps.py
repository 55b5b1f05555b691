"""The two apps of the template: every door closed, every setting one that the worker takes."""

from __future__ import annotations

import re
from typing import Any

import pytest

from guardrail import settings as app_settings
from tests import infra
from tests.bicep import TENANT
from tests.infra import ALL, FRONT, HANDS, SUBSCRIPTIONS, grants


@pytest.mark.threat("G1")
@pytest.mark.parametrize("name", ALL)
def test_no_slot_and_one_plan_an_app(name: str) -> None:
    assert [one for one in infra.deployed(name) if "/slots" in one.type] == []
    plans = infra.made("Microsoft.Web/serverfarms", name)
    assert [one.body["sku"] for one in plans] == [{"name": "FC1", "tier": "FlexConsumption"}] * 2
    used = {infra.site(part, name).body["properties"]["serverFarmId"] for part in ("front", "hands")}
    assert used == {one.id for one in plans}


@pytest.mark.threat("G2")
@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("part", ["front", "hands"])
@pytest.mark.parametrize(("path", "wanted"), [
    ("httpsOnly", True), ("clientAffinityEnabled", False), ("functionsRuntimeAdminIsolationEnabled", True),
    ("siteConfig.minTlsVersion", "1.2"), ("siteConfig.scmMinTlsVersion", "1.2"),
    ("siteConfig.remoteDebuggingEnabled", False), ("siteConfig.cors", {"allowedOrigins": [], "supportCredentials": False}),
    ("siteConfig.scmIpSecurityRestrictionsDefaultAction", "Deny"), ("siteConfig.scmIpSecurityRestrictionsUseMain", False),
    ("functionAppConfig.runtime", {"name": "python", "version": "3.13"}),
    ("functionAppConfig.deployment.storage.authentication", {"type": "SystemAssignedIdentity"}),
])
def test_each_door_of_an_app_is_closed(name: str, part: str, path: str, wanted: Any) -> None:
    value: Any = infra.site(part, name).body["properties"]
    for step in path.split("."):
        value = value[step]
    assert value == wanted


@pytest.mark.parametrize("part", ["front", "hands"])
def test_no_property_that_flex_refuses(part: str) -> None:
    """Newer regions answer error 51021 to any of these, whatever its value; older ones ignored them."""
    refused = {"alwaysOn", "ftpsState", "functionAppScaleLimit", "functionsRuntimeScaleMonitoringEnabled", "javaContainer",
               "javaContainerVersion", "javaVersion", "linuxFxVersion", "minimumElasticInstanceCount", "netFrameworkVersion",
               "nodeVersion", "phpVersion", "powerShellVersion", "preWarmedInstanceCount", "pythonVersion",
               "use32BitWorkerProcess", "windowsFxVersion", "appSettings"}
    assert not refused & set(infra.site(part).body["properties"]["siteConfig"])


@pytest.mark.threat("F1", "G2")
@pytest.mark.parametrize("name", ALL)
def test_nobody_publishes_with_a_password(name: str) -> None:
    found = {(one.id.split("/")[8], one.name.rsplit("/", 1)[1], one.body["properties"]["allow"])
             for one in infra.made("Microsoft.Web/sites/basicPublishingCredentialsPolicies", name)}
    apps = {infra.site(part, name).name for part in ("front", "hands")}
    assert found == {(app, door, False) for app in apps for door in ("ftp", "scm")}


@pytest.mark.threat("B8", "F1")
@pytest.mark.parametrize("name", ALL)
def test_hands_faces_nobody(name: str) -> None:
    """No request from outside, and no host key runs a function of either app under /admin."""
    properties = infra.site("hands", name).body["properties"]
    assert properties["publicNetworkAccess"] == "Disabled"
    assert properties["siteConfig"]["ipSecurityRestrictionsDefaultAction"] == "Deny"
    is_public = infra.DEPLOYMENTS[name].get("consoleAccess", "public") == "public"
    assert (infra.site("front", name).body["properties"]["publicNetworkAccess"] == "Enabled") == is_public


@pytest.mark.threat("B8")
@pytest.mark.parametrize("name", [name for name in ALL if "straight" not in name])
def test_events_come_by_identity_and_carry_no_key(name: str) -> None:
    for one in infra.made(SUBSCRIPTIONS, name):
        delivery = one.body["properties"]["deliveryWithResourceIdentity"]
        assert delivery["identity"] == {"type": "SystemAssigned"}
        assert delivery["destination"]["endpointType"] == "StorageQueue"
        assert delivery["destination"]["properties"]["queueName"] == "events"
        assert "destination" not in one.body["properties"]


@pytest.mark.threat("G3")
@pytest.mark.parametrize("name", ALL)
def test_the_apps_leave_by_one_network_that_lets_them_go_to_azure_only(name: str) -> None:
    (network,) = infra.made("Microsoft.Network/virtualNetworks", name)
    (rules,) = infra.made("Microsoft.Network/networkSecurityGroups", name)
    assert {infra.site(part, name).body["properties"]["virtualNetworkSubnetId"] for part in ("front", "hands")} == {
        f"{network.id}/subnets/apps"}
    assert all(one["properties"]["networkSecurityGroup"] == {"id": rules.id} for one in network.body["properties"]["subnets"])
    every = [one["properties"] for one in rules.body["properties"]["securityRules"]]
    out = [one for one in every if one["direction"] == "Outbound"]
    allowed = {one["destinationAddressPrefix"] for one in out if one["access"] == "Allow"}
    extra = {"Internet"} if infra.DEPLOYMENTS[name].get("outbound") == "https" else set()
    assert allowed == {"VirtualNetwork", "AzureCloud", "AzureActiveDirectory", "AzureFrontDoor.FirstParty"} | extra
    assert all(one["destinationPortRange"] == "443" for one in out if one["access"] == "Allow")
    last = max(out, key=lambda one: one["priority"])
    assert (last["access"], last["protocol"], last["destinationAddressPrefix"]) == ("Deny", "*", "*")


@pytest.mark.parametrize("name", ALL)
def test_each_private_endpoint_has_its_zone_in_the_network(name: str) -> None:
    zones = {one.id for one in infra.made("Microsoft.Network/privateDnsZones", name)}
    links = {one.id.partition("/virtualNetworkLinks/")[0] for one in infra.made(
        "Microsoft.Network/privateDnsZones/virtualNetworkLinks", name)}
    groups = infra.made("Microsoft.Network/privateEndpoints/privateDnsZoneGroups", name)
    named = [zone["properties"] for one in groups for zone in one.body["properties"]["privateDnsZoneConfigs"]]
    used = {zone["privateDnsZoneId"] for zone in named}
    assert used <= zones == links


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("part", ["front", "hands"])
def test_the_settings_are_taken_by_the_worker(name: str, part: str) -> None:
    """Unknown, missing and wrong ones are errors at its start."""
    found = app_settings.read(infra.environment(part, name))
    assert (found.part, found.tenant, found.cloud) == (part, TENANT, "AzureCloud")
    assert found.ceiling == infra.DEPLOYMENTS[name].get("ceiling", "report")
    assert found.subscriptions == frozenset(infra.template(name).outputs()["GUARDRAIL_GUARDED"].split(","))
    assert found.group == infra.template(name).outputs()["GUARDRAIL_GROUP"]
    assert found.has_tables
    assert found.queue
    assert {found.front_key.rsplit("/", 1)[1], found.hands_key.rsplit("/", 1)[1]} == {"front-key", "hands-key"}
    assert found.anchors.endswith("/anchors")


@pytest.mark.parametrize("part", ["front", "hands"])
def test_the_host_finds_its_connections_and_no_setting_that_flex_refuses(part: str) -> None:
    """facts of Functions: identity connections; the settings that Flex Consumption does not take."""
    found = infra.settings(part)
    ours = {name for name in found if name.startswith("GUARDRAIL_")}
    assert {name.removeprefix("GUARDRAIL_") for name in ours} <= set(app_settings.NAMES)
    assert set(found) - ours == {
        "AzureFunctionsWebHost__hostid", "AzureWebJobsStorage__blobServiceUri", "AzureWebJobsStorage__queueServiceUri",
        "AzureWebJobsStorage__tableServiceUri", "AzureWebJobsStorage__credential", "APPLICATIONINSIGHTS_CONNECTION_STRING",
        "APPLICATIONINSIGHTS_AUTHENTICATION_STRING", "Work__queueServiceUri", "Work__credential"}
    assert found["AzureWebJobsStorage__credential"] == found["Work__credential"] == "managedidentity"
    assert len(found["AzureFunctionsWebHost__hostid"]) <= 32
    assert found["AzureFunctionsWebHost__hostid"] == found["AzureFunctionsWebHost__hostid"].lower()


def test_the_two_hosts_are_not_taken_for_one() -> None:
    front, hands = infra.settings("front"), infra.settings("hands")
    assert front["AzureFunctionsWebHost__hostid"] != hands["AzureFunctionsWebHost__hostid"]
    shared = {"GUARDRAIL_STORE", "GUARDRAIL_SUBSCRIPTIONS", "GUARDRAIL_GROUP", "GUARDRAIL_FRONT_KEY", "GUARDRAIL_HANDS_KEY",
              "GUARDRAIL_ANCHORS", "Work__queueServiceUri"}
    assert {name for name in shared if front[name] != hands[name]} == set()
    assert not {"GUARDRAIL_AUDIENCE", "GUARDRAIL_APPROVERS"} & set(hands)
    assert not {"GUARDRAIL_TEAMS", "GUARDRAIL_SLACK", "GUARDRAIL_WEBHOOK_KEY", "GUARDRAIL_PROBE"} & set(front)


def test_chats_are_secrets_of_the_vault() -> None:
    found = infra.settings("hands", "enforcing, cheap, with chats")
    told = {found[f"GUARDRAIL_{name}"] for name in ("TEAMS", "SLACK", "WEBHOOK_KEY")}
    assert all(re.fullmatch(app_settings.IN_VAULT, one) for one in told)
    assert len(told) == 3
    readable = [scope for _, scope, _ in grants("enforcing, cheap, with chats", HANDS) if "/secrets/" in scope]
    assert {scope.rsplit("/", 1)[1] for scope in readable} == {"guardrail-teams", "guardrail-slack", "guardrail-webhook-key"}


def test_the_host_may_put_off_a_message_of_each_queue_that_triggers() -> None:
    """An update of a message, which is messages/write: of the built-in roles for queues Contributor alone has it. Each part
    has it on the queues that it takes from, and on no other."""
    source = (infra.ROOT / "function_app.py").read_text("utf-8")
    front, hands = (set(re.findall(r'queue_name="([\w-]+)"', half)) for half in source.split('in ("hands", "all")'))
    assert (front, hands) == ({"events"}, {"looks", "looks-poison"})
    for app, taken in ((FRONT, front), (HANDS, hands)):
        found = {scope.rsplit("/", 1)[1] for role, scope, _ in grants(to=app) if role == "Storage Queue Data Contributor"}
        assert found == taken
    others = {(role, scope.rsplit("/", 1)[1]) for role, scope, _ in grants(to=HANDS) if "Message" in role and "poison" in scope}
    assert others == {("Storage Queue Data Message Processor", "events-poison")}
