"""Deployments, and what policies stand on: what the common table of controls cannot know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

import recorded
from detectors import openai_deployments, openai_policies
from guardrail.documents import Document
from guardrail.paths import ABSENT
from guardrail.values import Drift

CONTROLS = {control.id: control for control in (*openai_deployments.CONTROLS, *openai_policies.CONTROLS)}
CHAT, BATCH = ("+deployments[name='chat-gpt']", "+deployments[name='chat-batch']")
STRICT = "+raiPolicies[name='strict'].properties"
ELSEWHERE = ("/subscriptions/00000000-0000-0000-0000-00000000000f/resourceGroups/rg"
             "/providers/Microsoft.CognitiveServices/accounts/x")


def drifts(id: str, edits: Mapping[str, Any], good: Mapping[str, Any] | None = None, **parameters: Any) -> list[Drift]:
    control = CONTROLS[id]
    sample = recorded.good(control.on)
    document = recorded.Sample(sample.id, sample.api_version, recorded.laid(sample.body, edits)).document
    document = document if good is None else replace(document, good=good)
    return list(control.check(document.node(), {**control.parameters, **parameters}))


def said(found: list[Drift]) -> dict[str, Any]:
    return {drift.path: drift.wanted if drift.decided else "undecided" for drift in found}


PAUSED = {f"{CHAT}.properties.deploymentState": "Paused"}
LEFT = {f"{CHAT}.sku.name": "undecided"}


@pytest.mark.parametrize(("edits", "allowed", "wanted"), [
    ({f"{CHAT}.sku.name": "GlobalStandard"}, (), PAUSED),
    ({f"{CHAT}.sku.name": "globalstandard", f"{CHAT}.properties.deploymentState": "Running"}, (), PAUSED),
    ({f"{CHAT}.sku.name": "GlobalStandard", f"{CHAT}.properties.deploymentState": "paused"}, (), {}),
    ({f"{CHAT}.sku.name": "GlobalStandard", f"{CHAT}.properties.deploymentState": "Draining"}, (),
     {f"{CHAT}.properties.deploymentState": "undecided"}),
    ({f"{CHAT}.sku.name": "DataZoneStandard"}, ("DataZoneStandard",), {}),
    ({f"{CHAT}.sku.name": "GlobalBatch"}, (), LEFT), ({f"{CHAT}.sku.name": "DeveloperTier"}, (), LEFT),
    ({f"{CHAT}.sku": ABSENT}, (), LEFT),
    ({f"{CHAT}.sku": ABSENT, f"{CHAT}.properties.scaleSettings": {"scaleType": "Standard"}}, (), {}),
])
def test_what_may_leave_the_region_is_paused_if_it_can_be(edits: Any, allowed: tuple[str, ...], wanted: Any) -> None:
    found = drifts("openai-deployment-sku-data-residency", edits, allowed_deployment_skus=("Standard", *allowed))
    assert said(found) == wanted


MODEL = f"{CHAT}.properties.model"
OWN = str(recorded.good(openai_deployments.ACCOUNT).id)


@pytest.mark.parametrize(("edits", "parameters", "wanted"), [
    ({}, {}, {}),
    ({f"{MODEL}.name": "anything"}, {}, {}),
    ({f"{MODEL}.sourceAccount": ELSEWHERE}, {}, PAUSED),
    ({f"{MODEL}.sourceAccount": ELSEWHERE.upper()}, {"allowed_source_accounts": (ELSEWHERE,)}, {}),
    ({f"{MODEL}.sourceAccount": OWN.upper()}, {}, {}),
    ({}, {"allowed_publishers": ("openai",)}, {}),
    ({f"{MODEL}.publisher": "Elsewhere"}, {"allowed_publishers": ("OpenAI",)}, PAUSED),
    ({f"{MODEL}.name": "gpt-4o"}, {"allowed_models": ("OpenAI/gpt-4o-mini",)}, PAUSED),
    ({}, {"allowed_models": ("openai/GPT-4o-mini/2024-07-18",)}, {}),
    ({f"{MODEL}.version": "2025-01-01"}, {"allowed_models": ("OpenAI/gpt-4o-mini/2024-07-18",)}, PAUSED),
    ({f"{CHAT}.properties.routing": {"models": [{"format": "Elsewhere", "name": "m", "version": "1"}]}},
     {"allowed_publishers": ("OpenAI",)}, PAUSED),
    ({f"{MODEL}.sourceAccount": ELSEWHERE, f"{CHAT}.sku.name": "ProvisionedManaged"}, {}, LEFT),
])
def test_a_model_that_is_not_approved_does_not_run(edits: Any, parameters: Any, wanted: Any) -> None:
    assert said(drifts("openai-deployment-model-allow-list", edits, **parameters)) == wanted


@pytest.mark.parametrize(("edits", "parameters", "wanted"), [
    ({f"{CHAT}.sku.capacity": 100}, {}, {}), ({f"{CHAT}.sku.capacity": 101}, {}, {f"{CHAT}.sku.capacity": 100}),
    ({f"{CHAT}.sku.name": "globalstandard", f"{CHAT}.sku.capacity": 101}, {}, {f"{CHAT}.sku.capacity": 100}),
    ({f"{CHAT}.sku.name": "ProvisionedManaged"}, {}, {f"{CHAT}.sku.capacity": "undecided"}),
    ({f"{CHAT}.sku.capacity": "101"}, {}, {f"{CHAT}.sku.capacity": "undecided"}),
    ({f"{CHAT}.sku.capacity": True}, {}, {f"{CHAT}.sku.capacity": "undecided"}),
    ({f"{CHAT}.sku.capacity": ABSENT}, {}, {f"{CHAT}.sku.capacity": "undecided"}),
    ({}, {"max_total": 11}, {}), ({}, {"max_total": 10}, {"+deployments": "undecided"}),
])
def test_capacity_is_within_its_limits(edits: Any, parameters: Any, wanted: Any) -> None:
    assert said(drifts("openai-deployment-capacity", edits, **parameters)) == wanted


def test_a_model_without_a_version_is_a_persons() -> None:
    assert said(drifts("openai-deployment-version-upgrade", {f"{MODEL}.version": ABSENT})) == {f"{MODEL}.version": "undecided"}
    absent = {f"{CHAT}.properties.versionUpgradeOption": ABSENT}
    assert list(said(drifts("openai-deployment-version-upgrade", absent)).values()) == ["OnceCurrentVersionExpired"]


SPILL = f"{CHAT}.properties.spilloverDeploymentName"
POINTER = f"{BATCH}.properties.raiPolicyName"


@pytest.mark.parametrize(("edits", "parameters", "wanted"), [
    ({SPILL: "chat-batch"}, {}, {}),
    ({SPILL: "CHAT-batch", POINTER: "Microsoft.DefaultV2"}, {}, {SPILL: ABSENT}),
    ({SPILL: "chat-batch", POINTER: ABSENT}, {}, {SPILL: ABSENT}),          # absent: DefaultV2
    ({SPILL: "chat-batch", POINTER: "gone"}, {}, {SPILL: "undecided"}),
    ({SPILL: "nowhere"}, {}, {SPILL: "undecided"}),
    ({SPILL: "chat-batch", f"{BATCH}.sku.name": "GlobalStandard"}, {}, {SPILL: ABSENT}),
    ({SPILL: "chat-batch", f"{BATCH}.sku.name": "GlobalStandard", f"{CHAT}.sku.name": "GlobalStandard"}, {}, {}),
    ({f"{BATCH}.properties.spilloverDeploymentName": "chat-gpt", POINTER: "Microsoft.DefaultV2"}, {}, {}),   # to a stronger one
])
def test_overflow_may_go_where_it_is_as_safe(edits: Any, parameters: Any, wanted: Any) -> None:
    assert said(drifts("openai-deployment-spillover", edits, **parameters)) == wanted


LISTS = f"{STRICT}.customBlocklists"
PROMPT = f"{LISTS}[source='Prompt',blocklistName='project-names']"


@pytest.mark.parametrize(("edits", "parameters", "wanted"), [
    ({f"{PROMPT}.blocking": ABSENT}, {}, {f"{PROMPT}.blocking": True}),
    ({PROMPT: ABSENT}, {}, {PROMPT: {"source": "Prompt", "blocklistName": "project-names", "blocking": True}}),
    ({LISTS: ABSENT}, {}, {PROMPT: {"source": "Prompt", "blocklistName": "project-names", "blocking": True}}),
    ({}, {"required_blocklists": ("Project-Names",)},
     {f"{LISTS}[source='Completion',blocklistName='Project-Names']":
      {"source": "Completion", "blocklistName": "Project-Names", "blocking": True}}),
    ({}, {"required_blocklists": ("unheard-of",)}, {LISTS: "undecided"}),
    ({"+raiBlocklists": []}, {}, {LISTS: "undecided"}),
    ({f"{LISTS}[source='PreRun',blocklistName='more']": {"source": "PreRun", "blocklistName": "more", "blocking": True}}, {},
     {LISTS: "undecided"}),
])
def test_blocklists_stay_attached_and_exist(edits: Any, parameters: Any, wanted: Any) -> None:
    assert said(drifts("openai-rai-policy-blocklists", edits, **parameters)) == wanted


@pytest.mark.parametrize(("providers", "parameters", "count"), [
    ([], {}, 0), ([("a", True)], {}, 1), ([("a", False)], {"allowed_providers": ("A",)}, 0),
    ([], {"required_providers": ("a",)}, 1), ([("a", False)], {"required_providers": ("a",)}, 1),
    ([("A", True)], {"required_providers": ("a",)}, 0), ([("a", True), ("b", True)], {"required_providers": ("a",)}, 1),
])
def test_safety_providers_are_the_approved_ones(providers: list[tuple[str, bool]], parameters: Any, count: int) -> None:
    listed = [{"safetyProviderName": name, "source": "Prompt", "blocking": blocking} for name, blocking in providers]
    found = drifts("openai-rai-policy-safety-provider", {f"{STRICT}.safetyProviders": listed}, **parameters)
    assert [drift.decided for drift in found] == [False] * count


def test_a_policy_that_was_used_comes_back_as_it_was() -> None:
    repointed = CONTROLS["openai-rai-policy-unused-or-deleted"].drift
    (back,) = drifts("openai-rai-policy-unused-or-deleted", repointed)
    good = next(one for one in recorded.good(openai_policies.ACCOUNT).body["+raiPolicies"] if one["name"] == "strict")
    assert (back.path, back.wanted) == ("+raiPolicies[name='strict']", {"name": "strict", "properties": good["properties"]})
    assert drifts("openai-rai-policy-unused-or-deleted", repointed, good={}) == []
    (odd,) = drifts("openai-rai-policy-unused-or-deleted", repointed, good={}, required_policies=("strict",))
    assert not odd.decided


def test_a_policy_that_nothing_used_may_go() -> None:
    unused = {"+raiPolicies[name='spare']": {"name": "spare", "properties": {"mode": "Default"}}}
    good = recorded.laid(recorded.good(openai_policies.ACCOUNT).body, unused)
    known = {part: good[part] for part in ("+raiPolicies", "+deployments")}
    assert drifts("openai-rai-policy-unused-or-deleted", {}, good=known) == []


FILTER = "properties.contentFilters[name='Hate',source='Prompt']"
SUBSCRIPTION = "openai-subscription-rai-policy"


@pytest.mark.parametrize(("edits", "before", "wanted"), [
    ({f"{FILTER}.severityThreshold": "Low"}, "Medium", {}),
    ({f"{FILTER}.severityThreshold": "Medium"}, "Low", {f"{FILTER}.severityThreshold": "Low"}),
    ({f"{FILTER}.severityThreshold": "High"}, "Low", {f"{FILTER}.severityThreshold": "Low"}),
    ({f"{FILTER}.severityThreshold": "High"}, "Medium", {f"{FILTER}.severityThreshold": "Medium"}),
    ({"properties.contentFilters[name='Jailbreak',source='Prompt'].blocking": False}, "Medium",
     {"properties.contentFilters[name='Jailbreak',source='Prompt'].blocking": True}),
    ({"properties.mode": "Asynchronous_filter"}, "Medium", {"properties.mode": "Default"}),
    ({"properties.type": "SystemManaged", "properties.contentFilters": []}, "Medium", {}),
])
def test_the_subscriptions_policy_is_no_weaker_than_asked_nor_than_it_was(edits: Any, before: str, wanted: Any) -> None:
    known = recorded.laid(recorded.good(openai_policies.SUBSCRIPTION_POLICY).body, {f"{FILTER}.severityThreshold": before})
    assert said(drifts(SUBSCRIPTION, edits, {"": known})) == wanted


def test_a_deleted_policy_of_the_subscription_is_told_if_it_was_known() -> None:
    control, sample = CONTROLS[SUBSCRIPTION], recorded.good(openai_policies.SUBSCRIPTION_POLICY)
    for good, count in (({"": sample.body}, 1), ({}, 0)):
        gone = Document(sample.id, control.on, ABSENT, good)
        assert [one.decided for one in control.check(gone.node(), control.parameters)] == [False] * count
