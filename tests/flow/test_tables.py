"""The loop on Azure's tables and queue: flows that run on SQLite run there too, driven by messages, at the promised cost.

All of the flow suite: `pytest tests/flow --store azurite`.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from guardrail import people as approving
from guardrail.errors import Refused
from guardrail.ids import ResourceId
from guardrail.policy_schema import Exemption
from guardrail.stores import HOME
from guardrail.stores.azure import AzureStore
from tests.azurite import Account, Azurite
from tests.flow import test_intent as intent
from tests.flow import test_loop as loop
from tests.flow import test_people as people
from tests.flow import test_refusals as refusals
from tests.flow.world import ENFORCE, World, world

pytestmark = pytest.mark.anyio

CONTROLS = [next(one for one in loop.CONTROLS if one.on == type and one.response != "report")
            for type in (loop.STORAGE, loop.AI, loop.VAULT, loop.NSG)]


@pytest.mark.usefixtures("on_azurite")
@pytest.mark.parametrize(("flow", "options"), [
    *((loop.test_each_control_mends_its_own_drift, {"control": control}) for control in CONTROLS),
    (loop.test_five_drifts_are_one_plan_one_patch_and_two_reads, {}),
    (loop.test_a_clean_event_costs_one_read_however_many_controls_look, {}),
    (loop.test_report_mode_sends_nothing_but_reads, {"how": {"switch": "report"}}),
    (loop.test_production_asks_and_writes_nothing, {}),
    (loop.test_a_deleted_diagnostic_setting_comes_back_as_it_was, {}),
    (intent.test_after_three_voids_the_intent_mends_it, {}),
    (refusals.test_a_thousand_tries_leave_one_record_in_ten_minutes, {}),
    (refusals.test_a_yes_round_the_end, {"before_s": 1, "code": "expired", "seen": True}),
    (refusals.test_what_was_taken_back_is_called_so, {"is_isolation": True}),
], ids=lambda one: one.__name__ if callable(one) else "-".join(getattr(part, "id", "") for part in one.values()))
async def test_it_goes_as_on_a_file(flow: Callable[..., Any], options: dict[str, Any], tmp_path: Path) -> None:
    await flow(tmp_path=tmp_path, **options)


@asynccontextmanager
async def tables(folder: Path, azurite: Azurite, policy: str = ENFORCE) -> AsyncIterator[tuple[World, Account, AzureStore]]:
    """A world in an account, and the store as its worker has it."""
    account = azurite.account()

    def stores(clock: Any) -> AbstractAsyncContextManager[Callable[[], AzureStore]]:
        return account.stores(clock)

    async with world(folder, policy, store=stores) as here:
        store: Any = here.guardrail.store
        yield here, account, store.inner


async def answer_messages(here: World, store: AzureStore) -> int:
    """Takes the visible messages from the queue as the Functions host would, and hands them to the worker."""
    count = 0
    async for message in store._nudges._queue.receive_messages(visibility_timeout=30):
        await here.guardrail.nudged(b64decode(message.content))      # host.json: messageEncoding base64
        await store._nudges._queue.delete_message(message)
        count += 1
    return count


def told(account: Account) -> list[str]:
    return [one.partition("(")[0] for one in account.requests]


async def test_messages_alone_drive_a_fix(tmp_path: Path, azurite: Azurite) -> None:
    async with tables(tmp_path, azurite) as (here, _, store):
        id = here.stands(loop.STORAGE)
        await here.guardrail.store.send(loop.Look(id, "person"))
        assert await answer_messages(here, store) == 1
        here.clock.forward(60)
        here.write("PATCH", id, loop.OPEN)
        await here.deliver()
        assert await answer_messages(here, store) == 1
        assert [line.method for line in here.ours] == ["PATCH"]
        assert (await here.events_of(id)).count("action.verified") == 1
        assert (await here.case(id)).acting is None


@pytest.mark.parametrize("type", [loop.VAULT, loop.STORAGE, loop.AI])
async def test_what_an_event_costs(type: str, tmp_path: Path, azurite: Azurite) -> None:
    """A clean event: one query, one batch. A fix of one control: no more than four round trips, rules cached.

    Where a critical control looks, the second look is in that batch, and its message is under way beside it.
    """
    async with tables(tmp_path, azurite) as (here, account, store):
        id = here.stands(type)
        await here.guardrail.store.send(loop.Look(id, "person"))
        await answer_messages(here, store)
        await here.settle()
        await here.guardrail.tend()     # which compares the anchors, as a process's first write would
        costs = dict[str, list[str]]()
        events = {"clean": {"tags": {"team": "ml"}}, "fix": {"properties": {"publicNetworkAccess": "Enabled"}}}
        for name, body in events.items():
            here.clock.forward(70)
            await here.settle()
            here.clock.forward(60)
            here.write("PATCH", id, body)
            await here.deliver()
            await here.guardrail.engine.rules()         # cached for five seconds
            account.requests.clear()
            assert not await store.early(ResourceId(id))
            await here.guardrail.answer(ResourceId(id))
            costs[name] = told(account)
        assert [line.method for line in here.ours] == ["PATCH"]
        is_critical = any(control.severity == "critical" for control in here.guardrail.engine.controls if control.on == type)
        second = ["POST messages"] if is_critical else []
        assert sorted(costs["clean"]) == ["GET cases", "POST $batch", *second]
        assert costs["fix"] == ["GET cases", *["POST $batch"] * 3]      # radius, before the write, after it


async def test_the_second_look_comes_by_its_message(tmp_path: Path, azurite: Azurite) -> None:
    async with tables(tmp_path, azurite) as (here, _, store):
        id = here.stands(loop.STORAGE)
        await here.guardrail.store.send(loop.Look(id, "event"))
        assert await answer_messages(here, store) == 1
        case, look = await store.load(ResourceId(id))
        assert look is not None and look.why == "due" and case.due is not None
        assert not [one async for one in store.looks()]
        here.clock.forward(61)
        assert [one.resource async for one in store.looks()] == [id]


@pytest.mark.threat("R26")
@pytest.mark.parametrize("minutes", [10, -10, 0])
async def test_the_account_tells_how_late_it_is(minutes: float, tmp_path: Path, azurite: Azurite) -> None:
    """Azurite's answers carry the machine's time: ten minutes off it nothing is approved, nothing expires, people see it."""
    async with tables(tmp_path, azurite, people.POLICY) as (here, account, store):
        account.own_date = True
        here.clock.now = datetime.now(UTC)
        id, action = await people.asked(here)
        assert abs(store.skew_s) < 5
        engine, yes = here.guardrail.engine, (id, action.id, action.plan.hash, people.APPROVER, "yes")
        exemption = Exemption(control="storage-minimum-tls", scope=id, reason="x", owner="x", until=here.clock())
        here.clock.forward(minutes * 60)
        await here.rules(exemptions=(exemption,))
        await here.guardrail.tend()
        assert abs(store.skew_s - minutes * 60) < 5
        assert ("clock.skewed" in await here.events_of(HOME)) is bool(minutes)
        assert (await store.rules()).exemptions == ((exemption,) if minutes else ())
        if minutes:
            with pytest.raises(Refused, match="our clock and the store's differ by"):
                await approving.approve(engine, *yes)
            assert (await here.case(id)).asked == action
        else:
            assert (await approving.approve(engine, *yes)).state == "approved"
        await here.settle()
        assert len(here.ours) == (0 if minutes else 1)
