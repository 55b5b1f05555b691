"""Alert rules and workbook: every event they wait for is one that we log, every column one that a line has."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from guardrail import logs
from tests import infra
from tests.infra import ALL

ALERTS = json.loads((infra.INFRA / "alerts.json").read_bytes())
WORKBOOK = json.loads((infra.INFRA / "workbook.json").read_bytes())
BASE = ('let L = union isfuzzy=true AppTraces, (datatable(TimeGenerated: datetime, Message: string) []) '
        '| where Message startswith "{" | extend r = parse_json(Message), '
        "e = tostring(parse_json(Message).event);")
# what a line has beside its event's own: docs/reference/log-events.md; expires, error, after_s: of some events
COLUMNS = {*logs.ALWAYS, "event", "at", "severity", "expires", "error", "after_s"}
WINDOWS = ("PT5M", "PT15M", "PT45M", "PT2H", "P1D")     # minutes that a log rule may look back on, of those we use
METRICS = {"DeliverySuccessCount", "DeliveryAttemptFailCount", "DeadLetteredCount", "DroppedEventCount"}
# of experience.md 5: its severity, and what it waits for
TEN: Mapping[str, tuple[int, set[str]]] = {
    "audit-broken": (0, {"audit.broken"}), "event-path-broken": (1, {"probe.received"}), "down": (1, {"sweep.finished"}),
    "waiting": (2, {"action.proposed", "action.expired"}), "permission-lost": (2, {"permission.lost"}),
    "not-fixed": (1, {"verification.failed", "action.failed", "look.poisoned"}), "stopped-acting": (2, {"breaker.tripped"}),
    "mode-changed": (2, {"mode.switched", "exemption.added"}), "throttled": (3, {"arm.throttled"}),
}


def queries() -> Iterator[tuple[str, str]]:
    """(name, KQL) of all rules and tiles."""
    rules = {one.body["properties"]["displayName"]: one.body["properties"]["criteria"]["allOf"]
             for one in infra.made("Microsoft.Insights/scheduledQueryRules")}
    yield from ((name, condition["query"]) for name, conditions in rules.items() for condition in conditions)
    yield from ((item["content"]["title"], item["content"]["query"]) for item in WORKBOOK["items"] if item["type"] == 3)


ALL_QUERIES = dict(queries())


@pytest.mark.parametrize("name", list(ALL_QUERIES))
def test_a_query_waits_for_what_we_log(name: str) -> None:
    query = ALL_QUERIES[name]
    assert query.startswith(BASE)
    rest = query.removeprefix(BASE)
    quoted = re.findall(r'"([^"]*)"', rest)
    assert quoted
    for text in quoted:
        starts = f'startswith "{text}"' in rest
        assert text in logs.EVENTS or (starts and any(event.startswith(text) for event in logs.EVENTS)), text
    assert set(re.findall(r"\br\.(\w+)", rest)) <= COLUMNS


def test_whatever_is_logged_as_an_error_pages_somebody() -> None:
    """Some rule waits for each. But for a page of the console that could not be made: whoever asked for it sees that."""
    waited = {text for one in ALERTS for text in re.findall(r'"([^"]*)"', one["query"])}
    assert {event for event, level in logs.EVENTS.items() if level == "error"} - waited == {"page.failed"}


@pytest.mark.parametrize("name", list(ALL_QUERIES))
def test_a_query_is_balanced(name: str) -> None:
    """Nobody here runs KQL: brackets, quotes and operators are all that can be seen."""
    bare = re.sub(r'"[^"]*"', '""', ALL_QUERIES[name])
    open_ones: list[str] = []
    for one in bare:
        if one in "([{":
            open_ones.append(one)
        elif one in ")]}":
            assert open_ones.pop() + one in ("()", "[]", "{}")
    assert open_ones == []
    assert bare.count('"') % 2 == 0
    operators = {step.split()[0] for step in bare.split(";")[-1].split("|")[1:]}
    assert operators <= {"where", "extend", "summarize", "project", "top"}


def test_there_are_ten_alerts() -> None:
    """Nine on logs, and one, of two metrics, on the topic."""
    found = {one["name"]: one for one in ALERTS}
    assert set(found) == set(TEN)
    for name, (severity, events) in TEN.items():
        assert found[name]["severity"] == severity
        assert events <= set(re.findall(r'"([^"]+)"', found[name]["query"]))
        assert found[name]["window"] in WINDOWS
        assert found[name]["frequency"] in ("PT5M", "PT15M")
    silent = {name for name in found if found[name]["operator"] == "LessThan"}
    assert silent == {"event-path-broken", "down"}, "silence is an alert"


@pytest.mark.parametrize("name", ALL)
def test_each_alert_reaches_people_and_each_topic_is_watched(name: str) -> None:
    (group,) = infra.made("Microsoft.Insights/actionGroups", name)
    for rule in infra.made("Microsoft.Insights/scheduledQueryRules", name):
        assert rule.body["properties"]["actions"] == {"actionGroups": [group.id]}
        assert rule.body["properties"]["enabled"] is True
    lost = infra.made("Microsoft.Insights/metricAlerts", name)
    assert all(one.body["properties"]["actions"] == [{"actionGroupId": group.id}] for one in lost)
    watched = {scope for one in lost for scope in one.body["properties"]["scopes"]}
    assert watched == {one.id.rpartition("/eventSubscriptions/")[0] for one in infra.made(infra.SUBSCRIPTIONS, name)}


def test_mail_goes_where_the_deployment_says() -> None:
    (group,) = infra.made("Microsoft.Insights/actionGroups", "enforcing, cheap, with chats")
    assert [one["emailAddress"] for one in group.body["properties"]["emailReceivers"]] == ["oncall@example.com"]


def test_the_workbook_has_its_tiles_and_is_what_is_deployed() -> None:
    (workbook,) = infra.made("Microsoft.Insights/workbooks")
    assert json.loads(workbook.body["properties"]["serializedData"]) == WORKBOOK
    kinds: list[Any] = [item["type"] for item in WORKBOOK["items"]]
    assert (kinds.count(3), kinds.count(10)) == (9, 1)
    metrics = {one["metric"].rsplit("--", 1)[1] for item in WORKBOOK["items"] if item["type"] == 10
               for one in item["content"]["metrics"]}
    assert metrics == METRICS
    names = [item["name"] for item in WORKBOOK["items"]]
    assert len(set(names)) == len(names)
