"""What stands behind a URL: resources, collections, parts, operations, deletions, and the simulator's own handles."""

from __future__ import annotations

import copy
import json
import urllib.error
import urllib.request
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator import Simulator
from simulator.types import TYPES, habits_of

SUBSCRIPTION = "/subscriptions/00000000-0000-0000-0000-000000000001"
GROUP = f"{SUBSCRIPTION}/resourceGroups/rg-ai-dev"
ACCOUNT = f"{GROUP}/providers/Microsoft.CognitiveServices/accounts/aoai"
STORAGE = f"{GROUP}/providers/Microsoft.Storage/storageAccounts/aidata"
NSG = f"{GROUP}/providers/Microsoft.Network/networkSecurityGroups/nsg"
VNET = f"{GROUP}/providers/Microsoft.Network/virtualNetworks/vnet"
VAULT = f"{GROUP}/providers/Microsoft.KeyVault/vaults/kv"
COMPUTE = f"{GROUP}/providers/Microsoft.MachineLearningServices/workspaces/ws/computes/ci"
SETTING = f"{ACCOUNT}/providers/Microsoft.Insights/diagnosticSettings/audit"
ROLES = "providers/Microsoft.Authorization/roleAssignments"
RULE = {"properties": {"access": "Allow", "direction": "Inbound", "priority": 100, "protocol": "Tcp"}}


@pytest.fixture
def sim() -> Simulator:
    made = Simulator()
    made.seed(GROUP, {"location": "eastus"})
    return made


def state(sim: Simulator, id: str) -> str:
    document = sim.document(id)
    return str(document["properties"]["provisioningState"]) if document else "gone"


class TestDefaults:
    """What GET shows for what was never set, and what it leaves out (facts of recorded traffic)."""

    @pytest.mark.parametrize(
        ("id", "body", "shown", "absent"),
        [
            (ACCOUNT, {"kind": "OpenAI", "sku": {"name": "S0"}},
             {"publicNetworkAccess": "Enabled", "privateEndpointConnections": []},
             ("networkAcls", "disableLocalAuth", "restrictOutboundNetworkAccess", "encryption")),
            (STORAGE, {"kind": "StorageV2", "sku": {"name": "Standard_LRS"}},
             {"minimumTlsVersion": "TLS1_0", "supportsHttpsTrafficOnly": True, "allowBlobPublicAccess": False},
             ("allowSharedKeyAccess", "publicNetworkAccess", "defaultToOAuthAuthentication", "keyPolicy")),
            (VAULT, {"properties": {"accessPolicies": []}},
             {"publicNetworkAccess": "Enabled", "enableSoftDelete": True, "enabledForDeployment": False},
             ("networkAcls", "enablePurgeProtection", "enableRbacAuthorization")),
            (NSG, {}, {"securityRules": []}, ("flushConnection",)),
            (VNET, {}, {"subnets": [], "virtualNetworkPeerings": [], "enableDdosProtection": False},
             ("ddosProtectionPlan", "encryption")),
        ],
    )  # fmt: skip
    def test_a_new_resource_is_as_open_as_azure_makes_it(
        self, sim: Simulator, id: str, body: Any, shown: Any, absent: tuple[str, ...]
    ) -> None:
        assert sim.request("PUT", id, {"location": "eastus", **body}).ok
        document = sim.document(id)
        assert document is not None
        assert {key: document["properties"].get(key) for key in shown} == shown
        assert not document["properties"].keys() & set(absent)

    def test_a_storage_account_brings_its_services_and_shows_its_network_rules(self, sim: Simulator) -> None:
        sim.request("PUT", STORAGE, {"location": "eastus"})
        blob, file = sim.document(f"{STORAGE}/blobServices/default"), sim.document(f"{STORAGE}/fileServices/default")
        assert blob
        assert file
        assert blob["properties"]["deleteRetentionPolicy"] == {"allowPermanentDelete": False, "enabled": False}
        assert file["properties"]["shareDeleteRetentionPolicy"] == {"enabled": True, "days": 7}
        document = sim.document(STORAGE, "2023-05-01")
        assert document
        assert document["properties"]["networkAcls"]["defaultAction"] == "Allow"

    def test_a_diagnostic_setting_shows_null_for_each_destination_it_has_not(self, sim: Simulator) -> None:
        sim.seed(ACCOUNT, {})
        answer = sim.request("PUT", SETTING, {"properties": {"workspaceId": "/w", "logs": [{"category": "Audit"}]}})
        assert answer.status == 200
        assert answer.body["properties"] | {"logs": 0} == {
            "workspaceId": "/w", "storageAccountId": None, "serviceBusRuleId": None, "eventHubName": None,
            "metrics": [],
            "eventHubAuthorizationRuleId": None, "logAnalyticsDestinationType": None, "logs": 0,
        }  # fmt: skip

    def test_a_plan_of_defender_is_free_until_it_is_bought_and_then_forgets_its_sub_plan(self, sim: Simulator) -> None:
        plan = f"{SUBSCRIPTION}/providers/Microsoft.Security/pricings/VirtualMachines"
        sim.request("PUT", plan, {"properties": {"pricingTier": "Standard", "subPlan": "P1"}})
        sim.request("PUT", plan, {"properties": {"pricingTier": "Free"}})
        document = sim.document(plan)
        assert document
        assert document["properties"] == {"pricingTier": "Free", "freeTrialRemainingTime": "PT0S"}
        sim.request("PUT", plan, {"properties": {"pricingTier": "Standard"}})
        document = sim.document(plan)
        assert document
        assert document["properties"]["subPlan"] == "P2"


class TestWrites:
    @pytest.mark.parametrize("type", sorted(habits.type for habits in TYPES.values() if "/vaults/acc" not in habits.type))
    def test_an_unknown_property_comes_back_from_every_type(self, sim: Simulator, type: str) -> None:
        namespace, *kinds = type.split("/")
        if namespace == "Microsoft.Resources":
            return
        *above, _ = [f"{kind}/x" for kind in kinds]
        parent = "/".join([GROUP, "providers", namespace, *above])
        sim.seed(parent if above else GROUP, {})
        id = f"{parent}/{kinds[-1]}/y"
        sent = {"location": "eastus", "properties": {"unheardOf": {"a": [1, {"b": None}]}}}
        answer = sim.request("PUT", id, sent)
        assert answer.ok, answer.body
        document = sim.document(id)
        assert document
        assert document["properties"]["unheardOf"] == {"a": [1, {}]}

    def test_an_unknown_type_follows_arms_general_rules(self, sim: Simulator) -> None:
        id = f"{GROUP}/providers/Contoso.Things/things/t"
        assert sim.request("PUT", id, {"location": "x", "tags": {"a": "1"}, "properties": {"p": 1, "q": 2}}).status == 201
        assert sim.request("PATCH", id, {"tags": {"b": "2"}, "properties": {"p": None}}).status == 200
        document = sim.document(id)
        assert document
        assert document["tags"] == {"b": "2"}
        assert document["properties"] == {"q": 2, "provisioningState": "Succeeded"}
        assert sim.request("PUT", id, {"location": "x", "properties": {}}).status == 200
        assert "tags" not in (sim.document(id) or {})
        assert [sim.request("DELETE", id).status, sim.request("DELETE", id).status] == [200, 204]

    def test_ids_are_one_whatever_their_letter_case(self, sim: Simulator) -> None:
        sim.request("PUT", STORAGE, {"location": "eastus"})
        sim.request("PATCH", STORAGE.upper(), {"tags": {"a": "1"}}, api_version="2025-08-01")
        document = sim.document(STORAGE.lower())
        assert document
        assert (document["id"], document["tags"]) == (STORAGE, {"a": "1"})

    @pytest.mark.parametrize(
        ("query", "code"),
        [
            ("", "MissingApiVersionParameter"),
            ("api-version=latest", "InvalidApiVersionParameter"),
            ("api-version=1999-01-01", "NoRegisteredProviderFound"),
        ],
    )
    def test_a_version_that_is_none_is_refused(self, sim: Simulator, query: str, code: str) -> None:
        sim.seed(STORAGE, {})
        with sim:
            status, body = over_http(sim, f"{STORAGE}?{query}")
        assert (status, body["error"]["code"]) == (400, code)

    def test_a_type_that_names_its_versions_knows_no_other(self, sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
        known = replace(habits_of("Microsoft.Storage/storageAccounts"), versions=("2025-08-01",))
        monkeypatch.setitem(TYPES, "microsoft.storage/storageaccounts", known)
        sim.seed(STORAGE, {})
        assert sim.request("GET", STORAGE, api_version="2025-08-01").status == 200
        refused = sim.request("GET", STORAGE, api_version="2025-01-01")
        assert (refused.status, refused.body["error"]["code"]) == (400, "NoRegisteredProviderFound")

    @pytest.mark.parametrize(
        ("id", "code"),
        [
            (f"{GROUP}x/providers/Microsoft.Storage/storageAccounts/a", "ResourceGroupNotFound"),
            (f"{STORAGE}none/blobServices/default", "ParentResourceNotFound"),
            (f"{STORAGE}none", "ResourceNotFound"),
            (f"{GROUP}/{ROLES}/none", "RoleAssignmentNotFound"),
        ],
    )
    def test_a_404_names_what_is_missing(self, sim: Simulator, id: str, code: str) -> None:
        answer = sim.request("GET", id)
        assert (answer.status, answer.body["error"]["code"]) == (404, code)

    @pytest.mark.parametrize("body", [b"{", b"[]", b'"x"', b'{"properties": []}', b'{"tags": "x"}', b'{"sku": 1}'])
    def test_a_body_that_is_no_document_is_refused(self, sim: Simulator, body: bytes) -> None:
        assert sim.request("PUT", STORAGE, body).status == 400
        assert sim.document(STORAGE) is None

    def test_if_match_is_held_against_the_newest_state(self, sim: Simulator) -> None:
        sim.seed(ACCOUNT, {"properties": {}})
        etag = sim.request("GET", ACCOUNT).headers["ETag"]
        change = {"properties": {"publicNetworkAccess": "Disabled"}}
        assert sim.request("PATCH", ACCOUNT, change, headers={"If-Match": etag}).status == 202
        refused = sim.request("PATCH", ACCOUNT, {"properties": {}}, headers={"If-Match": etag})
        assert (refused.status, refused.body["error"]["code"]) == (412, "PreconditionFailed")
        assert sim.request("PUT", ACCOUNT, {}, headers={"If-None-Match": "*"}).status == 412

    def test_a_patch_makes_nothing_even_if_it_was_deleted_just_before(self, sim: Simulator) -> None:
        assert sim.request("PATCH", STORAGE, {"tags": {}}).status == 404
        sim.seed(STORAGE, {})
        sim.faults.before_write(STORAGE, lambda: sim.faults.delete(STORAGE))
        assert sim.request("PATCH", STORAGE, {"tags": {}}).status == 404
        assert sim.document(STORAGE) is None

    def test_a_second_assignment_of_the_same_is_refused_and_an_existing_one_is_fixed(self, sim: Simulator) -> None:
        first, second = f"{GROUP}/{ROLES}/11111111", f"{GROUP}/{ROLES}/22222222"
        role = {"properties": {"principalId": "p", "roleDefinitionId": "/providers/x/roleDefinitions/owner"}}
        assert [sim.request("PUT", first, role).status, sim.request("PUT", first, role).status] == [201, 201]
        clash = sim.request("PUT", second, role)
        assert (clash.status, clash.body["error"]["code"]) == (409, "RoleAssignmentExists")
        other = {"properties": {**role["properties"], "principalId": "q"}}
        changed = sim.request("PUT", first, other)
        assert (changed.status, changed.body["error"]["code"]) == (400, "RoleAssignmentUpdateNotPermitted")

    def test_access_policies_are_added_and_removed_alone(self, sim: Simulator) -> None:
        sim.seed(VAULT, {})
        entry = {"tenantId": "t", "objectId": "o", "permissions": {"secrets": ["get", "list"]}}
        fewer = {**entry, "permissions": {"secrets": ["list"]}}
        kinds = []
        for name, policy in (("add", entry), ("remove", fewer), ("remove", entry)):
            sent = {"properties": {"accessPolicies": [policy]}}
            assert sim.request("PUT", f"{VAULT}/accessPolicies/{name}", sent).status == 200
            document = sim.document(VAULT)
            assert document
            kinds.append([it["permissions"]["secrets"] for it in document["properties"]["accessPolicies"]])
        assert kinds == [[["get", "list"]], [["get"]], []]


class TestParts:
    def test_a_rule_is_seen_in_its_group_and_alone_and_renews_the_groups_etag(self, sim: Simulator) -> None:
        sim.request("PUT", NSG, {"location": "eastus", "properties": {"securityRules": [{"name": "a", **RULE}]}})
        before = sim.request("GET", NSG).headers["ETag"]
        assert sim.request("PUT", f"{NSG}/securityRules/b", RULE).status == 201
        group = sim.request("GET", NSG)
        assert [rule["name"] for rule in group.body["properties"]["securityRules"]] == ["a", "b"]
        assert group.headers["ETag"] != before
        assert group.body["properties"]["securityRules"][1] == sim.request("GET", f"{NSG}/securityRules/B").body
        assert sim.request("DELETE", f"{NSG}/securityRules/a").status == 202
        assert [rule["name"] for rule in (sim.document(NSG) or {})["properties"]["securityRules"]] == ["b"]

    def test_a_groups_put_without_rules_removes_them(self, sim: Simulator) -> None:
        sim.seed(NSG, {"location": "eastus", "properties": {"securityRules": [{"name": "a", **RULE}]}})
        sim.request("PUT", NSG, {"location": "eastus", "properties": {}})
        assert (sim.document(NSG) or {})["properties"]["securityRules"] == []
        assert sim.document(f"{NSG}/securityRules/a") is None

    @pytest.mark.parametrize(("version", "left"), [("2023-06-01", []), ("2023-09-01", ["ai"])])
    def test_a_networks_put_without_subnets_keeps_them_since_2023(self, sim: Simulator, version: str, left: list[str]) -> None:
        sim.seed(VNET, {"properties": {"subnets": [{"name": "ai", "properties": {}}]}})
        sim.request("PUT", VNET, {"location": "eastus", "properties": {}}, api_version=version)
        assert [it["name"] for it in (sim.document(VNET) or {})["properties"]["subnets"]] == left

    def test_a_subnets_put_detaches_what_it_does_not_name(self, sim: Simulator) -> None:
        subnet = f"{VNET}/subnets/ai"
        sim.seed(VNET, {})
        sim.request("PUT", subnet, {"properties": {"addressPrefix": "10.0.0.0/24", "networkSecurityGroup": {"id": NSG}}})
        sim.request("PUT", subnet, {"properties": {"addressPrefix": "10.0.0.0/24"}})
        assert "networkSecurityGroup" not in (sim.document(subnet) or {})["properties"]

    def test_deleting_a_parent_deletes_children_and_extensions(self, sim: Simulator) -> None:
        sim.seed(ACCOUNT, {})
        sim.request("PUT", f"{ACCOUNT}/raiPolicies/strict", {"properties": {}})
        sim.request("PUT", SETTING, {"properties": {}})
        sim.request("DELETE", ACCOUNT)
        assert [sim.document(id) for id in (ACCOUNT, f"{ACCOUNT}/raiPolicies/strict", SETTING)] == [None] * 3
        assert sim.history(SETTING)[-1].body is None


class TestLists:
    def test_a_list_holds_what_is_below_its_scope_and_no_more(self, sim: Simulator) -> None:
        other = STORAGE.replace("rg-ai-dev", "rg-other")
        for id in (STORAGE, other):
            sim.seed(id, {})
        of = {scope: names(sim, f"{scope}/providers/Microsoft.Storage/storageAccounts") for scope in (SUBSCRIPTION, GROUP)}
        assert of == {SUBSCRIPTION: [STORAGE, other], GROUP: [STORAGE]}
        assert names(sim, f"{STORAGE}/blobServices") == [f"{STORAGE}/blobServices/default"]
        assert sim.request("GET", f"{STORAGE}x/blobServices").status == 404

    @pytest.mark.parametrize("count", [0, 1, 2, 3, 5])
    def test_pages_follow_each_other_to_the_end(self, sim: Simulator, count: int) -> None:
        sim.page_size = 2
        sim.seed(ACCOUNT, {})
        for number in range(count):
            sim.seed(f"{ACCOUNT}/deployments/d{number}", {})
        found: list[str] = []
        link = f"{ACCOUNT}/deployments?api-version=2026-03-01"
        while link:
            page = sim.request("GET", link.removeprefix("http://127.0.0.1")).body
            found += [item["name"] for item in page["value"]]
            link = page.get("nextLink", "").replace("%24", "$")
        assert found == [f"d{number}" for number in range(count)]

    @pytest.mark.parametrize(
        ("query", "expected"),
        [("", {"sub", "group", "account"}), ("atScope()", {"sub", "group"}), ("principalId eq 'group'", {"group"})],
    )
    def test_role_assignments_are_listed_above_and_below_as_the_filter_says(
        self, sim: Simulator, query: str, expected: set[str]
    ) -> None:
        sim.seed(ACCOUNT, {})
        for scope, name in ((SUBSCRIPTION, "sub"), (GROUP, "group"), (ACCOUNT, "account")):
            sim.seed(f"{scope}/{ROLES}/{name}", {"properties": {"principalId": name, "roleDefinitionId": "/r"}})
        answer = sim.request("GET", f"{GROUP}/{ROLES}?api-version=2022-04-01" + (f"&$filter={query}" if query else ""))
        assert {item["name"] for item in answer.body["value"]} == expected

    def test_diagnostic_settings_are_those_of_the_resource_alone(self, sim: Simulator) -> None:
        blob = f"{STORAGE}/blobServices/default"
        sim.seed(f"{blob}/providers/Microsoft.Insights/diagnosticSettings/a", {})
        assert names(sim, f"{blob}/providers/Microsoft.Insights/diagnosticSettings") != []
        assert names(sim, f"{STORAGE}/providers/Microsoft.Insights/diagnosticSettings") == []


class TestOperations:
    def test_a_long_write_names_its_operation_and_is_done_at_once_unless_told_otherwise(self, sim: Simulator) -> None:
        sim.seed(ACCOUNT, {})
        answer = sim.request("PATCH", ACCOUNT, {"properties": {"publicNetworkAccess": "Disabled"}})
        assert (answer.status, answer.body["properties"]["provisioningState"]) == (202, "Accepted")
        assert state(sim, ACCOUNT) == "Succeeded"
        poll = sim.request("GET", answer.headers["Azure-AsyncOperation"].removeprefix("http://127.0.0.1"))
        assert (poll.status, poll.body["status"]) == (200, "Succeeded")
        last = sim.request("GET", answer.headers["Location"].removeprefix("http://127.0.0.1"))
        assert (last.status, last.body["id"]) == (200, ACCOUNT)

    def test_reading_the_resource_is_enough_to_see_it_end(self, sim: Simulator) -> None:
        sim.operations.polls = 2
        sim.request("PUT", NSG, {"location": "eastus"})
        states = [sim.request("GET", NSG).body["properties"]["provisioningState"] for _ in range(3)]
        assert states == ["Updating", "Succeeded", "Succeeded"]

    def test_while_it_runs_another_write_is_refused(self, sim: Simulator) -> None:
        sim.operations.polls = 1
        sim.request("PUT", NSG, {"location": "eastus"})
        busy = sim.request("PUT", NSG, {"location": "eastus"})
        assert (busy.status, busy.body["error"]["code"]) == (409, "AnotherOperationInProgress")
        sim.request("GET", NSG)
        assert sim.request("PUT", NSG, {"location": "eastus"}).status == 200

    def test_a_storage_account_is_not_there_until_it_is_made(self, sim: Simulator) -> None:
        sim.operations.polls = 2
        answer = sim.request("PUT", STORAGE, {"location": "eastus"})
        assert (answer.status, answer.body) == (202, None)
        assert [sim.request("GET", STORAGE).status for _ in range(2)] == [404, 200]

    def test_a_resource_is_seen_going_until_it_has_gone(self, sim: Simulator) -> None:
        sim.seed(NSG, {})
        sim.operations.polls = 2
        assert sim.request("DELETE", NSG).status == 202
        assert sim.request("GET", NSG).body["properties"]["provisioningState"] == "Deleting"
        assert sim.request("GET", NSG).status == 404

    def test_a_compute_stops_and_starts_and_passes_through_what_lies_between(self, sim: Simulator) -> None:
        sim.seed(COMPUTE, {"properties": {"computeType": "ComputeInstance"}})
        sim.operations.polls = 2
        seen = []
        for action in ("stop", "start", "restart"):
            assert sim.request("POST", f"{COMPUTE}/{action}").status == 202
            seen += [sim.request("GET", COMPUTE).body["properties"]["properties"]["state"] for _ in range(2)]
        assert seen == ["Stopping", "Stopped", "Starting", "Running", "Restarting", "Running"]

    def test_a_failed_state_stays_until_a_write_succeeds(self, sim: Simulator) -> None:
        sim.seed(VAULT, {"properties": {"provisioningState": "Failed"}})
        assert state(sim, VAULT) == "Failed"
        sim.request("PATCH", VAULT, {"tags": {}})
        assert state(sim, VAULT) == "Succeeded"


class TestSoftDelete:
    @pytest.mark.parametrize(
        ("id", "restore", "listed"),
        [
            (ACCOUNT, {"location": "eastus", "properties": {"restore": True}},
             "Microsoft.CognitiveServices/deletedAccounts"),
            (VAULT, {"location": "eastus", "properties": {"createMode": "recover"}},
             "Microsoft.KeyVault/deletedVaults"),
        ],
    )  # fmt: skip
    def test_it_comes_back_with_its_old_settings_only_when_asked_to(
        self, sim: Simulator, id: str, restore: Any, listed: str
    ) -> None:
        sim.request("PUT", id, {"location": "eastus", "properties": {"publicNetworkAccess": "Disabled"}})
        born = (sim.document(id) or {})["systemData"]["createdAt"]
        sim.request("DELETE", id)
        assert len(sim.request("GET", f"{SUBSCRIPTION}/providers/{listed}").body["value"]) == 1
        assert sim.request("PUT", id, {"location": "eastus", "properties": {}}).status == 409
        assert sim.request("PUT", id, restore).ok
        document = sim.document(id)
        assert document
        assert document["properties"]["publicNetworkAccess"] == "Disabled"
        assert document["systemData"]["createdAt"] == born
        assert sim.request("GET", f"{SUBSCRIPTION}/providers/{listed}").body["value"] == []

    def test_a_purged_account_is_made_anew(self, sim: Simulator) -> None:
        sim.seed(ACCOUNT, {"location": "eastus", "properties": {"publicNetworkAccess": "Disabled"}})
        sim.request("DELETE", ACCOUNT)
        [deleted] = sim.request("GET", f"{SUBSCRIPTION}/providers/Microsoft.CognitiveServices/deletedAccounts").body["value"]
        assert sim.request("DELETE", deleted["id"], api_version="2026-03-01").status == 202
        assert sim.request("PUT", ACCOUNT, {"location": "eastus"}).status == 201
        assert (sim.document(ACCOUNT) or {})["properties"]["publicNetworkAccess"] == "Enabled"


class TestHandles:
    def test_what_is_seeded_was_always_there(self, sim: Simulator) -> None:
        events: list[Any] = []
        sim.events.to(events.append)
        born = "2020-01-02T03:04:05Z"
        sim.seed(
            f"{ACCOUNT}/deployments/gpt",
            {"id": "/x", "etag": "y", "properties": {"model": {}}, "systemData": {"createdAt": born}},
        )
        sim.events.drain()
        assert (events, sim.log, sim.writes()) == ([], [], [])
        document = sim.document(f"{ACCOUNT}/deployments/gpt")
        assert document
        assert document["systemData"]["createdAt"] == born
        assert document["id"] == f"{ACCOUNT}/deployments/gpt"
        assert sim.document(ACCOUNT) is not None

    @pytest.mark.parametrize("type", sorted(TYPES))
    def test_reading_changes_nothing(self, sim: Simulator, type: str) -> None:
        namespace, *kinds = type.split("/")
        id = "/".join([GROUP, "providers", namespace, *(f"{kind}/x" for kind in kinds)])
        sim.seed(id, {"location": "eastus", "properties": {}})
        stored = sim.world.get(id)
        assert stored
        before = copy.deepcopy((stored.body, stored.etag))
        assert sim.document(id) == sim.document(id)
        sim.request("GET", id)
        assert (stored.body, stored.etag) == before

    def test_a_folder_of_documents_is_loaded(self, sim: Simulator, tmp_path: Path) -> None:
        (tmp_path / "more").mkdir()
        one, two = (
            {"id": NSG, "document": {}},
            {"id": VNET, "api_version": "2025-07-01", "document": {"tags": {"a": "1"}}},
        )
        (tmp_path / "one.json").write_text(json.dumps(one))
        (tmp_path / "more" / "list.json").write_text(json.dumps([two]))
        sim.load(tmp_path)
        assert sim.document(NSG) is not None
        assert (sim.document(VNET) or {})["tags"] == {"a": "1"}

    def test_the_log_and_the_history_know_who_did_what(self, sim: Simulator) -> None:
        sim.request("PUT", STORAGE, {"location": "eastus"}, as_="deploy-pipeline")
        sim.request("PATCH", STORAGE, {"properties": {"minimumTlsVersion": "TLS1_2"}}, as_="oncall")
        sim.request("GET", STORAGE, as_="guardrail")
        assert [(it.method, it.actor, it.status) for it in sim.log] == [
            ("PUT", "deploy-pipeline", 202), ("PATCH", "oncall", 200), ("GET", "guardrail", 200),
        ]  # fmt: skip
        assert sim.writes() == sim.log[:2]
        assert [(it.who, it.method) for it in sim.history(STORAGE)] == [("deploy-pipeline", "PUT"), ("oncall", "PATCH")]
        assert "authorization" not in json.dumps(dict(sim.log[0].headers)).lower() or sim.log[0].headers["authorization"]

    def test_a_recreated_resource_is_another_incarnation(self, sim: Simulator) -> None:
        moments = iter(range(1_800_000_000, 1_800_001_000))
        sim.clock = lambda: float(next(moments))
        created = []
        for id, key in ((STORAGE, "creationTime"), (NSG, "resourceGuid")):
            for _ in range(2):
                sim.request("PUT", id, {"location": "eastus"})
                created.append((sim.document(id) or {})["properties"][key])
                sim.request("DELETE", id)
        assert len(set(created)) == 4

    def test_a_change_behind_everyones_back_is_stored_as_it_stands(self, sim: Simulator) -> None:
        sim.seed(NSG, {"properties": {"securityRules": [{"name": "a", **RULE}]}})
        before = sim.request("GET", NSG).headers["ETag"]

        def tamper(document: dict[str, Any]) -> None:
            document["properties"]["securityRules"][0]["properties"]["access"] = 7
            document["properties"]["odd"] = None

        sim.mutate(NSG, tamper)
        now = sim.request("GET", NSG)
        assert now.headers["ETag"] != before
        assert now.body["properties"]["odd"] is None
        assert sim.request("GET", f"{NSG}/securityRules/a").body["properties"]["access"] == 7
        assert sim.writes() == []

    def test_the_server_answers_over_http_and_stops(self, sim: Simulator) -> None:
        sim.seed(STORAGE, {})
        with sim:
            url = sim.url
            assert over_http(sim, f"{STORAGE}?api-version=2025-08-01")[1]["name"] == "aidata"
            status, body = over_http(sim, f"{SUBSCRIPTION}//resourcegroups/RG-AI-DEV/providers/microsoft.storage/"
                                          "storageaccounts/?api-version=2025-08-01")  # fmt: skip
            assert (status, [item["id"] for item in body["value"]]) == (200, [STORAGE])
            assert over_http(sim, f"{STORAGE}?api-version=2025-08-01", token="")[0] == 401
            seeded = json.dumps({"id": NSG, "document": {"location": "eastus"}}).encode()
            assert over_http(sim, "/_simulator/seed", "POST", seeded)[0] == 204
            assert NSG in over_http(sim, "/_simulator/documents")[1]
            assert len(over_http(sim, "/_simulator/log")[1]) == 3
        assert sim.url == ""
        with pytest.raises(urllib.error.URLError):
            urllib.request.urlopen(url, timeout=1)

    @given(
        st.sampled_from(sorted(habits.type for habits in TYPES.values() if habits.finish or habits.settle)),
        st.dictionaries(
            st.sampled_from(["networkAcls", "securityRules", "delegations", "encryption", "cors", "rules", "filter"]),
            st.none() | st.integers() | st.text(max_size=2) | st.lists(st.none() | st.just({"name": 1})),
        ),
    )  # fmt: skip
    def test_no_odd_document_breaks_a_read(self, type: str, properties: Any) -> None:
        sim = Simulator()
        namespace, *kinds = type.split("/")
        id = "/".join([GROUP, "providers", namespace, *(f"{kind}/x" for kind in kinds)])
        sim.seed(id, {"location": "eastus", "properties": properties})
        odds: tuple[Any, ...] = (properties, None, "text", [])
        for odd in odds:
            sim.mutate(id, partial(dict, properties=odd))
            assert sim.request("GET", id).status == 200
            assert sim.request("PUT", id, {"location": "eastus", "properties": properties}).status < 500


def names(sim: Simulator, path: str) -> list[str]:
    return [item["id"] for item in sim.request("GET", path).body["value"]]


def over_http(
    sim: Simulator, path: str, method: str = "GET", body: bytes | None = None, token: str | None = None
) -> tuple[int, Any]:
    headers = {"Authorization": f"Bearer {sim.identity.token('oncall')}"} if token is None else {}
    request = urllib.request.Request(sim.url + path, body, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status, json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, json.loads(refused.read() or b"null")
