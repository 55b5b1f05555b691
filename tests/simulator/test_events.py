"""Events have the fields and types of the documented and recorded ones and reach every kind of sink.

event_shapes.json: field paths and JSON types of seven published or recorded events, without their values.
"""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from simulator import Simulator
from tests.simulator.calls import ACCOUNT, GROUP, NSG, OPEN, SECURED, SUBSCRIPTION, call
from tests.simulator.hook import Hook

SHAPES = json.loads(Path(__file__).with_name("event_shapes.json").read_text())
Event = dict[str, Any]


def shape(value: Any, at: str = "") -> dict[str, str]:
    """Field path → JSON type; the claims' own keys are compared apart."""
    if not isinstance(value, dict):
        return {at: {str: "string", list: "array", bool: "boolean", type(None): "null"}.get(type(value), "number")}
    found = {at: "object"} if at else {}
    for key, inner in value.items() if at != "data.claims" else ():
        found |= shape(inner, f"{at}.{key}" if at else key)
    return found


def documented(kind: str) -> dict[str, str]:
    """The published shape; only the action's sample spells out what `evidence` holds for a role assignment."""
    evidence = {
        path: type for path, type in SHAPES["shapes"]["action"].items() if path.startswith("data.authorization.evidence.")
    }
    return {**SHAPES["shapes"][kind], **evidence}


def create(sim: Simulator) -> None:
    call(sim, "PUT", ACCOUNT.replace("aidata", "newdata"), SECURED)


def update(sim: Simulator) -> None:
    call(sim, "PATCH", ACCOUNT, OPEN)


def delete(sim: Simulator) -> None:
    call(sim, "DELETE", ACCOUNT)


def act(sim: Simulator) -> None:
    call(sim, "POST", f"{ACCOUNT}/listKeys")


class TestShape:
    @pytest.mark.parametrize(
        ("do", "kind", "type", "operation"),
        [
            (create, "write", "ResourceWriteSuccess", "Microsoft.Storage/storageAccounts/write"),
            (update, "action", "ResourceWriteSuccess", "Microsoft.Storage/storageAccounts/write"),
            (delete, "delete", "ResourceDeleteSuccess", "Microsoft.Storage/storageAccounts/delete"),
            (act, "action", "ResourceActionSuccess", "Microsoft.Storage/storageAccounts/listKeys/action"),
        ],
    )
    def test_is_that_of_the_published_events(
        self, sim: Simulator, got: list[Event], do: Callable[[Simulator], None], kind: str, type: str, operation: str
    ) -> None:
        do(sim)
        assert sim.events.drain()
        [event] = got
        assert shape(event) == documented(kind)
        assert event["eventType"] == f"Microsoft.Resources.{type}"
        assert event["data"]["operationName"] == event["data"]["authorization"]["action"] == operation
        assert (event["dataVersion"], event["metadataVersion"], event["topic"]) == ("2", "1", SUBSCRIPTION)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{7}Z", event["eventTime"])

    def test_holds_every_field_of_the_recorded_event(self, sim: Simulator, got: list[Event]) -> None:
        """The recorded one spells Scope, Action and Evidence with capitals, and its httpRequest is empty."""
        update(sim)
        sim.events.drain()
        ours = {path.lower(): kind for path, kind in shape(got[0]).items()}
        recorded = {path.lower(): kind for path, kind in SHAPES["shapes"]["recorded"].items()}
        assert recorded.items() <= ours.items()

    @pytest.mark.parametrize("kind", ["write", "delete", "action"])
    def test_cloud_events_too(self, sim: Simulator, kind: str) -> None:
        received: list[Event] = []
        sim.events.to(received.extend, schema="CloudEventSchemaV1_0", scope=GROUP)
        {"write": create, "delete": delete, "action": act}[kind](sim)
        sim.events.drain()
        [event] = received
        assert shape(event) == documented(f"{kind}_cloud")
        assert (event["specversion"], event["source"]) == ("1.0", GROUP)

    @pytest.mark.parametrize(
        ("actor", "is_person"),
        [("ml-engineer", True), ("oncall", True), ("deploy-pipeline", False), ("guardrail", False)],
    )
    def test_claims_are_texts_under_known_names_and_apps_have_no_upn(
        self, sim: Simulator, got: list[Event], actor: str, is_person: bool
    ) -> None:
        call(sim, "PATCH", ACCOUNT, OPEN, as_=actor)
        sim.events.drain()
        claims = got[0]["data"]["claims"]
        assert set(claims) <= set(SHAPES["claims"])
        assert {type(value) for value in claims.values()} == {str}
        assert any(name.endswith("/upn") for name in claims) == is_person
        assert claims["name"] == actor
        assert got[0]["data"]["authorization"]["evidence"]["principalType"] == ("User" if is_person else "ServicePrincipal")

    def test_the_callers_ids_come_back(self, sim: Simulator, got: list[Event]) -> None:
        headers = {"x-ms-client-request-id": "request-7", "x-ms-correlation-request-id": "deployment-7"}
        answer = call(sim, "PATCH", ACCOUNT, OPEN, headers=headers)
        sim.events.drain()
        data = got[0]["data"]
        assert data["httpRequest"]["clientRequestId"] == "request-7"
        assert data["correlationId"] == answer.headers["x-ms-correlation-request-id"] == "deployment-7"


class TestWhatRaisesOne:
    def test_reads_changes_behind_our_back_and_refused_sign_ins_do_not(self, sim: Simulator) -> None:
        call(sim, "GET", ACCOUNT)
        call(sim, "PATCH", ACCOUNT, OPEN, token="")
        call(sim, "DELETE", f"{GROUP}/providers/Microsoft.Storage/storageAccounts/never")
        assert call(sim, "PUT", ACCOUNT.replace("/ai/", "/nowhere/"), SECURED).status == 404
        sim.mutate(ACCOUNT, lambda body: body.update(tags={}))
        sim.seed(NSG, {"location": "eastus"})
        assert not sim.events.record

    def test_a_refused_write_is_a_failure(self, sim: Simulator) -> None:
        sim.faults.lock(ACCOUNT, "ReadOnly")
        update(sim)
        [event] = sim.events.record
        assert (event["eventType"], event["data"]["status"]) == ("Microsoft.Resources.ResourceWriteFailure", "Failed")
        assert event["subject"] == ACCOUNT

    @pytest.mark.parametrize(
        ("method", "path", "body", "subject", "operation"),
        [
            (
                "PUT",
                f"{SUBSCRIPTION}/resourcegroups/ml",
                {"location": "eastus"},
                f"{SUBSCRIPTION}/resourceGroups/ml",
                "Microsoft.Resources/subscriptions/resourceGroups/write",
            ),
            (
                "PATCH",
                f"{ACCOUNT}/providers/Microsoft.Resources/tags/default",
                {"operation": "Merge", "properties": {"tags": {"a": "b"}}},
                ACCOUNT,
                "Microsoft.Resources/tags/write",
            ),
            (
                "PATCH",
                f"{GROUP}/providers/Microsoft.Resources/tags/default",
                {"operation": "Merge", "properties": {"tags": {"a": "b"}}},
                GROUP,
                "Microsoft.Resources/tags/write",
            ),
            (
                "PUT",
                f"{ACCOUNT}/providers/Microsoft.Insights/diagnosticSettings/d",
                {"properties": {"workspaceId": "/w", "logs": []}},
                f"{ACCOUNT}/providers/Microsoft.Insights/diagnosticSettings/d",
                "Microsoft.Insights/diagnosticSettings/write",
            ),
            (
                "PUT",
                f"{NSG}/securityRules/ssh",
                {"properties": {"priority": 100, "direction": "Inbound", "access": "Allow", "protocol": "Tcp"}},
                f"{NSG}/securityRules/ssh",
                "Microsoft.Network/networkSecurityGroups/securityRules/write",
            ),
        ],
    )
    def test_it_names_the_resource_of_the_request(
        self, sim: Simulator, method: str, path: str, body: Any, subject: str, operation: str
    ) -> None:
        sim.seed(NSG, {"location": "eastus", "properties": {}})
        assert call(sim, method, path, body, version="2025-03-01").status < 300
        event = sim.events.record[-1]
        assert (event["subject"], event["data"]["operationName"]) == (subject, operation)


class TestSinks:
    def test_a_web_hook_gets_one_array_a_post(self, sim: Simulator, hook: Hook) -> None:
        sim.events.to(f"{hook.url}/runtime/webhooks/EventGrid?functionName=on_resource_change")
        update(sim)
        delete(sim)
        assert sim.events.drain()
        [first, second] = hook.posts
        assert first[0]["aeg-event-type"] == "Notification" and first[0]["content-type"].startswith("application/json")
        assert first[2].endswith("functionName=on_resource_change")
        assert [json.loads(body)[0]["eventType"][-18:] for _, body, _ in (first, second)] == [
            "sourceWriteSuccess",
            "ourceDeleteSuccess",
        ]

    def test_cloud_events_are_posted_one_by_one(self, sim: Simulator, hook: Hook) -> None:
        sim.events.to(hook.url, schema="CloudEventSchemaV1_0")
        update(sim)
        sim.events.drain()
        [(headers, body, _)] = hook.posts
        assert headers["content-type"].startswith("application/cloudevents+json")
        assert json.loads(body)["specversion"] == "1.0"

    def test_a_failing_hook_is_tried_again_and_order_is_kept(self, sim: Simulator, hook: Hook) -> None:
        hook.answers += [503, 500]
        sim.events.to(hook.url)
        update(sim)
        delete(sim)
        assert sim.events.drain()
        kinds = [json.loads(body)[0]["data"]["httpRequest"]["method"] for _, body, _ in hook.posts]
        assert kinds == ["PATCH", "PATCH", "PATCH", "DELETE"]
        assert not sim.events.dead

    def test_400_is_not_tried_again(self, sim: Simulator, hook: Hook) -> None:
        hook.answers += [400]
        sim.events.to(hook.url)
        update(sim)
        assert sim.events.drain()
        assert len(hook.posts) == 1
        [(event, why)] = sim.events.dead
        assert (event["subject"], why) == (ACCOUNT, "400")

    def test_a_storage_queue_gets_one_base64_event_a_message(self, sim: Simulator, hook: Hook) -> None:
        hook.answers += [201]
        sim.events.to(f"{hook.url}/devstoreaccount1/changes/messages?sv=2021&sig=x")
        update(sim)
        assert sim.events.drain()
        [(_, body, path)] = hook.posts
        assert path == "/devstoreaccount1/changes/messages?sv=2021&sig=x"
        text = re.search(r"<MessageText>(.*)</MessageText>", body.decode())
        assert text and json.loads(base64.b64decode(text[1]))["subject"] == ACCOUNT

    def test_a_scope_narrows_a_sink(self, sim: Simulator, got: list[Event]) -> None:
        elsewhere: list[Event] = []
        sim.events.to(elsewhere.extend, scope=GROUP.upper().replace("/AI", "/OTHER"))
        update(sim)
        sim.events.drain()
        assert (len(got), elsewhere) == (1, [])

    def test_a_sink_that_fails_does_not_hold_up_the_others(self, sim: Simulator, got: list[Event]) -> None:
        def broken(_: list[Event]) -> None:
            raise RuntimeError("down")

        sim.events.to(broken)
        update(sim)
        sim.events.drain()
        assert len(got) == 1
        assert [why for _, why in sim.events.dead] == ["RuntimeError: down"]

    def test_sinks_can_be_added_over_http(self, sim: Simulator, hook: Hook) -> None:
        assert call(sim, "POST", "/_simulator/sinks", {"target": hook.url}, token="").status == 200
        update(sim)
        sim.events.drain()
        assert len(hook.posts) == 1


def test_every_sink_keeps_its_order_when_many_write_at_once(sim: Simulator, got: list[Event]) -> None:
    sim.throttle.off()

    def writes(name: str) -> None:
        for number in range(10):
            sim.request("PATCH", ACCOUNT, {"tags": {name: str(number)}})

    threads = [threading.Thread(target=writes, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sim.events.drain()
    assert [event["id"] for event in got] == [event["id"] for event in sim.events.record]
    assert len(got) == 30
