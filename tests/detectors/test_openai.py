"""Content-filter policies and the deployments that use them: what the common table of controls cannot know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

import recorded
from detectors import openai
from guardrail import plans, proof
from guardrail.documents import Document
from guardrail.paths import ABSENT, get, parse
from guardrail.values import Drift
from remediators.cognitive import TYPES
from tests.detectors.worst import drifts_in_time

CONTROLS = {control.id: control for control in openai.CONTROLS}
POLICY_CONTROLS = [control for control in openai.CONTROLS if control.id.startswith("openai-rai-policy-")]
DEPLOYMENT = "openai-deployment-rai-policy"
STRICT = "+raiPolicies[name='strict']"
FILTERS = f"{STRICT}.properties.contentFilters"
POINTER = "+deployments[name='chat-gpt'].properties.raiPolicyName"
GOOD = recorded.good(openai.ACCOUNT)
(ACCOUNT,) = TYPES


def laid(edits: Mapping[str, Any], known: bool = True) -> Document:
    """The good account with `edits`; `known`: it was seen as the good account is."""
    document = recorded.Sample(GOOD.id, GOOD.api_version, recorded.laid(GOOD.body, edits)).document
    return document if known else Document(document.id, document.type, document.body, parts=document.parts)


def drifts(id: str, document: Document, parameters: Mapping[str, Any] | None = None) -> dict[str, Drift]:
    control = CONTROLS[id]
    return {drift.path: drift for drift in control.check(document.node(), {**control.parameters, **(parameters or {})})}


def item(name: str, source: str = "Prompt", **fields: Any) -> dict[str, Any]:
    return {"name": name, "source": source, "enabled": True, "blocking": True, **fields}


def policy(name: str, *items: dict[str, Any], kind: str = "UserManaged") -> dict[str, Any]:
    return {"name": name, "properties": {"type": kind, "mode": "Default", "contentFilters": list(items)}}


HATE = f"{FILTERS}[name='Hate',source='Prompt']"


@pytest.mark.parametrize(("place", "value", "wanted"), [
    ("severityThreshold", "High", "Medium"), ("severityThreshold", "Low", None), ("severityThreshold", "medium", None),
    ("severityThreshold", ABSENT, "Medium"), ("enabled", False, True), ("enabled", ABSENT, True),
    ("blocking", False, True), ("blocking", ABSENT, True),
    ("action", "ANNOTATING", "BLOCKING"), ("action", "BLOCKING", None), ("action", "None", None),
])
def test_each_part_of_a_filter_can_weaken_it(place: str, value: Any, wanted: Any) -> None:
    found = drifts("openai-rai-policy-hate", laid({f"{HATE}.{place}": value}))
    assert {path: drift.wanted for path, drift in found.items()} == ({f"{HATE}.{place}": wanted} if wanted else {})
    assert all(drift.decided for drift in found.values())


@pytest.mark.threat("E9")
@pytest.mark.parametrize(("place", "value"), [
    ("severityThreshold", "Lowest"), ("severityThreshold", "Low "), ("enabled", "true"), ("enabled", 1),
    ("blocking", "true"), ("action", "HITL"), ("action", "RETRY"),
])
def test_a_value_that_we_do_not_know_is_neither_good_nor_written_over(place: str, value: Any) -> None:
    found = drifts("openai-rai-policy-hate", laid({f"{HATE}.{place}": value}))
    assert [drift.decided for drift in found.values()] == [False]


def test_a_stricter_bound_is_taken_from_the_policy() -> None:
    found = drifts("openai-rai-policy-hate", laid({}), {"max_threshold": "Low"})
    assert sorted(drift.wanted for drift in found.values()) == ["Low", "Low"]


@pytest.mark.parametrize("spelled", ["Selfharm", "SelfHarm", "Self-Harm", "self harm", "SELF_HARM"])
def test_self_harm_is_one_filter_however_it_is_spelled(spelled: str) -> None:
    edits = {f"{FILTERS}[name='Selfharm',source='{source}']": ABSENT for source in ("Prompt", "Completion")}
    items = {f"{FILTERS}[name='{spelled}',source='{source}']": item(spelled, source, severityThreshold="Medium")
             for source in ("Prompt", "Completion")}
    assert drifts("openai-rai-policy-selfharm", laid({**edits, **items})) == {}
    assert len(drifts("openai-rai-policy-selfharm", laid(edits))) == 2


@pytest.mark.threat("E9")
def test_a_second_filter_for_the_same_content_hides_nothing() -> None:
    good = get(GOOD.body, parse(FILTERS))
    weak = item("Jailbreak", blocking=False)
    for doubled in ([*good, weak], [weak, *good], [*good, item("Jail-break", blocking=False)]):
        found = drifts("openai-rai-policy-jailbreak", laid({FILTERS: doubled}))
        assert [drift.wanted for drift in found.values()] == [True]
    look_alike = item("J\u0430ilbreak")        # a Cyrillic letter
    others = [one for one in good if one["name"] != "Jailbreak"]
    found = drifts("openai-rai-policy-jailbreak", laid({FILTERS: [*others, look_alike]}))
    assert [drift.wanted["name"] for drift in found.values()] == ["Jailbreak"]


@pytest.mark.threat("E8")
def test_ten_thousand_filters_are_judged_in_a_fifth_of_a_second() -> None:
    document = laid({FILTERS: [item("Hate", enabled=False, blocking=False) for _ in range(10_000)]})
    control = CONTROLS["openai-rai-policy-hate"]
    (drift,) = drifts_in_time(lambda: control.check(document.node(), control.parameters), document, FILTERS)
    assert not drift.decided


def test_a_filter_that_is_not_there_is_added_whole() -> None:
    found = drifts("openai-rai-policy-violence", laid({f"{FILTERS}[name='Violence',source='Completion']": ABSENT}))
    (drift,) = found.values()
    assert drift.wanted == item("Violence", "Completion", severityThreshold="Medium")
    without = laid({f"{FILTERS}[name='Jailbreak',source='Prompt']": ABSENT})
    (shield,) = drifts("openai-rai-policy-jailbreak", without).values()
    assert shield.wanted == item("Jailbreak")


def test_the_services_own_policies_are_not_judged_as_if_people_could_write_them() -> None:
    opened: dict[str, Any] = {"+raiPolicies[name='Microsoft.DefaultV2'].properties.contentFilters": []}
    assert [control.id for control in POLICY_CONTROLS if drifts(control.id, laid(opened))] == []
    written = {**opened, "+raiPolicies[name='Microsoft.DefaultV2'].properties.type": "UserManaged"}
    silent = [control.id for control in POLICY_CONTROLS if not drifts(control.id, laid(written))]
    assert silent == ["openai-rai-policy-mode"]


def test_code_may_be_annotated_where_text_must_be_blocked() -> None:
    code = f"{FILTERS}[name='Protected Material Code',source='Completion']"
    assert drifts("openai-rai-policy-protected-material", laid({})) == {}
    assert list(drifts("openai-rai-policy-protected-material", laid({}), {"annotate_only": ()})) == [f"{code}.blocking"]
    assert list(drifts("openai-rai-policy-protected-material", laid({f"{code}.enabled": False}))) == [f"{code}.enabled"]
    (added,) = drifts("openai-rai-policy-protected-material", laid({code: ABSENT})).values()
    assert added.wanted == item("Protected Material Code", "Completion", blocking=False)


def test_tool_calls_and_spotlighting_are_asked_for_by_parameters() -> None:
    asked = {"sources": ("Prompt", "PostToolCall"), "require_spotlighting": True}
    found = drifts("openai-rai-policy-indirect-attack", laid({}), asked)
    assert sorted((drift.wanted["name"], drift.wanted["source"]) for drift in found.values()) == [
        ("Indirect Attack", "PostToolCall"), ("Indirect Attack Spotlighting", "Prompt")]


@pytest.mark.parametrize(("mode", "wanted"), [
    ("Deferred", "Default"), ("asynchronous_filter", "Default"), ("Blocking", None), (ABSENT, None)])
def test_text_is_shown_after_the_verdict(mode: Any, wanted: Any) -> None:
    document = laid({f"{STRICT}.properties.mode": mode})
    found = drifts("openai-rai-policy-mode", document).values()
    assert [drift.wanted for drift in found] == ([wanted] if wanted else [])
    assert drifts("openai-rai-policy-mode", document, {"allow_async": True}) == {}


def test_all_weak_filters_of_a_policy_make_one_put_that_keeps_the_rest() -> None:
    """Controls share the list; blocklists and what we do not know of go back as they were read."""
    weak = [{**one, "enabled": False, "blocking": False} for one in get(GOOD.body, parse(FILTERS))]
    document = laid({FILTERS: [*weak, item("Profanity", blocking=False)],
                     f"{STRICT}.properties.notYetKnown": {"kept": 1}, f"{STRICT}.tags": {"a": "b"}})
    found = plans.judge(POLICY_CONTROLS, document, lambda control: control.parameters)
    edits, refused = plans.edits(ACCOUNT, [finding.drift for finding in found if finding.drift])
    (step,) = plans.steps(ACCOUNT, document, edits)
    assert refused == []
    assert (step.request.method, step.request.url.rsplit("/", 1)[1]) == ("PUT", "strict")
    sent = step.request.body
    assert set(sent) == {"properties", "tags"}
    assert sent["properties"]["customBlocklists"] == get(GOOD.body, parse(f"{STRICT}.properties.customBlocklists"))
    assert sent["properties"]["basePolicyName"] == "Microsoft.DefaultV2"
    assert sent["properties"]["notYetKnown"] == {"kept": 1}
    assert sent["properties"]["contentFilters"][-1] == item("Profanity", blocking=False)
    assert not plans.judge(POLICY_CONTROLS, proof.predict(document, [step]), lambda control: control.parameters)
    assert not step.route.round_trip and step.overwrites       # hole 10: asks until one was seen to lose nothing


# Where a deployment points: (policies that stand beside, pointer now, what was known) -> wanted
LAX = policy("lax", *[item(name, source, severityThreshold="High") for name in openai.HARMS for source in openai.BOTH])
OTHER = {**GOOD.body["+raiPolicies"][1], "name": "other"}
STRICTER = policy("stricter", *[{**one, "severityThreshold": "Low", "blocking": True}
                                for one in get(GOOD.body, parse(FILTERS))])
BESIDE = {f"+raiPolicies[name='{one['name']}']": one for one in (LAX, OTHER, STRICTER)}


@pytest.mark.parametrize(("pointer", "known", "wanted"), [
    ("strict", True, None), ("STRICT", True, None), ("Microsoft.DefaultV2", True, None), (ABSENT, True, None),
    ("Microsoft.Default", True, "strict"), ("Microsoft.Default", False, "Microsoft.DefaultV2"),
    ("nowhere", True, "strict"), ("nowhere", False, "Microsoft.DefaultV2"), ("strict ", True, "strict"),
    ("lax", True, "strict"), ("lax", False, None),          # never seen elsewhere: its own filters' controls speak
    ("other", True, None), ("stricter", True, None),
])
def test_a_deployment_may_move_sideways_and_up_but_not_down(pointer: Any, known: bool, wanted: str | None) -> None:
    document = laid({POINTER: pointer, **BESIDE}, known)
    found = drifts(DEPLOYMENT, document)
    assert {path: drift.wanted for path, drift in found.items()} == ({POINTER: wanted} if wanted else {})
    assert all(drift.decided for drift in found.values())


def test_a_policy_weakened_in_place_is_its_own_drift_and_not_the_pointers() -> None:
    for known in (True, False):
        document = laid({f"{FILTERS}[name='Jailbreak',source='Prompt'].blocking": False}, known)
        assert drifts(DEPLOYMENT, document) == {}
        assert drifts("openai-rai-policy-jailbreak", document)


@pytest.mark.threat("A11")
def test_weakening_the_old_policy_first_does_not_make_the_new_one_strong() -> None:
    """The measure is the old policy as it was known good, not as the attacker left it."""
    document = laid({POINTER: "lax", "+raiPolicies[name='lax']": LAX, FILTERS: []})
    assert [drift.wanted for drift in drifts(DEPLOYMENT, document).values()] == ["strict"]


def test_a_policy_that_was_deleted_is_not_wanted_back_by_a_deployment() -> None:
    document = laid({POINTER: "lax", "+raiPolicies[name='lax']": LAX, STRICT: ABSENT})
    assert {drift.wanted for drift in drifts(DEPLOYMENT, document).values()} == {"Microsoft.DefaultV2"}
    (one, other) = drifts(DEPLOYMENT, document, {"required_policy": "house", "approved_policies": ["house"]}).values()
    assert not one.decided and not other.decided        # chat-batch still names what is gone


def test_an_own_standard_can_be_required_and_named() -> None:
    parameters = {"required_policy": "other", "approved_policies": ["other"], "require_explicit": True}
    document = laid({POINTER: ABSENT, "+raiPolicies[name='other']": OTHER}, known=False)
    assert [drift.wanted for drift in drifts(DEPLOYMENT, document, parameters).values()] == ["other"]


def test_a_system_policy_passes_by_what_it_blocks() -> None:
    full = policy("Microsoft.New", *get(GOOD.body, parse(FILTERS)), kind="SystemManaged")
    place = "+raiPolicies[name='Microsoft.New']"
    assert drifts(DEPLOYMENT, laid({POINTER: "Microsoft.New", place: full})) == {}
    without = policy("Microsoft.New", *get(GOOD.body, parse(FILTERS))[:-3], kind="SystemManaged")
    (drift,) = drifts(DEPLOYMENT, laid({POINTER: "Microsoft.New", place: without})).values()
    assert drift.wanted == "strict"


@pytest.mark.threat("A16")
@pytest.mark.parametrize("odd", [ABSENT, "text", [7], [{"properties": {}}]])
def test_policies_that_cannot_be_read_move_no_pointer(odd: Any) -> None:
    """A 403 on raiPolicies must not re-point every deployment to the required policy."""
    document = laid({"+raiPolicies": odd, POINTER: "strict"})
    if odd is ABSENT:
        document = replace(document, unreadable={"+raiPolicies": "403"})
    found = plans.judge([CONTROLS[DEPLOYMENT]], document, lambda control: control.parameters)
    assert [finding.state for finding in found] == ["unreadable"]


def test_a_deployments_put_carries_its_model_and_names_its_policy() -> None:
    spillover = "+deployments[name='chat-gpt'].properties.spilloverDeploymentName"
    document = laid({POINTER: "Microsoft.Default", spillover: "chat-batch"})
    edits, _ = plans.edits(ACCOUNT, drifts(DEPLOYMENT, document).values())
    (step,) = plans.steps(ACCOUNT, document, edits)
    sent = step.request.body["properties"]
    assert sent["raiPolicyName"] == "strict"
    assert sent["spilloverDeploymentName"] == "chat-batch"
    assert sent["model"] == {"format": "OpenAI", "name": "gpt-4o-mini", "version": "2024-07-18"}
    assert step.request.body["sku"] == {"name": "Standard", "capacity": 10}
    assert "rateLimits" not in sent


names = st.sampled_from(["Hate", "hate", "Sexual", "Violence", "Selfharm", "Self-Harm", "Jailbreak", "Indirect Attack",
                         "Protected Material Text", "Profanity", "а"])
wild_filters = st.lists(st.builds(
    lambda name, source, fields: {"name": name, "source": source, **fields},
    names, st.sampled_from(["Prompt", "completion", "PreRun"]), st.dictionaries(
        st.sampled_from(["enabled", "blocking", "severityThreshold", "action"]),
        st.sampled_from([True, False, None, "High", "Low", "ANNOTATING", "BLOCKING"]))), max_size=12)


@settings(max_examples=40)
@given(wild_filters)
def test_whatever_stands_in_a_policy_one_put_leaves_only_what_a_person_decides(items: list[Any]) -> None:
    document = laid({FILTERS: items})
    found = plans.judge(POLICY_CONTROLS, document, lambda control: control.parameters)
    assert all(finding.drift for finding in found)
    edits, refused = plans.edits(ACCOUNT, [finding.drift for finding in found if finding.drift])
    assert not any(drift.decided for drift, _ in refused)
    steps = plans.steps(ACCOUNT, document, edits)
    proof.prove(document, steps, POLICY_CONTROLS, lambda control: control.parameters)
    assert len(steps) <= 1
    fixed = proof.predict(document, steps)
    left = plans.judge(POLICY_CONTROLS, fixed, lambda control: control.parameters)
    assert not any(finding.drift is None or finding.drift.decided for finding in left)
    before, now = (openai.strength(next(iter(openai.custom_policies(one.node())))) for one in (document, fixed))
    assert openai.at_least_as_strong(now, before)


KEYS = [("hate", "prompt"), ("hate", "completion"), ("jailbreak", "prompt")]
strengths = st.dictionaries(st.sampled_from(KEYS), st.integers(0, 3))


@given(strengths, strengths, strengths)
def test_strength_is_a_partial_order(one: Any, other: Any, third: Any) -> None:
    stronger = openai.at_least_as_strong
    assert stronger(one, one)
    assert not (stronger(one, other) and stronger(other, third)) or stronger(one, third)
    if stronger(one, other) and stronger(other, one):
        assert all(one.get(key, 0) == other.get(key, 0) for key in KEYS)
    weaker = {key: max(0, rank - 1) for key, rank in one.items()}
    assert stronger(one, weaker)
    assert stronger(weaker, one) == (not any(one.values()))


@pytest.mark.threat("E9")
@pytest.mark.parametrize("weak", [
    item("Jailbreak", blocking=False), item("jail-break", enabled="true"), item("Jailbreak", action="ANNOTATING"),
    item("Jailbreak", severityThreshold="Lowest")])
def test_the_weaker_of_two_filters_for_the_same_content_counts(weak: dict[str, Any]) -> None:
    for items in ([item("Jailbreak"), weak], [weak, item("Jailbreak")]):
        document = laid({"+raiPolicies": [policy("one", *items)]})
        (node,) = openai.custom_policies(document.node())
        assert openai.strength(node) == {("jailbreak", "prompt"): 0}


def test_two_policies_each_stronger_somewhere_are_not_comparable() -> None:
    one, other = {KEYS[0]: 3, KEYS[1]: 1}, {KEYS[0]: 1, KEYS[1]: 3}
    assert not openai.at_least_as_strong(one, other) and not openai.at_least_as_strong(other, one)


@pytest.mark.threat("E7")
@pytest.mark.parametrize(("id", "parameter", "value", "sound"), [
    ("openai-rai-policy-hate", "max_threshold", "High", False),
    ("openai-rai-policy-hate", "max_threshold", "Low", True),
    ("openai-rai-policy-indirect-attack", "sources", ["PostToolCall"], False),
    ("openai-rai-policy-indirect-attack", "sources", ["Prompt", "PostToolCall"], True),
    ("openai-rai-policy-indirect-attack", "sources", ["*"], False),
    ("openai-rai-policy-protected-material", "annotate_only", ["protectedmaterialtext"], False),
    ("openai-rai-policy-protected-material", "annotate_only", [], True),
    ("openai-rai-policy-mode", "allow_async", "no", False),
    (DEPLOYMENT, "approved_policies", ["*"], False), (DEPLOYMENT, "approved_policies", ["house-policy"], True),
    (DEPLOYMENT, "approved_policies", "Microsoft.DefaultV2", False), (DEPLOYMENT, "required_policy", "", False),
    (DEPLOYMENT, "max_threshold", "High", False),
])
def test_a_parameter_below_its_floor_is_refused(id: str, parameter: str, value: Any, sound: bool) -> None:
    assert (CONTROLS[id].floors[parameter](value) == "") == sound


def test_every_parameter_has_a_floor_that_its_default_passes() -> None:
    for control in openai.CONTROLS:
        assert set(control.floors) == set(control.parameters)
        assert [value for name, value in control.parameters.items() if control.floors[name](value)] == []
