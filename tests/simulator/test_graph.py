"""Resource Graph: what a sweep asks, paging, quota, and the ways in which it lies (S16)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator import Simulator
from simulator.kql import Parser, QueryError
from tests.simulator.calls import ACCOUNT, GROUP, NSG, SECURED, SUBSCRIPTION, Answer, Clock, call

PATH = "/providers/Microsoft.ResourceGraph/resources"
SWEEP = (
    "resources | where type in~ ('Microsoft.Storage/storageAccounts', 'Microsoft.Network/networkSecurityGroups')"
    " | where subscriptionId == '00000000-0000-0000-0000-000000000001'"
    " | project id, type, location, tags, properties | order by id asc"
)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sim(tmp_path: Path, clock: Clock) -> Iterator[Simulator]:
    with Simulator(folder=tmp_path, clock=clock) as made:
        made.throttle.off()
        made.seed(ACCOUNT, SECURED)
        made.seed(f"{ACCOUNT}/blobServices/default", {"properties": {}})
        made.seed(
            NSG,
            {
                "location": "westeurope",
                "properties": {"securityRules": [{"name": "ssh", "properties": {"priority": 100}}]},
            },
        )
        yield made


def ask(sim: Simulator, query: str, options: Any = None, as_: str = "guardrail", **more: Any) -> Answer:
    body = {"query": query, **({"options": options} if options else {}), **more}
    return call(sim, "POST", PATH, body, version="2024-04-01", as_=as_)


def ids(answer: Answer) -> list[str]:
    assert answer.status == 200, answer.body
    return [row["id"] for row in answer.body["data"]]


class TestTables:
    def test_a_sweep_sees_top_level_resources_with_types_in_lower_case(self, sim: Simulator) -> None:
        answer = ask(sim, SWEEP)
        assert ids(answer) == [NSG, ACCOUNT]
        assert [row["type"] for row in answer.body["data"]] == [
            "microsoft.network/networksecuritygroups",
            "microsoft.storage/storageaccounts",
        ]
        assert answer.body["data"][1]["properties"]["publicNetworkAccess"] == "Disabled"
        assert (answer.body["totalRecords"], answer.body["count"], answer.body["resultTruncated"]) == (2, 2, "false")

    def test_children_and_extensions_are_no_rows_of_it(self, sim: Simulator) -> None:
        sim.seed(f"{ACCOUNT}/providers/Microsoft.Insights/diagnosticSettings/d", {"properties": {}})
        assert ids(ask(sim, "resources | order by id asc")) == [NSG, ACCOUNT]

    def test_groups_and_subscriptions(self, sim: Simulator) -> None:
        rows = ask(sim, "resourcecontainers | order by id asc").body["data"]
        assert [row["type"] for row in rows] == [
            "microsoft.resources/subscriptions",
            "microsoft.resources/subscriptions/resourcegroups",
        ]

    def test_role_assignments(self, sim: Simulator) -> None:
        id = f"{GROUP}/providers/Microsoft.Authorization/roleAssignments/00000000-0000-0000-0000-0000000000a1"
        sim.seed(id, {"properties": {"principalId": "p", "roleDefinitionId": "/r", "scope": GROUP}})
        query = (
            "authorizationresources | where type =~ 'Microsoft.Authorization/roleAssignments'"
            " | project id, properties.principalId"
        )
        assert ask(sim, query).body["data"] == [{"id": id, "properties_principalId": "p"}]

    def test_changes_tell_what_who_and_the_difference(self, sim: Simulator, clock: Clock) -> None:
        clock.move(7200)
        call(sim, "PATCH", ACCOUNT, {"properties": {"publicNetworkAccess": "Enabled"}})
        call(sim, "DELETE", NSG, version="2025-03-01")
        rows = ask(
            sim,
            "resourcechanges | extend at = todatetime(properties.changeAttributes.timestamp) | where at > ago(1h)"
            " | where properties.targetResourceType in~"
            " ('microsoft.storage/storageaccounts', 'microsoft.network/networksecuritygroups')"
            " | project id, at, properties | order by at asc, id asc",
        ).body["data"]
        changes = {row["properties"]["changeType"]: row["properties"] for row in rows}
        assert set(changes) == {"Update", "Delete"}
        assert changes["Update"]["targetResourceId"] == ACCOUNT
        assert changes["Update"]["changeAttributes"]["changedBy"] == "ml-engineer"
        assert changes["Update"]["changes"]["properties.publicNetworkAccess"]["newValue"] == "Enabled"
        assert changes["Delete"]["targetResourceId"].lower() == NSG.lower()

    def test_rows_that_the_caller_may_not_read_are_silently_missing(self, sim: Simulator) -> None:
        sim.faults.rbac({"actions": ["Microsoft.Network/*"]})
        assert ids(ask(sim, SWEEP)) == [NSG]

    def test_another_subscription_has_no_rows(self, sim: Simulator) -> None:
        assert ids(ask(sim, SWEEP, subscriptions=["00000000-0000-0000-0000-00000000ffff"])) == []


class TestLanguage:
    ROWS = (
        {"id": "a", "n": 1, "on": True, "tags": {"env": "Prod"}},
        {"id": "B", "n": 2, "on": False, "tags": None},
        {"id": "c", "n": None, "on": None},
    )

    @pytest.mark.parametrize(
        ("steps", "expected"),
        [
            ("where id == 'a'", "a"),
            ("where id == 'https://b' or id == 'a' // or id == 'c'", "a"),
            ("where id == 'b'", ""),
            ("where id =~ 'b'", "B"),
            ("where id != 'a'", "Bc"),
            ("where id !~ 'b'", "ac"),
            ("where id in ('a', 'b')", "a"),
            ("where id in~ ('a', 'b')", "aB"),
            ("where id !in ('a', 'b')", "Bc"),
            ("where id !in~ ('a', 'b')", "c"),
            ("where n > 1", "B"),
            ("where n >= 1 and n < 2", "a"),
            ("where n > 1 or id == 'c'", "Bc"),
            ("where not(id == 'a' or id == 'c')", "B"),
            ("where tags.env =~ 'prod'", "a"),
            ("where tags['env'] == 'Prod'", "a"),
            ("where isempty(tags.env)", "Bc"),
            ("where isnotnull(n) | where on == true", "a"),
            ('where tolower(id) == "b"', "B"),
            ("where id contains 'A'", "a"),
            ("where id startswith 'b'", "B"),
            ("order by n desc", "Bac"),
            ("order by n asc | take 1", "c"),
            ("sort by id asc | limit 2", "Ba"),
            ("top 1 by n desc", "B"),
            ("extend m = n | where m == 2 // a comment", "B"),
            ("distinct id | where id == 'a'", "a"),
            ("project id, x = tags.env | where x == 'Prod'", "a"),
        ],
    )
    def test_means_what_kusto_means(self, steps: str, expected: str) -> None:
        rows = Parser(f"t | {steps}", datetime(2026, 1, 1, tzinfo=UTC)).run(lambda _: self.ROWS)
        assert "".join(row["id"] for row in rows) == expected

    def test_counts(self) -> None:
        assert Parser("t | count", datetime(2026, 1, 1, tzinfo=UTC)).run(lambda _: self.ROWS) == [{"Count": 3}]

    @pytest.mark.parametrize(
        ("bound", "expected"),
        [("datetime(2026-01-01T00:00:00Z)", 1), ("datetime('2026-01-03')", 0), ("ago(2d)", 1), ("now()", 0)],
    )
    def test_times(self, bound: str, expected: int) -> None:
        rows = [{"id": "a", "at": "2026-01-01T12:00:00.1234567Z"}]
        query = f"t | where todatetime(at) > {bound}"
        assert len(Parser(query, datetime(2026, 1, 2, 12, 0, 1, tzinfo=UTC)).run(lambda _: rows)) == expected

    @pytest.mark.parametrize(
        "query",
        [
            "",
            "nosuchtable",
            "resources | summarize count() by type",
            "resources | where",
            "resources | where type has_any ('a')",
            "resources | where strcat(id, 'a') == 'b'",
            "resources | project",
            "resources || where id == 'a'",
            "resources | take many",
            "resources | where id == 'a' garbage",
            "resources | join resourcecontainers",
            "resources | where id in ('a'",
            "; drop",
        ],
    )
    def test_what_it_does_not_know_is_400_and_never_skipped(self, sim: Simulator, query: str) -> None:
        answer = ask(sim, query)
        assert (answer.status, answer.body["error"]["code"]) == (400, "BadRequest")
        assert answer.body["error"]["details"][0]["code"] == "InvalidQuery"

    @given(st.text(alphabet="resouc |whetypin~()='\"<>.,[]1d\\", max_size=40))
    def test_any_text_is_rows_or_a_query_error(self, text: str) -> None:
        with suppress(QueryError):
            Parser(f"t {text}", datetime(2026, 1, 1, tzinfo=UTC)).run(lambda _: self.ROWS)

    @pytest.mark.parametrize(
        ("method", "version", "body", "status"),
        [
            ("POST", "2021-03-01", {"query": "resources"}, 400),
            ("POST", "2022-10-01", {"query": "resources"}, 200),
            ("GET", "2024-04-01", None, 405),
            ("POST", "2024-04-01", {}, 400),
            ("POST", "2024-04-01", [1], 400),
        ],
    )
    def test_version_method_and_body_are_checked(
        self, sim: Simulator, method: str, version: str, body: Any, status: int
    ) -> None:
        assert call(sim, method, PATH, body, version=version).status == status


class TestPaging:
    @pytest.fixture
    def many(self, sim: Simulator) -> list[str]:
        made = [f"{GROUP}/providers/Microsoft.Storage/storageAccounts/data{number:03}" for number in range(7)]
        for id in made:
            sim.seed(id, SECURED)
        return sorted([*made, ACCOUNT])

    def pages(self, sim: Simulator, query: str) -> list[list[str]]:
        found, token = [], None
        while True:
            answer = ask(sim, query, {"$top": 3, **({"$skipToken": token} if token else {})})
            found.append(ids(answer))
            token = answer.body.get("$skipToken")
            if not token:
                return found

    def test_a_token_leads_through_all_pages(self, sim: Simulator, many: list[str]) -> None:
        pages = self.pages(sim, "resources | where type =~ 'microsoft.storage/storageaccounts' | order by id asc")
        assert [len(page) for page in pages] == [3, 3, 2]
        assert [id for page in pages for id in page] == many

    @pytest.mark.parametrize("query", ["resources | project name, type", "resources | order by id asc | take 5"])
    def test_without_ids_or_after_take_there_is_no_token_and_it_says_so(
        self, sim: Simulator, many: list[str], query: str
    ) -> None:
        answer = ask(sim, query, {"$top": 3})
        assert ("$skipToken" in answer.body, answer.body["count"], answer.body["resultTruncated"]) == (False, 3, "true")

    @pytest.mark.parametrize("token", ["nonsense", "e30=", "////"])
    def test_a_strange_token_is_refused(self, sim: Simulator, token: str) -> None:
        assert ask(sim, "resources", {"$skipToken": token}).status == 400


class TestQuota:
    def test_fifteen_queries_in_five_seconds(self, sim: Simulator, clock: Clock) -> None:
        sim.throttle.on()
        left = [ask(sim, "resources").headers["x-ms-user-quota-remaining"] for _ in range(15)]
        assert (left[0], left[-1]) == ("14", "0")
        refused = ask(sim, "resources")
        assert (refused.status, refused.headers["retry-after"], refused.headers["x-ms-user-quota-resets-after"]) == (
            429,
            "5",
            "00:00:05",
        )
        assert ask(sim, "resources", as_="oncall").status == 200
        clock.move(5)
        assert ask(sim, "resources").status == 200

    def test_a_query_is_no_write(self, sim: Simulator) -> None:
        ask(sim, "resources")
        assert not sim.writes()
        assert not sim.events.record


class TestS16:
    def test_rows_lag_behind_the_world(self, sim: Simulator, clock: Clock) -> None:
        new = ACCOUNT.replace("aidata", "newdata")
        call(sim, "PUT", new, SECURED)
        call(sim, "PATCH", ACCOUNT, {"properties": {"publicNetworkAccess": "Enabled"}})
        call(sim, "DELETE", NSG, version="2025-03-01")
        sim.faults.graph(lag_s=60)
        clock.move(30)
        rows = ask(sim, SWEEP).body["data"]
        assert {row["id"].lower() for row in rows} == {NSG.lower(), ACCOUNT.lower()}
        assert next(row for row in rows if row["id"] == ACCOUNT)["properties"]["publicNetworkAccess"] == "Disabled"
        clock.move(31)
        assert ids(ask(sim, SWEEP)) == [ACCOUNT, new]

    @pytest.mark.parametrize("hidden", [ACCOUNT.upper(), "*/storageAccounts/*"])
    def test_rows_are_omitted_without_a_word(self, sim: Simulator, hidden: str) -> None:
        sim.faults.graph(omit=[hidden])
        answer = ask(sim, SWEEP)
        assert (ids(answer), answer.body["totalRecords"]) == ([NSG], 1)

    def test_a_whole_subscription_is_omitted(self, sim: Simulator) -> None:
        sim.faults.graph(omit=[SUBSCRIPTION])
        assert ids(ask(sim, "resources")) == []

    def test_a_page_is_cut(self, sim: Simulator) -> None:
        sim.faults.graph(truncate=1)
        answer = ask(sim, SWEEP)
        assert (answer.body["count"], answer.body["totalRecords"], answer.body["resultTruncated"]) == (1, 2, "true")
        assert "$skipToken" not in answer.body

    def test_a_good_token_is_refused_until_it_heals(self, sim: Simulator) -> None:
        token = ask(sim, SWEEP, {"$top": 1}).body["$skipToken"]
        sim.faults.graph(bad_skip_token=True)
        assert ask(sim, SWEEP, {"$top": 1, "$skipToken": token}).status == 400
        sim.faults.clear()
        assert ids(ask(sim, SWEEP, {"$top": 1, "$skipToken": token})) == [ACCOUNT]
