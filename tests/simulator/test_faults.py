"""Injection points S1-S10 and S17 at work over HTTP. S11, S12 and S14 stand in test_access, S13 in test_throttle, S15
in test_disturbed, S16 in test_graph and test_surface."""

from __future__ import annotations

import http.client
import json
import time
from typing import Any

import pytest

from simulator import Simulator
from simulator.faults import NAMES, matches
from simulator.wire import Request
from tests.simulator.calls import (
    ACCOUNT,
    NETWORK,
    NSG,
    OPEN,
    RULE_BODY,
    SECURED,
    STORAGE,
    SUBSCRIPTION,
    Answer,
    Clock,
    access,
    call,
)

RULE = f"{NSG}/securityRules/ssh"


def shown(answer: Answer) -> Any:
    return answer.body["properties"]["publicNetworkAccess"]


def etag_of(sim: Simulator, id: str) -> str:
    return str(call(sim, "GET", id, version=NETWORK).headers.get("etag", ""))


@pytest.mark.parametrize(
    ("match", "method", "path", "is_meant"),
    [
        ("PATCH storageAccounts", "PATCH", ACCOUNT, True),
        ("PATCH storageAccounts", "GET", ACCOUNT, False),
        ("put,patch STORAGEaccounts/AIDATA", "PUT", ACCOUNT, True),
        (ACCOUNT.upper(), "GET", ACCOUNT, True),
        (ACCOUNT, "GET", ACCOUNT + "/blobServices/default", False),
        ("GET */blobservices/*", "GET", ACCOUNT + "/blobServices/default", True),
        ("put,patch", "PATCH", ACCOUNT, True),
        ("put,patch", "GET", ACCOUNT, False),
        ("*", "DELETE", "/anything", True),
    ],
)
def test_a_match_names_methods_and_a_path(match: str, method: str, path: str, is_meant: bool) -> None:
    assert matches(match, Request(method, path)) == is_meant


class TestS1Answer:
    def test_stands_for_the_work_as_often_as_asked(self, sim: Simulator) -> None:
        sim.faults.answer("PATCH storageAccounts", 503, "ServerBusy", headers={"Retry-After": "7"}, times=2)
        refused = [call(sim, "PATCH", ACCOUNT, OPEN) for _ in range(2)]
        assert [(it.status, it.body["error"]["code"], it.headers["retry-after"]) for it in refused] == [
            (503, "ServerBusy", "7")
        ] * 2
        assert access(sim) == "Disabled"
        assert call(sim, "PATCH", ACCOUNT, OPEN).status == 200
        assert access(sim) == "Enabled"

    def test_can_be_html_or_any_json(self, sim: Simulator) -> None:
        sim.faults.answer("GET aidata", 502, body="<html>Bad Gateway</html>", times=1)
        answer = call(sim, "GET", ACCOUNT)
        assert (answer.status, answer.headers["content-type"], answer.body) == (
            502,
            "text/html",
            b"<html>Bad Gateway</html>",
        )
        sim.faults.answer("GET aidata", 409, body={"code": "Bare", "message": "no envelope"}, times=1)
        assert call(sim, "GET", ACCOUNT).body == {"code": "Bare", "message": "no envelope"}

    def test_one_type_can_lose_its_api_version_and_the_rest_go_on(self, sim: Simulator) -> None:
        sim.faults.answer("Microsoft.Storage/storageAccounts", 400, "NoRegisteredProviderFound")
        assert call(sim, "GET", ACCOUNT).body["error"]["code"] == "NoRegisteredProviderFound"
        assert call(sim, "GET", NSG, version=NETWORK).status == 200


class TestS2LoseAnswer:
    @pytest.mark.parametrize("how", ["drop", "timeout"])
    def test_it_took_effect_and_the_caller_learns_nothing(self, sim: Simulator, how: Any) -> None:
        sim.faults.lose_answer("PATCH aidata", how)
        with pytest.raises((http.client.RemoteDisconnected, ConnectionError, TimeoutError)):
            call(sim, "PATCH", ACCOUNT, OPEN, timeout_s=0.3)
        assert access(sim) == "Enabled"
        assert sim.events.record[-1]["eventType"] == "Microsoft.Resources.ResourceWriteSuccess"

    def test_500_after_a_delete_that_happened(self, sim: Simulator) -> None:
        sim.faults.lose_answer("DELETE aidata", "500")
        assert call(sim, "DELETE", ACCOUNT).status == 500
        assert sim.document(ACCOUNT) is None
        assert sim.events.record[-1]["eventType"] == "Microsoft.Resources.ResourceDeleteSuccess"


def test_s3_a_dropped_request_has_no_effect(sim: Simulator) -> None:
    sim.faults.drop_request("PATCH aidata")
    with pytest.raises((http.client.RemoteDisconnected, ConnectionError)):
        call(sim, "PATCH", ACCOUNT, OPEN)
    assert access(sim) == "Disabled"
    assert not sim.events.record
    assert call(sim, "PATCH", ACCOUNT, OPEN).status == 200


class TestS4Slow:
    def test_the_answer_is_late_but_was_read_at_once(self, sim: Simulator) -> None:
        sim.faults.slow("GET aidata", ms=120, times=1)
        start = time.monotonic()
        assert shown(call(sim, "GET", ACCOUNT)) == "Disabled"
        assert time.monotonic() - start >= 0.12

    def test_it_drips(self, sim: Simulator) -> None:
        sim.faults.slow(f"GET {SUBSCRIPTION}", drip_ms=0.2, times=1)
        start = time.monotonic()
        answer = call(sim, "GET", SUBSCRIPTION)
        assert answer.body["state"] == "Enabled"
        assert time.monotonic() - start >= 0.04


class TestS5Stale:
    def test_reads_show_what_was_before_the_last_write(self, sim: Simulator) -> None:
        sim.faults.stale(ACCOUNT, reads=2)
        call(sim, "PATCH", ACCOUNT, OPEN)
        assert [shown(call(sim, "GET", ACCOUNT)) for _ in range(3)] == ["Disabled", "Disabled", "Enabled"]
        assert access(sim) == "Enabled"

    def test_404_after_a_creation_and_a_document_after_a_deletion(self, sim: Simulator) -> None:
        sim.faults.stale("storageAccounts/new", reads=1)
        new = ACCOUNT.replace("aidata", "newdata")
        call(sim, "PUT", new, SECURED)
        assert [call(sim, "GET", new).status for _ in range(2)] == [404, 200]
        call(sim, "DELETE", new)
        assert [call(sim, "GET", new).status for _ in range(2)] == [200, 404]

    def test_a_group_of_rules_lags_behind_its_rules(self, sim: Simulator) -> None:
        sim.faults.stale(NSG, reads=1)
        call(sim, "PUT", RULE, RULE_BODY, version=NETWORK)
        counts = [len(call(sim, "GET", NSG, version=NETWORK).body["properties"]["securityRules"]) for _ in range(2)]
        assert counts == [0, 1]

    def test_for_a_time(self, tmp_path: Any) -> None:
        clock = Clock()
        with Simulator(folder=tmp_path, clock=clock) as sim:
            sim.seed(ACCOUNT, SECURED)
            sim.faults.stale(ACCOUNT, ms=5000)
            call(sim, "PATCH", ACCOUNT, OPEN)
            clock.move(4)
            assert shown(call(sim, "GET", ACCOUNT)) == "Disabled"
            clock.move(2)
            assert shown(call(sim, "GET", ACCOUNT)) == "Enabled"


class TestS6LongRunning:
    def poll(self, sim: Simulator, url: str) -> Answer:
        path, _, query = url.removeprefix(sim.url).partition("?")
        return call(sim, "GET", path, version=query.rpartition("=")[2])

    @pytest.mark.parametrize("end", ["Succeeded", "Failed", "Canceled"])
    def test_azure_async_operation_runs_for_n_polls_and_ends_as_told(self, sim: Simulator, end: Any) -> None:
        sim.faults.lro("Microsoft.Storage/storageAccounts", "async", polls=2, end=end, effect="end")
        answer = call(sim, "PATCH", ACCOUNT, OPEN)
        assert answer.status < 300
        assert access(sim) == "Disabled"
        states = [self.poll(sim, answer.headers["azure-asyncoperation"]).body["status"] for _ in range(2)]
        assert states == ["InProgress", end]
        assert access(sim) == "Enabled"

    def test_location_answers_202_until_it_is_done(self, sim: Simulator) -> None:
        sim.faults.lro("Microsoft.Storage/storageAccounts", "location", polls=2)
        where = call(sim, "PATCH", ACCOUNT, OPEN).headers["location"]
        assert [self.poll(sim, where).status for _ in range(2)] == [202, 200]

    def test_the_effect_may_never_come_although_it_succeeded(self, sim: Simulator) -> None:
        sim.faults.lro("Microsoft.Storage/storageAccounts", "async", polls=1, effect="never")
        url = call(sim, "PATCH", ACCOUNT, OPEN).headers["azure-asyncoperation"]
        assert self.poll(sim, url).body["status"] == "Succeeded"
        assert access(sim) == "Disabled"

    def test_half_of_it_arrives(self, sim: Simulator) -> None:
        sim.faults.lro("Microsoft.Storage/storageAccounts", "async", polls=1, end="Failed", effect="half")
        change = {"properties": {"publicNetworkAccess": "Enabled", "minimumTlsVersion": "TLS1_0"}}
        self.poll(sim, call(sim, "PATCH", ACCOUNT, change).headers["azure-asyncoperation"])
        document = sim.document(ACCOUNT)
        assert document is not None
        after = [document["properties"][key] for key in ("publicNetworkAccess", "minimumTlsVersion")]
        assert sorted(after) in (["Disabled", "TLS1_0"], ["Enabled", "TLS1_2"])

    def test_without_end_another_write_is_refused(self, sim: Simulator) -> None:
        sim.faults.lro("Microsoft.Storage/storageAccounts", "async", end="never", times=1)
        url = call(sim, "PATCH", ACCOUNT, OPEN).headers["azure-asyncoperation"]
        assert {self.poll(sim, url).body["status"] for _ in range(5)} == {"InProgress"}
        assert call(sim, "PATCH", ACCOUNT, OPEN).status == 409

    def test_the_url_may_be_foreign(self, sim: Simulator) -> None:
        sim.faults.lro("Microsoft.Storage/storageAccounts", "async", url="https://evil.example/poll")
        assert call(sim, "PATCH", ACCOUNT, OPEN).headers["azure-asyncoperation"] == "https://evil.example/poll"

    def test_only_a_state_tells(self, sim: Simulator) -> None:
        sim.faults.lro("Microsoft.Storage/storageAccounts", "state", polls=1)
        answer = call(sim, "PATCH", ACCOUNT, OPEN)
        assert not {"azure-asyncoperation", "location"} & answer.headers.keys()


class TestS7SomeoneElse:
    def test_changes_the_world_just_before_the_write(self, sim: Simulator) -> None:
        sim.faults.before_write(f"PATCH {ACCOUNT}", {"tags": {"env": "dev"}})
        call(sim, "PATCH", ACCOUNT, OPEN)
        document = sim.document(ACCOUNT)
        assert document is not None
        assert (document["tags"], access(sim)) == ({"env": "dev"}, "Enabled")
        assert [version.who for version in sim.history(ACCOUNT)][-2:] == ["mutate", "ml-engineer"]

    def test_makes_an_etag_stale_at_the_last_instant(self, sim: Simulator) -> None:
        etag = etag_of(sim, NSG)
        sim.faults.before_write(NSG, lambda: sim.request("PUT", RULE, RULE_BODY))
        answer = call(sim, "PUT", NSG, {"location": "eastus"}, version=NETWORK, headers={"If-Match": etag})
        assert answer.status == 412
        assert sim.document(RULE) is not None

    def test_changes_it_back_before_the_answer_goes_out(self, sim: Simulator) -> None:
        sim.faults.after_write(f"PATCH {ACCOUNT}", {"properties": {"publicNetworkAccess": "Disabled"}})
        assert call(sim, "PATCH", ACCOUNT, OPEN).status == 200
        assert access(sim) == "Disabled"

    def test_a_refused_caller_does_not_set_it_off(self, sim: Simulator) -> None:
        sim.faults.lock(ACCOUNT, "ReadOnly")
        sim.faults.before_write(ACCOUNT, {"tags": {"env": "dev"}})
        call(sim, "PATCH", ACCOUNT, OPEN)
        document = sim.document(ACCOUNT)
        assert document is not None and document["tags"] == {"env": "production"}


class TestS8AnotherLife:
    def test_recreated_is_another_incarnation_with_the_same_settings(self, sim: Simulator) -> None:
        before = call(sim, "GET", ACCOUNT).body
        sim.faults.recreate(ACCOUNT)
        after = call(sim, "GET", ACCOUNT).body
        assert after["properties"]["creationTime"] != before["properties"]["creationTime"]
        assert (after["tags"], shown(Answer(200, {}, after))) == (before["tags"], "Disabled")
        kinds = [event["eventType"].rsplit(".", 1)[-1] for event in sim.events.record]
        assert kinds == ["ResourceDeleteSuccess", "ResourceWriteSuccess"]

    def test_moved_is_the_same_incarnation_in_another_group(self, sim: Simulator) -> None:
        born, before = call(sim, "GET", ACCOUNT).body["properties"]["creationTime"], sim.world.get(ACCOUNT)
        new = sim.faults.move(ACCOUNT, "dev-ai")
        assert new == ACCOUNT.replace("/ai/", "/dev-ai/")
        assert call(sim, "GET", ACCOUNT).status == 404
        assert call(sim, "GET", new).body["properties"]["creationTime"] == born
        after = sim.world.get(new)
        assert before is not None
        assert after is not None
        assert (after.incarnation, after.created) == (before.incarnation, before.created)
        assert sim.events.record[-1]["data"]["operationName"].endswith("/moveResources/action")

    def test_deleted_past_every_lock_and_quietly(self, sim: Simulator) -> None:
        sim.faults.lock(ACCOUNT)
        sim.faults.delete(ACCOUNT, quiet=True)
        assert call(sim, "GET", ACCOUNT).status == 404
        assert not sim.events.record


class TestS9ETag:
    @pytest.mark.parametrize(("mode", "status"), [("honour", 412), ("ignore", 200), ("absent", 200)])
    def test_if_match_is_heeded_or_not(self, sim: Simulator, mode: Any, status: int) -> None:
        sim.faults.etag("Microsoft.Storage/storageAccounts", mode)
        assert ("etag" in call(sim, "GET", ACCOUNT).headers) == (mode != "absent")
        assert call(sim, "PATCH", ACCOUNT, OPEN, headers={"If-Match": '"old"'}).status == status
        assert access(sim) == ("Disabled" if status == 412 else "Enabled")


class TestS10Put:
    def put_less(self, sim: Simulator) -> dict[str, Any]:
        call(sim, "PUT", ACCOUNT, {"location": "eastus", "kind": "StorageV2", "sku": {"name": "Standard_LRS"}})
        document = sim.document(ACCOUNT)
        assert document is not None
        return document

    @pytest.mark.parametrize(("mode", "tls", "identity"), [("merge", "TLS1_2", "SystemAssigned"), ("replace", None, None)])
    def test_what_put_does_to_what_it_does_not_name(self, sim: Simulator, mode: Any, tls: Any, identity: Any) -> None:
        sim.mutate(ACCOUNT, lambda body: body.update(identity={"type": "SystemAssigned"}))
        sim.faults.put("Microsoft.Storage/storageAccounts", mode)
        after = self.put_less(sim)
        assert after["properties"].get("minimumTlsVersion") == tls
        assert after.get("identity", {}).get("type") == identity

    def test_a_write_only_property_is_not_shown_and_a_put_erases_it(self, sim: Simulator) -> None:
        sim.mutate(ACCOUNT, lambda body: body["properties"].update(secretKey="s"))
        sim.faults.put("Microsoft.Storage/storageAccounts", "replace", write_only=["properties.secretKey"])
        assert "secretKey" not in call(sim, "GET", ACCOUNT).body["properties"]
        self.put_less(sim)
        assert "secretKey" not in (sim.history(ACCOUNT)[-1].body or {}).get("properties", {})

    def test_hidden_by_a_version_and_older_ones(self, sim: Simulator) -> None:
        sim.faults.put("Microsoft.Storage/storageAccounts", hidden={"2023-01-01": ["properties.minimumTlsVersion"]})
        has = [
            "minimumTlsVersion" in call(sim, "GET", ACCOUNT, version=version).body["properties"]
            for version in ("2023-01-01", STORAGE)
        ]
        assert has == [False, True]


class TestS17OddDocuments:
    @pytest.mark.parametrize(
        ("kind", "name", "value"),
        [
            ("unknown", "simulatedSetting", {"mode": "Unheard", "list": [1, None, {"a": "b"}]}),
            ("null", "publicNetworkAccess", None),
            ("case", "publicNetworkAccess", "dISABLED"),
            ("type", "publicNetworkAccess", ["Disabled"]),
            ("surrogate", "publicNetworkAccess", "\ud800"),
        ],
    )
    def test_the_document_is_odd_and_nobody_was_told(self, sim: Simulator, kind: str, name: str, value: Any) -> None:
        sim.faults.mutate(ACCOUNT, kind)
        properties = call(sim, "GET", ACCOUNT).body["properties"]
        assert name in properties
        assert properties[name] == value
        assert not sim.events.record

    @pytest.mark.parametrize("size_mb", [3, 5])
    def test_it_is_large(self, sim: Simulator, size_mb: int) -> None:
        sim.faults.mutate(ACCOUNT, "big", size_mb=size_mb)
        assert len(call(sim, "GET", ACCOUNT).body["properties"]["simulatedText"]) == size_mb * 1024 * 1024

    def test_a_key_stands_twice(self, sim: Simulator) -> None:
        sim.faults.mutate(ACCOUNT, "duplicate_key")
        text = call_raw(sim, ACCOUNT)
        assert text.count('"id": "/') >= 2
        assert json.loads(text)["id"] == ACCOUNT


def call_raw(sim: Simulator, path: str) -> str:
    host = sim.url.removeprefix("http://")
    line = http.client.HTTPConnection(host, timeout=5)
    line.request("GET", f"{path}?api-version={STORAGE}", headers={"Authorization": f"Bearer {sim.identity.token('oncall')}"})
    text = line.getresponse().read().decode()
    line.close()
    return text


class TestTheAdminRoute:
    def post(self, sim: Simulator, body: Any) -> Answer:
        return call(sim, "POST", "/_simulator/faults", body, token="")

    def test_sets_a_fault_by_its_name_and_clears_all(self, sim: Simulator) -> None:
        assert self.post(sim, {"name": "answer", "match": "PATCH", "status": 503}).body == {"name": "answer"}
        assert self.post(sim, {"name": "lock", "scope": ACCOUNT}).body["id"].startswith(ACCOUNT)
        assert call(sim, "PATCH", ACCOUNT, OPEN).status == 503
        assert call(sim, "DELETE", ACCOUNT).status == 409
        assert call(sim, "DELETE", "/_simulator/faults", token="").status == 204
        assert call(sim, "PATCH", ACCOUNT, OPEN).status == 200
        assert call(sim, "DELETE", ACCOUNT).status == 200

    @pytest.mark.parametrize(
        "body", [{"name": "explode"}, {}, {"name": "slow", "speed": 1}, {"name": "mutate", "id": ACCOUNT, "kind": "x"}]
    )
    def test_refuses_what_it_does_not_know(self, sim: Simulator, body: Any) -> None:
        assert self.post(sim, body).status == 400

    @pytest.mark.parametrize("name", NAMES)
    def test_every_name_is_a_call(self, sim: Simulator, name: str) -> None:
        assert callable(getattr(sim.faults, name))
