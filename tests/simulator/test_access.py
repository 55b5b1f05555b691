"""Who gets in and what stands in the way, over HTTP: locks, denies, policies (S11), roles (S12), tokens (S14)."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import pytest

from simulator import Simulator
from tests.simulator.calls import (
    ACCOUNT,
    GROUP,
    NETWORK,
    NSG,
    OPEN,
    RULE_BODY,
    SECURED,
    SUBSCRIPTION,
    Answer,
    Clock,
    access,
    call,
)

RULE = f"{NSG}/securityRules/ssh"


class TestS11InTheWay:
    @pytest.mark.parametrize(
        ("level", "scope", "refused"),
        [
            ("CanNotDelete", ACCOUNT, {"DELETE"}),
            ("CanNotDelete", GROUP, {"DELETE"}),
            ("ReadOnly", ACCOUNT, {"DELETE", "PATCH"}),
            ("ReadOnly", SUBSCRIPTION, {"DELETE", "PATCH"}),
        ],
    )
    def test_a_lock_at_or_above_refuses_and_names_its_scope(
        self, sim: Simulator, level: Any, scope: str, refused: set[str]
    ) -> None:
        sim.faults.lock(scope, level)
        for method in ("PATCH", "DELETE"):
            answer = call(sim, method, ACCOUNT, OPEN if method == "PATCH" else None)
            assert (answer.status == 409) == (method in refused)
            if answer.status == 409:
                assert answer.body["error"]["code"] == "ScopeLocked" and f"'{scope}'" in answer.body["error"]["message"]
        assert call(sim, "GET", ACCOUNT).status == (200 if "DELETE" in refused else 404)

    def test_a_lock_below_holds_the_group(self, sim: Simulator) -> None:
        sim.faults.lock(ACCOUNT)
        assert call(sim, "DELETE", GROUP).status == 409

    def test_a_lock_that_an_actor_writes_holds_and_can_be_taken_away(self, sim: Simulator) -> None:
        lock = f"{ACCOUNT}/providers/Microsoft.Authorization/locks/mine"
        body = {"properties": {"level": "ReadOnly"}}
        assert call(sim, "PUT", lock, body, version="2016-09-01").status in (200, 201)
        assert call(sim, "PATCH", ACCOUNT, OPEN).status == 409
        assert call(sim, "DELETE", lock, version="2016-09-01").status in (200, 204)
        assert call(sim, "PATCH", ACCOUNT, OPEN).status == 200

    def test_a_deny_assignment_stops_those_it_names(self, sim: Simulator) -> None:
        id = sim.faults.deny_assignment(GROUP, ["*/write"], ["guardrail"])
        answer = call(sim, "PATCH", ACCOUNT, OPEN, as_="guardrail")
        assert (answer.status, answer.body["error"]["code"]) == (403, "DenyAssignmentAuthorizationFailed")
        assert id in answer.body["error"]["message"]
        assert call(sim, "GET", ACCOUNT, as_="guardrail").status == 200
        assert call(sim, "PATCH", ACCOUNT, OPEN).status == 200

    def test_a_deny_policy_refuses_one_value(self, sim: Simulator) -> None:
        id = sim.faults.policy(GROUP, "deny", "properties.publicNetworkAccess", "Enabled")
        answer = call(sim, "PATCH", ACCOUNT, OPEN)
        assert (answer.status, answer.body["error"]["code"]) == (403, "RequestDisallowedByPolicy")
        assert id in answer.body["error"]["message"]
        assert call(sim, "PATCH", ACCOUNT, {"tags": {}}).status == 200

    def test_a_modify_policy_flips_it_back(self, sim: Simulator) -> None:
        sim.faults.policy(GROUP, "modify", "properties.publicNetworkAccess", "Enabled")
        call(sim, "PATCH", ACCOUNT, {"properties": {"publicNetworkAccess": "Disabled"}})
        assert access(sim) == "Enabled"

    def test_an_append_policy_fills_only_a_gap(self, sim: Simulator) -> None:
        sim.faults.policy(GROUP, "append", "properties.minimumTlsVersion", "TLS1_3")
        call(sim, "PATCH", ACCOUNT, {"properties": {"minimumTlsVersion": "TLS1_1"}})
        assert call(sim, "GET", ACCOUNT).body["properties"]["minimumTlsVersion"] == "TLS1_1"
        call(sim, "PATCH", ACCOUNT, OPEN)
        assert call(sim, "GET", ACCOUNT).body["properties"]["minimumTlsVersion"] == "TLS1_3"


class TestS12Roles:
    ROLE = {
        "actions": ["Microsoft.Storage/storageAccounts/read", "Microsoft.Network/*"],
        "notActions": ["Microsoft.Network/*/delete"],
    }

    def test_what_is_not_granted_is_403_and_names_the_action(self, sim: Simulator) -> None:
        sim.faults.rbac(self.ROLE)
        assert call(sim, "GET", ACCOUNT, as_="guardrail").status == 200
        answer = call(sim, "PATCH", ACCOUNT, OPEN, as_="guardrail")
        assert (answer.status, answer.body["error"]["code"]) == (403, "AuthorizationFailed")
        assert "Microsoft.Storage/storageAccounts/write" in answer.body["error"]["message"]
        assert call(sim, "PUT", RULE, RULE_BODY, version=NETWORK, as_="guardrail").status == 201
        assert call(sim, "DELETE", RULE, version=NETWORK, as_="guardrail").status == 403
        assert call(sim, "PATCH", ACCOUNT, OPEN).status == 200, "other principals keep all rights"

    def test_a_role_definition_and_a_file_of_it_mean_the_same(self, sim: Simulator, tmp_path: Any) -> None:
        file = tmp_path / "role.json"
        file.write_text(json.dumps({"properties": {"permissions": [self.ROLE]}}))
        sim.faults.rbac(str(file))
        assert call(sim, "PATCH", ACCOUNT, OPEN, as_="guardrail").status == 403
        assert call(sim, "GET", ACCOUNT, as_="guardrail").status == 200

    def test_outside_its_scope_a_grant_is_none(self, sim: Simulator) -> None:
        sim.faults.rbac({"actions": ["*"]}, scope=NSG)
        assert call(sim, "GET", NSG, version=NETWORK, as_="guardrail").status == 200
        assert call(sim, "GET", ACCOUNT, as_="guardrail").status == 403

    def test_grants_work_late(self, tmp_path: Any) -> None:
        clock = Clock()
        with Simulator(folder=tmp_path, clock=clock) as sim:
            sim.seed(ACCOUNT, SECURED)
            sim.faults.rbac({"actions": ["*"]}, grant_lag_s=300)
            assert call(sim, "GET", ACCOUNT, as_="guardrail").status == 403
            clock.move(301)
            assert call(sim, "GET", ACCOUNT, as_="guardrail").status == 200

    def test_one_action_is_revoked_and_permissions_say_so(self, sim: Simulator) -> None:
        sim.faults.revoke("Microsoft.Storage/storageAccounts/read")
        assert call(sim, "GET", ACCOUNT, as_="guardrail").status == 403
        path = f"{GROUP}/providers/Microsoft.Authorization/permissions"
        listed = call(sim, "GET", path, version="2022-04-01", as_="guardrail").body["value"]
        assert listed == [
            {
                "actions": ["*"],
                "notActions": ["Microsoft.Storage/storageAccounts/read"],
                "dataActions": [],
                "notDataActions": [],
            }
        ]


class TestS14Token:
    def fetch(self, sim: Simulator, actor: str = "guardrail") -> Answer:
        return call(
            sim,
            "GET",
            "/msi/token",
            version="2019-08-01",
            token="",
            headers={"X-IDENTITY-HEADER": actor},
            query={"resource": "https://management.azure.com"},
        )

    def test_the_endpoint_names_the_actor_by_its_header(self, sim: Simulator) -> None:
        got = self.fetch(sim, "oncall").body
        assert set(got) == {"access_token", "expires_on", "resource", "token_type"} and isinstance(got["expires_on"], str)
        assert call(sim, "GET", ACCOUNT, token=got["access_token"]).status == 200
        assert sim.log[-1].actor == "oncall"

    def test_a_word_that_is_no_actors_name_is_an_application_of_that_name(self, sim: Simulator) -> None:
        call(sim, "GET", ACCOUNT, token=self.fetch(sim, "embedded").body["access_token"])
        assert sim.log[-1].actor == "embedded"
        assert self.fetch(sim, "").status == 400

    def test_it_fails_a_few_times(self, sim: Simulator) -> None:
        sim.faults.token("fail", times=2)
        assert [self.fetch(sim).status for _ in range(3)] == [500, 500, 200]

    def test_it_is_slow(self, sim: Simulator) -> None:
        sim.faults.token("slow", seconds=0.08, times=1)
        start = time.monotonic()
        assert self.fetch(sim).status == 200
        assert time.monotonic() - start >= 0.08

    @pytest.mark.parametrize(
        ("mode", "code"),
        [("expired", "ExpiredAuthenticationToken"), ("foreign_tenant", "InvalidAuthenticationTokenTenant")],
    )
    def test_a_bad_token_is_refused(self, sim: Simulator, mode: str, code: str) -> None:
        sim.faults.token(mode, times=1)
        answer = call(sim, "PATCH", ACCOUNT, OPEN, token=self.fetch(sim).body["access_token"])
        assert (answer.status, answer.body["error"]["code"]) == (401, code)
        assert access(sim) == "Disabled"
        assert call(sim, "GET", ACCOUNT, token=self.fetch(sim).body["access_token"]).status == 200

    def test_a_challenge_asks_for_another_token(self, sim: Simulator) -> None:
        sim.faults.token("claims_challenge", times=1)
        answer = call(sim, "GET", ACCOUNT)
        challenge = answer.headers["www-authenticate"]
        assert answer.status == 401 and 'error="insufficient_claims"' in challenge
        assert json.loads(base64.b64decode(challenge.rpartition('claims="')[2].rstrip('"')))["access_token"]
        assert call(sim, "GET", ACCOUNT).status == 200

    def test_without_a_token_nothing_is_shown(self, sim: Simulator) -> None:
        assert call(sim, "GET", ACCOUNT, token="").body["error"]["code"] == "AuthenticationFailed"
