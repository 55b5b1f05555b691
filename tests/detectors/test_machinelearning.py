"""Machine learning: what the common table of controls cannot know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

import recorded
from detectors import machinelearning, ml_assets, ml_computes, ml_endpoints, ml_parts
from detectors.ml_common import COMPUTE, MODEL, ONLINE, REGISTRY_MODEL, SCHEDULE, SPACE
from guardrail.documents import Document
from guardrail.paths import ABSENT
from guardrail.values import Drift
from tests.detectors.worst import drifts_in_time

BY_ID = {control.id: control for control in machinelearning.CONTROLS}
KIND = "properties.computeType"
SSH = "properties.properties.sshSettings.sshPublicAccess"
OTHER = "00000000-0000-0000-0000-0000000000f1"
ML_DEV = str(recorded.good(SPACE).id)


def document(type: str, edits: Mapping[str, Any]) -> Document:
    good = recorded.good(type)
    return recorded.Sample(good.id, good.api_version, recorded.laid(good.body, edits)).document


def drifts(id: str, edits: Mapping[str, Any], *, known: bool = True, **parameters: Any) -> list[Drift]:
    control = BY_ID[id]
    here = document(control.on, edits)
    here = here if known else replace(here, good={})
    return list(control.check(here.node(), {**control.parameters, **parameters}))


def paths(found: list[Drift]) -> list[tuple[str, bool]]:
    return [(drift.path, drift.decided) for drift in found]


# computes


@pytest.mark.threat("E9")
@pytest.mark.parametrize(("kind", "access", "verdict"), [
    ("ComputeInstance", "Enabled", [True]), ("computeinstance", "enabled", [True]), ("ComputeInstance", "Disabled", []),
    ("ComputeInstance", ABSENT, []), ("ComputeInstance", "NotSpecified", [False]),
    ("ComputeInstance", "Disabled ", [False]),
    ("AmlCompute", "Enabled", []), ("VirtualMachine", "Enabled", []), (ABSENT, "Enabled", [True]),
    ("ComputeInstance ", "Enabled", [True]), ("NewKind", "Enabled", [True]),
])
def test_instances_and_kinds_that_we_do_not_know_are_judged(kind: Any, access: Any, verdict: list[bool]) -> None:
    assert [drift.decided for drift in drifts("ml-compute-instance-ssh", {KIND: kind, SSH: access})] == verdict


@pytest.mark.parametrize(("value", "seconds"), [
    ("PT1H", 3600), ("pt90m", 5400), ("P1D", 86400), ("P1DT1H1M1S", 90061), ("PT0S", 0), ("P", None),
    ("PT", None), ("1H", None),
    ("P1M", None), ("PT1H ", None), ("-PT1H", None), ("", None), (60, None), (None, None), ("PT" + "9" * 400 + "S", None),
])
def test_durations(value: Any, seconds: int | None) -> None:
    assert ml_computes.seconds(value) == seconds


@pytest.mark.parametrize(("idle", "verdict"), [
    ("PT3H", []), ("PT180M", []), ("PT15M", []), ("PT3H1S", [True]), ("PT14M", [True]), ("P30D", [True]), (ABSENT, [True]),
    ("never", [False]), (0, [False]),
])
def test_idle_time(idle: Any, verdict: list[bool]) -> None:
    found = drifts("ml-compute-instance-idle-shutdown", {ml_computes.IDLE: idle})
    assert [drift.decided for drift in found] == verdict
    assert all(drift.wanted == "PT3H" for drift in found)


@pytest.mark.parametrize(("access", "subnet", "speaks"), [
    ("Enabled", True, True), ("Disabled", False, False), ("NotSpecified", True, False), ("NotSpecified", False, True),
    (ABSENT, False, True), (ABSENT, True, False),
])
def test_remote_login_that_is_not_specified_is_closed_inside_a_subnet_only(access: Any, subnet: bool, speaks: bool) -> None:
    edits = {KIND: "AmlCompute", "properties.properties.remoteLoginPortPublicAccess": access,
             **({} if subnet else {"properties.properties.subnet": ABSENT})}
    assert bool(drifts("ml-amlcompute-remote-login", edits)) == speaks


@pytest.mark.parametrize("id", ["ml-compute-node-public-ip", "ml-compute-in-vnet", "ml-amlcompute-isolated-network"])
def test_a_managed_network_answers_for_its_computes(id: str) -> None:
    edits = BY_ID[id].drift
    assert drifts(id, edits)
    assert drifts(id, edits, managed_network_workspaces=(ML_DEV.upper(),)) == []
    assert drifts(id, edits, managed_network_workspaces=(ML_DEV + "x",))


@pytest.mark.parametrize(("user", "allowed", "speaks"), [
    ("22222222-2222-2222-2222-222222222222", (), False), (ABSENT, (), False), (OTHER, (), True),
    (OTHER, (OTHER.upper(),), False)])
def test_an_instance_is_its_makers(user: Any, allowed: tuple[str, ...], speaks: bool) -> None:
    at = "properties.properties.personalComputeInstanceSettings.assignedUser.objectId"
    assert bool(drifts("ml-compute-instance-personal", {at: user}, allowed_assignees=allowed)) == speaks


def attached(target: Any) -> Mapping[str, Any]:
    return {"properties.isAttachedCompute": True, "properties.resourceId": target}


@pytest.mark.parametrize(("target", "verdict"), [
    (f"/subscriptions/{OTHER}/resourceGroups/rg/providers/Microsoft.Compute/virtualMachines/vm", [("", True)]),
    (f"{ML_DEV.split('/providers')[0]}/providers/Microsoft.Compute/virtualMachines/vm", []),
    ("somewhere", [("properties.resourceId", False)]), (ABSENT, [("properties.resourceId", False)]),
    ([], [("properties.resourceId", False)]),
])
def test_only_what_is_attached_to_another_subscription_for_sure_is_removed(target: Any, verdict: Any) -> None:
    assert paths(drifts("ml-compute-attached-target", attached(target))) == verdict
    trusted = drifts("ml-compute-attached-target", attached(target), trusted_subscriptions=(OTHER,))
    assert [drift for drift in trusted if drift.decided] == []


# outbound rules, datastores, marketplace


def rule(**properties: Any) -> Mapping[str, Any]:
    return {f"{ml_parts.RULES}[name='x']": {"name": "x", "properties": {"category": "UserDefined", **properties}}}


def tag(**destination: Any) -> Mapping[str, Any]:
    return rule(type="ServiceTag", destination={"serviceTag": "AzureMonitor", **destination})


def link(subscription: str) -> Mapping[str, Any]:
    target = f"/subscriptions/{subscription}/resourceGroups/rg/providers/Microsoft.Storage/storageAccounts/st"
    return rule(type="PrivateEndpoint", destination={"serviceResourceId": target, "subresourceTarget": "blob"})


ITEM = f"{ml_parts.RULES}[name='x']"


@pytest.mark.threat("E9")
@pytest.mark.parametrize(("edits", "verdict"), [
    (rule(type="FQDN", destination="wheels.example"), []), (rule(type="fqdn", destination="Wheels.Example"), []),
    (rule(type="FQDN", destination="wheels.example.evil.example"), [(ITEM, True)]),
    (rule(type="FQDN", destination="*"), [(ITEM, True)]),
    (rule(type="FQDN", destination="*.wheels.example"), [(ITEM, True)]), (rule(type="FQDN"), [(ITEM, True)]),
    (rule(type="FQDN", destination="evil.example", category="Required"), []),
    (rule(type="FQDN", destination="evil.example", category="Requiredd"), [(ITEM, True)]),
    (rule(type="FQDN", destination={"serviceTag": "x"}), []),           # unreadable, see below
    (tag(), []), (tag(addressPrefixes=["0.0.0.0/0"]), [(ITEM, True)]), (tag(addressPrefixes=[]), []),
    (tag(serviceTag="Internet"), [(ITEM, True)]), (tag(serviceTag="Internet", action="Deny"), []),
    (tag(serviceTag="Internet", action="deny "), [(ITEM, True)]),
    (link(OTHER), [(ITEM, True)]), (link("00000000-0000-0000-0000-000000000001"), []),
    (rule(type="PrivateEndpoint", destination={}), [(ITEM, True)]),
    (rule(type="Tunnel"), [(ITEM + ".properties.type", False)]),
])
def test_outbound_rules(edits: Mapping[str, Any], verdict: Any) -> None:
    allowed: dict[str, Any] = {"allowed_fqdns": ("wheels.example",), "allowed_service_tags": ("AzureMonitor",)}
    assert paths(drifts("ml-outbound-rule-allow-list", edits, **allowed)) == verdict


def test_a_rule_of_another_shape_is_unreadable_and_not_deleted() -> None:
    node = document(SPACE, rule(type="FQDN", destination={"a": 1})).node()
    control = BY_ID["ml-outbound-rule-allow-list"]
    assert list(control.check(node, control.parameters)) == []
    assert list(node.troubles) == [ITEM + ".properties.destination"]


@pytest.mark.threat("E8")
@pytest.mark.parametrize(("id", "part", "properties"), [
    ("ml-outbound-rule-allow-list", ml_parts.RULES, {"type": "FQDN", "destination": "evil.example"}),
    ("ml-datastore-target", ml_parts.STORES, {"subscriptionId": OTHER, "credentials": {"credentialsType": "None"}}),
    ("ml-connection-key-auth", ml_parts.LINKS, {"authType": "ApiKey"}),
    ("ml-online-deployment-model-source", ml_endpoints.DEPLOYMENTS, {"model": "azureml://registries/x/models/y/versions/1"}),
])
def test_ten_thousand_are_judged_in_time(id: str, part: str, properties: Any) -> None:
    control = BY_ID[id]
    here = document(control.on, {part: [{"name": f"n{at}", "properties": properties} for at in range(10_000)]})
    assert len(drifts_in_time(lambda: control.check(here.node(), control.parameters), here, part)) == 10_000


STORE = f"{ml_parts.STORES}[name='curated']"


@pytest.mark.parametrize(("edits", "verdict"), [
    ({"properties.protocol": "http"}, [(STORE, True)]), ({"properties.protocol": "HTTPS"}, []),
    ({"properties.subscriptionId": ABSENT}, []), ({"properties.subscriptionId": OTHER}, [(STORE, True)]),
    ({"properties.subscriptionId": OTHER, "properties.credentials.credentialsType": "AccountKey"}, [(STORE, False)]),
    ({"properties.subscriptionId": OTHER, "properties.isDefault": True}, [(STORE, False)]),
    ({"properties.accountName": "stelsewhere"}, [(STORE, True)]), ({"properties.accountName": "STMLTRAIN"}, []),
])
def test_a_datastore_is_removed_only_if_it_can_be_put_back(edits: Mapping[str, Any], verdict: Any) -> None:
    at = {f"{STORE}.{path}": value for path, value in edits.items()}
    assert paths(drifts("ml-datastore-target", at, allowed_storage_accounts=("stmltrain",))) == verdict


@pytest.mark.parametrize(("model", "speaks"), [
    ("azureml://registries/vendor/models/Large", False), ("azureml://registries/Vendor/models/large/versions/3", False),
    ("azureml://registries/vendor/models/Larger", True), ("azureml://registries/other/models/Large", True), ("", True),
])
def test_marketplace_models_are_compared_whole(model: str, speaks: bool) -> None:
    edits = {f"{ml_parts.OFFERS}[name='x']": {"name": "x", "properties": {"modelId": model}}}
    found = drifts("ml-marketplace-subscription", edits, allowed_marketplace_models=("azureml://registries/vendor/models/large",))
    assert bool(found) == speaks


# endpoints

BLUE = f"{ml_endpoints.DEPLOYMENTS}[name='blue'].properties"


@pytest.mark.threat("E9")
@pytest.mark.parametrize(("model", "fine"), [
    (f"{ML_DEV}/models/churn/versions/4", True), (f"azureml:{ML_DEV}/models/churn/versions/4", True),
    (f"azureml:/{ML_DEV}/models/churn/versions/4", True), (ML_DEV.upper() + "/MODELS/CHURN/VERSIONS/4", True),
    ("azureml://subscriptions/00000000-0000-0000-0000-000000000001/resourcegroups/rg-ai-dev/workspaces/ml-dev/models/churn/versions/4",
     True),
    (f"{ML_DEV}2/models/churn/versions/4", False), (f"{ML_DEV}/models/churn/versions/4/../../x", False),
    (f"{ML_DEV}/environments/churn/versions/4", False), ("azureml://registries/house/models/churn/versions/4", True),
    ("azureml://registries/house-of-cards/models/churn/versions/4", False),
    ("azureml://registries/house/environments/churn/versions/4", False),
    ("https://weights.example/churn.onnx", False), ("azureml:churn:4", False), (ABSENT, True),
])
def test_where_a_model_comes_from(model: Any, fine: bool) -> None:
    found = drifts("ml-online-deployment-model-source", {f"{BLUE}.model": model}, allowed_registries=("house",))
    assert bool(found) != fine


@pytest.mark.parametrize(("parameters", "speaks"), [
    ({"approved_models": ("churn/4",)}, False), ({"approved_models": ("churn",)}, False),
    ({"approved_models": ("churn/5",)}, True),
    ({"denied_models": ("churn",)}, True), ({"denied_models": ("churn/5",)}, False), ({"approved_models": ("chur",)}, True),
    ({"approved_models": ("churn",), "denied_models": ("CHURN/4",)}, True),
])
def test_models_are_approved_and_denied_by_name_or_version(parameters: Mapping[str, Any], speaks: bool) -> None:
    assert bool(drifts("ml-online-deployment-model-source", {}, **parameters)) == speaks


@pytest.mark.parametrize(("traffic", "parameters", "known", "verdict"), [
    ({"blue": 100}, {}, True, []), ({"Blue": 60}, {}, True, []),
    ({"blue": 100, "green": 0}, {}, True, []), ({}, {}, True, []),
    ({"green": 100}, {}, True, [("blue", True), ("green", True)]),
    ({"blue": 90, "green": 10}, {}, True, [("blue", True), ("green", True)]),
    ({"green": 100}, {}, False, []),                                              # nothing to compare with yet
    ({"green": 100}, {"approved_deployments": ("blue", "green")}, True, []),
    ({"green": 100}, {"approved_deployments": ("green",)}, True, []),
    ({"blue": 100}, {"approved_deployments": ("green",)}, True, [("blue", False)]),     # the good one is not approved either
    ({"green": 100}, {"approved_deployments": ("blue",)}, False, [("green", False)]),
    ({"blue": 100, "green": "all"}, {}, True, [("green", False)]),
    ({"blue": 100, "a b": 1}, {}, True, [("a b", True)]),
])
def test_traffic_goes_back_to_what_was_good(traffic: Any, parameters: Any, known: bool, verdict: Any) -> None:
    found = drifts("ml-online-endpoint-traffic", {"properties.traffic": traffic}, known=known, **parameters)
    assert [(drift.path.removeprefix("properties.traffic").strip(".[']"), drift.decided) for drift in found] == verdict


def test_an_empty_collector_and_a_thin_sample_keep_too_little() -> None:
    at = f"{BLUE}.dataCollector.collections"
    assert paths(drifts("ml-online-deployment-data-collector", {f"{at}.model_outputs": ABSENT})) == [
        (f"{at}.model_outputs.dataCollectionMode", True)]
    assert paths(drifts("ml-online-deployment-data-collector", {f"{at}.model_inputs.samplingRate": 0.1})) == [
        (f"{at}.model_inputs.samplingRate", True)]
    assert drifts("ml-online-deployment-data-collector", {f"{at}.model_inputs.samplingRate": 0.1}, min_sampling=0.05) == []


# models, schedules


@pytest.mark.parametrize(("by", "kind", "publishers", "speaks"), [
    ("b1", "User", (), True), ("b1", "Application", (), False), ("b1", "ManagedIdentity", (), False), ("b1", "Key", (), True),
    ("b1", "User", ("b1x",), True), ("pipeline", "User", ("PIPELINE",), False), ("other", "Application", ("pipeline",), True),
    (ABSENT, ABSENT, (), True),
])
@pytest.mark.parametrize("id", ["ml-model-version-tampered", "ml-registry-model-version", "ml-schedule-unapproved-job"])
def test_who_may_publish(id: str, by: Any, kind: Any, publishers: Any, speaks: bool) -> None:
    did = "created" if id == "ml-schedule-unapproved-job" else "lastModified"
    edits = {**BY_ID[id].drift, f"systemData.{did}By": by, f"systemData.{did}ByType": kind}
    assert bool(drifts(id, edits, approved_publishers=publishers)) == speaks


def test_a_deleted_version_and_a_deleted_monitor_come_back_as_they_were() -> None:
    for type, id in ((MODEL, "ml-model-version-tampered"), (SCHEDULE, "ml-model-monitor-schedule")):
        gone = replace(document(type, {}), body=ABSENT)
        (drift,) = BY_ID[id].check(gone.node(), BY_ID[id].parameters)
        assert (drift.path, drift.observed) == ("", ABSENT)
        assert drift.wanted["properties"] == recorded.good(type).body["properties"]
        assert list(BY_ID[id].check(replace(gone, good={}).node(), BY_ID[id].parameters)) == []


def test_what_moved_in_a_version_and_nothing_else() -> None:
    edits = {"systemData.lastModifiedByType": "User", "properties.modelUri": "https://elsewhere.example/4",
             "properties.tags.owner": "x", "properties.description": "new"}
    found = drifts("ml-model-version-tampered", edits)
    assert sorted(paths(found)) == [("properties.modelUri", True), ("properties.tags.owner", True)]
    assert paths(drifts("ml-model-version-tampered", {"properties.tags": ABSENT}, known=False)) == [
        ("properties.tags.approved_by", False)]


TRIGGER = "properties.trigger"


@pytest.mark.parametrize(("trigger", "hours"), [
    ({"frequency": "Day", "interval": 1}, 24), ({"frequency": "week", "interval": 2}, 336),
    ({"frequency": "Month", "interval": 1}, 744),
    ({"frequency": "Day", "interval": 0}, None), ({"frequency": "Day", "interval": True}, None),
    ({"frequency": "Year", "interval": 1}, None),
    ({"triggerType": "Cron", "expression": "15 3 * * *"}, 24), ({"triggerType": "Cron", "expression": "15 3 * * 1"}, 168),
    ({"triggerType": "Cron", "expression": "0 3 1 * *"}, 744), ({"triggerType": "Cron", "expression": "0 0 29 2 *"}, 8784),
    ({"triggerType": "Cron", "expression": "15 * * * *"}, 1),
    ({"triggerType": "Cron", "expression": "daily"}, None), (ABSENT, None),
])
def test_how_often_a_monitor_runs(trigger: Any, hours: float | None) -> None:
    assert ml_assets.hours(document(SCHEDULE, {TRIGGER: trigger}).node()) == hours
    found = [drift for drift in drifts("ml-model-monitor-schedule", {TRIGGER: trigger}) if drift.path == TRIGGER]
    assert bool(found) == (hours is None or hours > 168)


def test_a_monitor_keeps_its_signals_and_its_addresses() -> None:
    signal, mails = f"{ml_assets.SIGNALS}.data_drift", ml_assets.MAILS
    assert paths(drifts("ml-model-monitor-schedule", {signal: ABSENT})) == [(signal, True)]
    assert paths(drifts("ml-model-monitor-schedule", {signal: ABSENT}, known=False)) == [(ml_assets.SIGNALS, False)]
    assert paths(drifts("ml-model-monitor-schedule", {mails: []})) == [(mails, True)]
    assert paths(drifts("ml-model-monitor-schedule", {mails: []}, known=False)) == [(mails, False)]
    job = BY_ID["ml-schedule-unapproved-job"].drift["properties.action"]
    assert paths(drifts("ml-model-monitor-schedule", {"properties.action": job})) == [("properties.action", True)]
    assert drifts("ml-model-monitor-schedule", {"properties.action": job}, known=False) == []


# parameters


@pytest.mark.threat("E7")
@pytest.mark.parametrize(("id", "name", "value"), [
    ("ml-outbound-rule-allow-list", "allowed_fqdns", ("*",)), ("ml-outbound-rule-allow-list", "allowed_fqdns", ("*.com",)),
    ("ml-outbound-rule-allow-list", "allowed_service_tags", ("Internet",)),
    ("ml-outbound-rule-allow-list", "allowed_service_tags", ("AzureCloud.eastus",)),
    ("ml-outbound-rule-allow-list", "trusted_subscriptions", ("*",)),
    ("ml-datastore-credentials", "allowed_credentials", ("AccountKey",)),
    ("ml-connection-key-auth", "allowed_auth_types", ("ApiKey",)),
    ("ml-marketplace-subscription", "allowed_marketplace_models", ("*",)),
    ("ml-marketplace-subscription", "allowed_marketplace_models", ("azureml://registries/vendor",)),
    ("ml-workspace-managed-network-isolation", "minimum_mode", "Disabled"),
    ("ml-workspace-system-datastores-auth", "allowed_modes", ("AccessKey",)),
    ("ml-workspace-system-datastores-auth", "allowed_modes", ()),
    ("ml-compute-instance-idle-shutdown", "max_idle", "P30D"),
    ("ml-compute-instance-setup-scripts", "allowed_script_sources", ("inline",)),
    ("ml-compute-node-public-ip", "managed_network_workspaces", ("*",)),
    ("ml-compute-node-public-ip", "managed_network_workspaces", ("/subscriptions/00000000-0000-0000-0000-000000000001",)),
    ("ml-online-endpoint-auth-mode", "allowed_auth_modes", ("Key",)),
    ("ml-online-deployment-data-collector", "min_sampling", 0),
    ("ml-online-deployment-data-collector", "required_collections", ()),
    ("ml-online-deployment-model-source", "allowed_registries", ("*",)),
    ("ml-registry-model-version", "approved_publishers", ("*",)), ("ml-model-monitor-schedule", "max_interval_hours", 10_000),
    ("ml-model-monitor-schedule", "required_signals", ()),
])
def test_parameters_that_would_switch_a_control_off_are_refused(id: str, name: str, value: Any) -> None:
    assert BY_ID[id].floors[name](value)
    assert BY_ID[id].floors[name](BY_ID[id].parameters[name]) == ""


def test_every_parameter_has_a_floor_that_takes_its_default() -> None:
    for control in machinelearning.CONTROLS:
        assert set(control.floors) == set(control.parameters), control.id
        assert [name for name, floor in control.floors.items() if floor(control.parameters[name])] == [], control.id


def test_what_is_left_out_is_no_control_and_has_a_reason() -> None:
    assert all(id not in BY_ID and len(why) > 20 for id, why in machinelearning.LEFT_OUT)


def test_the_types_are_where_their_controls_look() -> None:
    assert {control.on for control in machinelearning.CONTROLS} >= {SPACE, COMPUTE, ONLINE, SCHEDULE, MODEL, REGISTRY_MODEL}


@pytest.mark.parametrize(("id", "path", "speaks"), [
    ("ml-workspace-public-network-access", "properties.publicNetworkAccess", True),
    ("ml-workspace-managed-network-isolation", "properties.managedNetwork", True),
    ("ml-workspace-system-datastores-auth", "properties.systemDatastoresAuthMode", True),
    ("ml-workspace-v1-legacy-mode", "properties.v1LegacyMode", False), ("ml-workspace-hbi", "properties.hbiWorkspace", True),
    ("ml-workspace-identity", "identity", True), ("ml-workspace-kind", "kind", False),
    ("ml-compute-local-auth", "properties.disableLocalAuth", True),
    ("ml-compute-node-public-ip", "properties.properties.enableNodePublicIp", True),
    ("ml-compute-instance-sso", "properties.properties.enableSSO", False),
    ("ml-compute-instance-os-outdated", "properties.properties.osImageMetadata", False),
    ("ml-compute-instance-personal", "properties.properties.applicationSharingPolicy", True),
    ("ml-online-endpoint-public-network-access", "properties.publicNetworkAccess", True),
    ("ml-online-endpoint-auth-mode", "properties.authMode", True),
    ("ml-online-deployment-egress", f"{BLUE}.egressPublicNetworkAccess", True),
    ("ml-online-deployment-app-insights", f"{BLUE}.appInsightsEnabled", True),
    ("ml-serverless-endpoint-content-safety", "properties.contentSafety", False),
    ("ml-serverless-endpoint-auth", "properties.authMode", True), ("ml-model-monitor-schedule", "properties.isEnabled", False),
    ("ml-registry-public-network-access", "properties.publicNetworkAccess", True),
])
def test_what_is_absent_is_what_azure_takes_it_for(id: str, path: str, speaks: bool) -> None:
    found = drifts(id, {path: ABSENT})
    assert bool(found) == speaks
    assert all(drift.observed is ABSENT for drift in found)


@pytest.mark.parametrize("id", ["ml-workspace-public-network-access", "ml-workspace-managed-network-isolation"])
def test_a_project_is_mended_at_its_hub(id: str) -> None:
    assert [drift.decided for drift in drifts(id, BY_ID[id].drift)] == [True]
    assert [drift.decided for drift in drifts(id, {**BY_ID[id].drift, "kind": "Project"})] == [False]
