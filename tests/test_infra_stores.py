"""Accounts, vault and events of the template: no key, no stranger, nothing that a trigger hears left out."""

from __future__ import annotations

import re

import pytest

import tools.infra
from guardrail import roles
from guardrail import settings as app_settings
from guardrail.paths import fold
from tests import infra
from tests.bicep import SUBSCRIPTION, Template
from tests.infra import ACCOUNTS, ALL, SUBSCRIPTIONS


@pytest.mark.threat("C6")
@pytest.mark.parametrize("name", ALL)
def test_no_account_takes_a_key_or_a_stranger(name: str) -> None:
    found = {one.name[:10]: one.body["properties"] for one in infra.made(ACCOUNTS, name)}
    assert set(found) == {"stgrfront6", "stgrhands6", "stgrrecord", "stgranchor"}
    is_private = infra.DEPLOYMENTS[name].get("network", "private") == "private"
    for who, one in found.items():
        assert one["allowSharedKeyAccess"] is one["allowBlobPublicAccess"] is one["allowCrossTenantReplication"] is False
        assert one["supportsHttpsTrafficOnly"] is True
        assert one["networkAcls"]["defaultAction"] == "Deny"
        assert one["networkAcls"]["ipRules"] == []
        assert one["networkAcls"]["bypass"] == ("AzureServices" if who == "stgrrecord" else "None")
        assert bool(one["networkAcls"]["virtualNetworkRules"]) != is_private
        assert one["publicNetworkAccess"] == ("Disabled" if is_private else "Enabled")


@pytest.mark.threat("C3")
@pytest.mark.parametrize("name", ALL)
def test_anchors_can_only_be_appended_to_and_outlive_the_rest(name: str) -> None:
    (policy,) = infra.made(f"{ACCOUNTS}/blobServices/containers/immutabilityPolicies", name)
    assert policy.body["properties"] == {"immutabilityPeriodSinceCreationInDays": 365, "allowProtectedAppendWrites": True}
    assert policy.id.endswith("/containers/anchors/immutabilityPolicies/default")
    (lock,) = infra.made("Microsoft.Authorization/locks", name)
    assert "stgranchor" in lock.scope
    assert lock.scope.split("/")[4] == "rg-guardrail-test-audit"


@pytest.mark.threat("C3")
def test_a_locked_retention_is_not_written_again() -> None:
    """Azure refuses it, with the whole deployment: what is locked can be extended, by another call."""
    given = {**infra.LEAST, "anchorsState": "Locked"}
    left = Template(infra.INFRA / "main.bicep", given, f"/subscriptions/{SUBSCRIPTION}").resources()
    assert {one.type for one in infra.deployed()} - {one.type for one in left} == {
        f"{ACCOUNTS}/blobServices/containers/immutabilityPolicies"}


def test_everything_that_the_parts_ask_for_is_there() -> None:
    """The names in settings and code: tables, queues, containers."""
    found = {one.id.rsplit("/", 2)[1] + "/" + one.name.rsplit("/", 1)[1] for one in infra.deployed()
             if not one.existing and one.type.startswith(f"{ACCOUNTS}/") and "stgrrecords" in one.id}
    assert found >= {"tables/cases", "tables/open", "tables/budgets", "queues/events", "queues/events-poison", "queues/looks",
                     "queues/looks-poison", "containers/bodies", "containers/dead-letters"}
    hands = app_settings.read(infra.environment("hands"))
    assert hands.bodies == hands.dead_letters.replace("dead-letters", "bodies")


@pytest.mark.threat("C6")
def test_nothing_in_infra_is_or_reads_a_secret() -> None:
    """The one connection string is Application Insights' address, which without keys lets nobody in."""
    bad = (r"listKeys|listAccountSas|listServiceSas|listSecrets|AccountKey=|SharedAccess|sig=|\?code=|instrumentationKey"
           r"|password\s*[:=]\s*'|@secure")
    files = [path for path in infra.INFRA.rglob("*") if path.is_file()]
    assert [path.name for path in files if re.search(bad, path.read_text("utf-8"), re.IGNORECASE)] == []
    words = [line for file in infra.FILES for line in file.read_text("utf-8").splitlines() if "ConnectionString" in line]
    assert words == ["output insightsConnection string = insights.properties.ConnectionString"]
    (component,) = infra.made("Microsoft.Insights/components")
    (workspace,) = infra.made("Microsoft.OperationalInsights/workspaces")
    assert component.body["properties"]["DisableLocalAuth"] is True
    assert workspace.body["properties"]["features"]["disableLocalAuth"] is True


def test_the_vault_keeps_what_is_deleted_and_its_keys_do_one_thing_each() -> None:
    (vault,) = infra.made("Microsoft.KeyVault/vaults")
    assert vault.body["properties"]["enablePurgeProtection"] is vault.body["properties"]["enableRbacAuthorization"] is True
    keys = {one.name.rsplit("/", 1)[1]: one.body["properties"] for one in infra.made("Microsoft.KeyVault/vaults/keys")}
    assert set(keys) == {"front-key", "hands-key", "storage-key"}
    assert keys["front-key"] == keys["hands-key"] == {"kty": "EC", "curveName": "P-256", "keyOps": ["sign", "verify"]}
    assert keys["storage-key"]["keyOps"] == ["wrapKey", "unwrapKey"]


@pytest.mark.parametrize("name", ALL)
def test_what_stays_stands_on_nothing_that_goes(name: str) -> None:
    """The anchors, the key that reads them and its identity share the group that is kept; no endpoint there holds a subnet."""
    (anchors,) = [one for one in infra.made(ACCOUNTS, name) if one.name.startswith("stgranchor")]
    kept = anchors.id.partition("/providers/")[0]
    (vault,) = infra.made("Microsoft.KeyVault/vaults", name)
    (identity,) = infra.made("Microsoft.ManagedIdentity/userAssignedIdentities", name)
    assert vault.id.startswith(f"{kept}/")
    assert identity.id.startswith(f"{kept}/")
    assert [one.id for one in infra.made("Microsoft.Network/privateEndpoints", name) if one.id.startswith(f"{kept}/")] == []
    for account in infra.made(ACCOUNTS, name):
        used = account.body["properties"]["encryption"]
        assert used["keySource"] == "Microsoft.Keyvault"
        assert used["identity"]["userAssignedIdentity"] == identity.id
        assert set(account.body["identity"]["userAssignedIdentities"]) == {identity.id}


@pytest.mark.parametrize("name", ALL)
def test_the_event_subscription_hears_what_the_controls_are_triggered_by(name: str) -> None:
    found = infra.made(SUBSCRIPTIONS, name)
    assert len(found) == len(infra.template(name).outputs()["GUARDRAIL_GUARDED"].split(","))
    for one in found:
        properties = one.body["properties"]
        (filter,) = properties["filter"]["advancedFilters"]
        assert (filter["operatorType"], filter["key"]) == ("StringBeginsWith", "data.operationName")
        assert len(filter["values"]) <= 25, "Event Grid takes 25 values in all filters together"
        unheard = {trigger for control in tools.infra.enabled()[0] for trigger in control.triggered_by
                   if not any(fold(trigger).startswith(fold(value)) for value in filter["values"])}
        assert unheard == set()
        assert set(properties["filter"]["includedEventTypes"]) == set(roles.EVENT_TYPES)
        assert properties["deadLetterWithResourceIdentity"]["identity"] == {"type": "SystemAssigned"}
        assert properties["retryPolicy"] == {"maxDeliveryAttempts": 30, "eventTimeToLiveInMinutes": 1440}


def test_a_topic_that_is_there_is_used_as_it_is() -> None:
    name = "two subscriptions, one with a topic"
    (made,) = infra.made("Microsoft.EventGrid/systemTopics", name)
    assert made.id.startswith(f"/subscriptions/{SUBSCRIPTION}/")
    assert {one.id.rpartition("/eventSubscriptions/")[0] for one in infra.made(SUBSCRIPTIONS, name)} == {made.id, infra.TOPIC}
