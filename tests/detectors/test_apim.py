"""The AI gateway: what of a policy's text counts, which APIs lead to a model, and what is put back."""

from __future__ import annotations

from dataclasses import replace
from time import thread_time
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

import recorded
from detectors import apim
from guardrail import plans
from guardrail.documents import Document
from guardrail.paths import ABSENT
from guardrail.values import Control, Drift
from remediators import TYPES

LIMIT, SAFETY = apim.CONTROLS
ITEM = f"{apim.POLICIES}[name='policy']"
AT = f"{ITEM}.{apim.VALUE}"
GOOD = recorded.good(apim.API).body["+policies"][0]["properties"]["value"]
TOKENS = '<llm-token-limit counter-key="k" tokens-per-minute="20000" estimate-prompt-tokens="true" />'
IDENTITY = '<authentication-managed-identity resource="https://cognitiveservices.azure.com" />'


def policy(inbound: str = "", *, outbound: str = "") -> str:
    return (f"<policies><inbound><base />{inbound}</inbound><backend><base /></backend>"
            f"<outbound>{outbound}</outbound></policies>")


def document(edits: dict[str, Any], *, learnt: bool = True) -> Document:
    good = recorded.good(apim.API).document
    return replace(good, body=recorded.laid(good.body, edits), good=good.good if learnt else {})


def drifts(control: Control, edits: dict[str, Any], *, learnt: bool = True, **parameters: Any) -> list[Drift]:
    return list(control.check(document(edits, learnt=learnt).node(), {**control.parameters, **parameters}))


@pytest.mark.threat("E9")
@pytest.mark.parametrize("text", [
    policy(f"<!-- {TOKENS} -->"), policy(f"<set-body><![CDATA[{TOKENS}]]></set-body>"), policy(outbound=TOKENS),
    policy(f'<choose><when condition="@(false)">{TOKENS}</when></choose>'), policy(f"<inbound>{TOKENS}</inbound>"),
    *(policy(TOKENS.replace("20000", limit)) for limit in ("20000000", "0", "{{limit}}", "-5", "²")),
    policy(TOKENS.replace("tokens-per-minute", "token-quota")),
    policy(TOKENS.replace("llm", "my")), policy(TOKENS.upper()), policy(TOKENS)[:-3], "", "<policies/>",
    "<!DOCTYPE policies [<!ENTITY x 'y'>]>" + policy(TOKENS), policy(TOKENS) * 2])
def test_a_limit_that_does_not_hold_is_put_back(text: str) -> None:
    assert drifts(LIMIT, {AT: text}) == [Drift(AT, text, GOOD)]
    assert [drift.decided for drift in drifts(LIMIT, {AT: text}, learnt=False)] == [False]


@pytest.mark.parametrize("text", [
    policy(TOKENS), policy(TOKENS.replace("llm", "azure-openai")), policy(TOKENS.replace("20000", "50000")),
    policy(TOKENS.replace('"k"', '"@(context.Subscription.Id)"')), "<?xml version='1.0' encoding='utf-16'?>" + policy(TOKENS),
    policy(TOKENS.replace("20000", "20000000") + TOKENS)])
def test_a_limit_that_holds_is_silent_whatever_stands_beside_it(text: str) -> None:
    assert drifts(LIMIT, {AT: text}) == []


def test_a_deleted_policy_is_put_back_whole() -> None:
    (drift,) = drifts(LIMIT, {ITEM: ABSENT})
    assert (drift.path, drift.wanted) == (ITEM, {"name": "policy", "properties": {"value": GOOD}})
    (drift,) = drifts(LIMIT, {ITEM: ABSENT}, learnt=False)
    assert not drift.decided


def test_both_controls_want_the_same_text() -> None:
    api = next(type for type in TYPES if type.name == apim.API)
    found = [*drifts(LIMIT, {AT: policy()}), *drifts(SAFETY, {AT: policy()})]
    edits, refused = plans.edits(api, found)
    assert [edit.after for edit in edits] == [GOOD] and not refused


KEY = '<set-header name="api-key" exists-action="override"><value>0a1b2c3d4e</value></set-header>'


@pytest.mark.parametrize("key", [KEY, KEY.replace("api-key", "API-Key"), KEY.replace("api-key", "Authorization")])
def test_a_key_in_the_text_is_found_and_gets_into_no_plan(key: str) -> None:
    for text in (policy(IDENTITY + TOKENS + key), policy(IDENTITY + TOKENS, outbound=key)):
        (drift,) = drifts(SAFETY, {AT: text})
        assert not drift.decided and "0a1b2c3d4e" not in repr(drift)
    (drift,) = drifts(LIMIT, {AT: policy(key)})
    assert not drift.decided and "0a1b2c3d4e" not in repr(drift)


@pytest.mark.parametrize("value", ["{{aoai-key}}", '@(context.Variables.GetValueOrDefault("k"))', "@{return 1;}", " "])
def test_a_named_value_or_an_expression_is_no_key(value: str) -> None:
    assert drifts(SAFETY, {AT: policy(IDENTITY + TOKENS + KEY.replace("0a1b2c3d4e", value))}) == []


def test_more_elements_may_be_required() -> None:
    wanted = ("authentication-managed-identity", "llm-content-safety")
    assert drifts(SAFETY, {}, required_elements=wanted)
    safe = policy(IDENTITY + '<llm-content-safety backend-id="cs"><text-blocklists /></llm-content-safety>')
    assert drifts(SAFETY, {AT: safe}, required_elements=wanted) == []


PLAIN = {AT: policy(), "properties.serviceUrl": "https://orders.example.com"}


@pytest.mark.parametrize("url", [
    "https://orders.example.com", "https://orders.example.com/openai.azure.com", "https://x.openai.azure.com.attacker.net",
    "https://xopenai.azure.com", "ftp://x.openai.azure.com", ABSENT])
def test_an_api_that_leads_to_no_model_is_left_alone(url: Any) -> None:
    assert drifts(LIMIT, {**PLAIN, "properties.serviceUrl": url}, learnt=False) == []


@pytest.mark.parametrize("url", [
    "https://x.openai.azure.com/openai", "HTTPS://X.OpenAI.Azure.com", "http://x.cognitiveservices.azure.com:8080/",
    "https://u@x.openai.azure.com", "https://x.services.ai.azure.com./models"])
def test_an_api_that_leads_to_a_model_is_judged(url: str) -> None:
    assert drifts(LIMIT, {**PLAIN, "properties.serviceUrl": url}, learnt=False)


def test_backends_lead_to_models_too() -> None:
    inner = '<set-backend-service base-url="https://x.openai.azure.com" />'
    by_url = policy(f'<choose><when condition="@(true)">{inner}</when></choose>')
    by_name = policy('<set-backend-service backend-id="Models" />')
    assert drifts(LIMIT, {**PLAIN, AT: by_url}, learnt=False)
    assert drifts(LIMIT, {**PLAIN, AT: by_name}, learnt=False, ai_backends=("models",))
    assert not drifts(LIMIT, {**PLAIN, AT: by_name}, learnt=False)


def test_moving_the_backend_does_not_shake_the_control_off() -> None:
    assert drifts(LIMIT, PLAIN) == [Drift(AT, policy(), GOOD)]


def test_what_stands_above_counts_only_where_a_parameter_says_so() -> None:
    assert drifts(LIMIT, {AT: policy()}) and not drifts(LIMIT, {AT: policy()}, base_is_enough=True)
    assert drifts(LIMIT, {AT: policy().replace("<base />", "")}, base_is_enough=True)
    assert drifts(SAFETY, {AT: policy(KEY)}, base_is_enough=True)


@pytest.mark.threat("E8")
@pytest.mark.parametrize("text", [
    policy("<a>" * 40_000), policy("<x/>" * 60_000), "<!--" + "-" * 250_000, policy(KEY * 2_500), "x" * 5_000_000,
    policy("<value>" + "a&#98;" * 40_000 + "</value>")], ids=["deep", "wide", "comment", "keys", "long", "pieces"])
def test_the_worst_text_is_read_in_time(text: str) -> None:
    apim.policy_of.cache_clear()
    began = thread_time()
    drifts(LIMIT, {AT: text})
    assert thread_time() - began < 2.0      # ten times the goal: a loaded machine must not make it red


@settings(max_examples=150, deadline=None)
@given(st.text() | st.sampled_from(["\ud800", "<policies>\ud800</policies>", "<policies>\0</policies>"]) | st.integers()
       | st.lists(st.text()))
def test_any_value_is_answered_and_never_compliant(value: Any) -> None:
    findings = plans.judge([LIMIT], document({AT: value}), lambda one: one.parameters)
    assert findings and not [one for one in findings if "check failed" in one.why]


@pytest.mark.threat("E7")
@pytest.mark.parametrize(("name", "weak"), [
    ("max_tokens_per_minute", 10**9), ("max_tokens_per_minute", True), ("required_policy_names", []),
    ("required_policy_names", ["base"]),
    ("ai_host_suffixes", []), ("ai_host_suffixes", ["openai.azure.com"]), ("ai_backends", ["*"]), ("base_is_enough", 1)])
def test_a_weak_parameter_is_refused(name: str, weak: Any) -> None:
    assert LIMIT.floors[name](weak)
    assert not LIMIT.floors[name](LIMIT.parameters[name])


@pytest.mark.parametrize("weak", [[], ["*"], "base", ["<base/>"]])
def test_required_elements_cannot_be_emptied(weak: Any) -> None:
    assert SAFETY.floors["required_elements"](weak)
