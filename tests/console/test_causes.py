"""D11: what waits is grouped by cause, critical first, decided one by one; a name looks like nothing but itself."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cli import approvals, output
from console import views
from guardrail import logs
from guardrail.ids import ResourceId
from guardrail.stores.sqlite import SqliteStore
from guardrail.values import Action, Case, Edit, Plan, Record, Severity

pytestmark = pytest.mark.anyio
NOW = datetime(2026, 11, 24, 19, 2, 4, tzinfo=UTC)
GROUP = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/rg/providers/Microsoft.Storage/storageAccounts/"


async def ask(store: SqliteStore, name: str, actors: Sequence[str] = ("pipeline",), control: str = "tls", correlation: str = "",
              after: float = 0, severity: Severity = "medium") -> str:
    """An ask as the engine leaves it: its row, its change and its proposal."""
    at, resource = NOW + timedelta(seconds=after), ResourceId(GROUP + name)
    plan = Plan(resource, "", "fix", (Edit("a", "b", "c"),), (control,))
    action = Action(f"act-{name}", plan, "proposed", "approve", at, tuple(actors), severity=severity,
                    expires=at + timedelta(hours=8))
    changed = Record("change.seen", at, actors[0], correlation, "approve", "", {"actors": list(actors)})
    asked = Record("action.proposed", at, "guardrail", correlation, "approve", "", {
        "action_id": action.id, "kind": "fix", "controls": [control], "plan_hash": plan.hash, "severity": severity})
    await store.commit(Case(resource, asked=action), changed, asked)
    return action.id


@pytest.fixture
async def store(tmp_path: Path) -> Any:
    one = SqliteStore(":memory:", lambda: NOW, durable=False)
    yield one
    one.close()


async def groups(store: SqliteStore) -> list[set[str]]:
    found = dict[str, set[str]]()
    for row in await views.approvals(store):
        found.setdefault(row["cause"]["first"], set()).add(row["id"].removeprefix("act-"))
    return list(found.values())


async def test_one_change_of_one_actor_is_one_cause(store: SqliteStore) -> None:
    for number in range(12):
        await ask(store, f"a{number:02}", control=f"control-{number % 2}", correlation="one", after=number * 200)
    await ask(store, "b", control="control-0", correlation="two", after=599)
    rows = await views.approvals(store)
    assert len(rows) == 13
    assert rows[0]["cause"] == rows[-1]["cause"] == {"first": "act-a00", "asks": 13, "resources": 13, "changes": 2}


async def test_ten_minutes_begin_with_the_first(store: SqliteStore) -> None:
    """Drifts one after another are no endless cause, and none of them is lost."""
    for number in range(12):
        await ask(store, f"a{number:02}", correlation=f"{number}", after=number * 200)
    assert await groups(store) == [{f"a{number:02}" for number in range(first, first + 4)} for first in (0, 4, 8)]


@pytest.mark.threat("D11")
@pytest.mark.parametrize(("name", "second", "is_one"), [
    ("the same correlation id", {"correlation": "one", "control": "other"}, True),
    ("the same control within ten minutes", {"correlation": "two", "after": 599}, True),
    ("the same control later", {"correlation": "two", "after": 601}, False),
    ("another control and id", {"correlation": "two", "control": "other"}, False),
    ("a borrowed correlation id", {"correlation": "one", "actors": ("mallory",)}, False),
    ("one more actor", {"correlation": "one", "actors": ("pipeline", "mallory")}, False),
], ids=lambda one: one if isinstance(one, str) else "")
async def test_what_is_one_cause(name: str, second: Any, is_one: bool, store: SqliteStore) -> None:
    """Whoever writes may choose a correlation id: it alone hides nobody among somebody else's drifts."""
    await ask(store, "a", correlation="one")
    await ask(store, "b", **second)
    assert (len(await groups(store)) == 1) is is_one


async def test_nobody_known_is_no_cause(store: SqliteStore) -> None:
    await ask(store, "a", actors=("",))
    await ask(store, "b", actors=("",))
    assert len(await groups(store)) == 2


@pytest.mark.threat("D11")
async def test_among_five_hundred_the_critical_one_stands_first(store: SqliteStore) -> None:
    """Asked last, and by somebody else: in a table of two lines, each of whose asks can be listed and is decided alone."""
    for number in range(500):
        await ask(store, f"a{number:03}", correlation="flood", after=number / 10)
    await ask(store, "needle", actors=("mallory",), control="public", correlation="flood", after=100, severity="critical")
    began = time.monotonic()
    rows = await views.approvals(store)
    assert time.monotonic() - began < 5
    assert [row["id"] for row in rows[:2]] == ["act-needle", "act-a000"] and len(rows) == 501
    assert len(views.of_cause(rows, "act-needle")) == 1
    assert len(views.of_cause(rows, "act-a499")) == 500
    assert views.of_cause(rows, "act-nothing") == []
    lines = approvals.joined([approvals.cells(row, {"pipeline": "deploy-pipeline"}) for row in rows])
    assert [(line["id"], line["resource"], line["severity"], line["who"]) for line in lines] == [
        ("act-needle", "needle", "critical", "mallory"),
        ("act-a000 and 499 more", "500 resources", "500 medium", "1 change by deploy-pipeline")]


@pytest.mark.threat("D11")
@pytest.mark.parametrize(("name", "shown"), [
    ("st\u202eedorp", "st\\u{202e}edorp"), ("st\u200bprod", "st\\u{200b}prod"), ("st\u0440rod", "st\\u{440}rod"),
    ("st\x1b[2Jprod", "st\\x1b[2Jprod"), ("\uff53tprod", "\\u{ff53}tprod"), ("stprod", "stprod"), ("stpröd", "stpr\\xf6d")])
def test_a_name_looks_like_no_other(name: str, shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Right to left, of no width, of another alphabet, full width, or moving the cursor: spelled out where people read it."""
    assert views.short(GROUP + name) == shown == logs.plain(name)
    output.table(["RESOURCE"], [[views.short(GROUP + name)]])
    assert capsys.readouterr().out.splitlines()[1] == shown
