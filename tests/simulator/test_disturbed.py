"""S15 over HTTP: events lost, doubled, late, early, out of order, in batches, in the other schema, without claims,
forged."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from simulator import Simulator
from tests.simulator.calls import ACCOUNT, OPEN, call
from tests.simulator.hook import Hook

Event = dict[str, Any]


class TestS15Disturbed:
    def write(self, sim: Simulator, count: int) -> list[str]:
        """`count` tag writes, one after the other; the ids of the events that they raised."""
        for number in range(count):
            call(sim, "PATCH", ACCOUNT, {"tags": {"n": str(number)}})
        sim.events.drain()
        return [event["id"] for event in sim.events.record[-count:]]

    def test_dropped_and_only_so_many(self, sim: Simulator, got: list[Event]) -> None:
        sim.faults.events(drop=1, times=2)
        ids = self.write(sim, 3)
        assert [event["id"] for event in got] == ids[2:]

    def test_a_share_is_dropped_the_same_one_each_time(self, sim: Simulator, got: list[Event]) -> None:
        sim.throttle.off()
        sim.faults.events(drop=0.3, seed=7)
        self.write(sim, 40)
        first = len(got)
        assert 20 <= first < 40
        sim.faults.events(drop=0.3, seed=7)
        self.write(sim, 40)
        assert len(got) - first == first

    def test_duplicated(self, sim: Simulator, got: list[Event]) -> None:
        sim.faults.events(duplicate=4)
        [id] = self.write(sim, 1)
        assert [event["id"] for event in got] == [id] * 5

    @pytest.mark.parametrize(("order", "expected"), [(3, [2, 1, 0]), ([1, 2, 0], [1, 2, 0])])
    def test_reordered(self, sim: Simulator, got: list[Event], order: Any, expected: list[int]) -> None:
        sim.faults.events(reorder=order)
        ids = self.write(sim, 3)
        assert [event["id"] for event in got] == [ids[index] for index in expected]

    def test_what_is_held_comes_when_the_fault_ends(self, sim: Simulator, got: list[Event]) -> None:
        sim.faults.events(reorder=5)
        ids = self.write(sim, 2)
        assert not got
        sim.faults.clear()
        sim.events.drain()
        assert [event["id"] for event in got] == ids

    def test_delayed_until_flushed(self, sim: Simulator, got: list[Event]) -> None:
        sim.faults.events(delay_s=60, match="storageAccounts/write", times=1)
        for number in range(2):
            call(sim, "PATCH", ACCOUNT, {"tags": {"n": str(number)}})
        assert not sim.events.drain(0.05)
        assert [event["id"] for event in got] == [sim.events.record[1]["id"]], "the later one overtakes"
        sim.events.flush()
        assert len(got) == 2

    def test_early_before_the_answer(self, sim: Simulator) -> None:
        seen: list[Event] = []

        def slow(events: list[Event]) -> None:
            time.sleep(0.03)
            seen.extend(events)

        sim.events.to(slow)
        sim.faults.events(early=True)
        call(sim, "PATCH", ACCOUNT, OPEN)
        assert len(seen) == 1

    def test_batched(self, sim: Simulator, hook: Hook) -> None:
        sim.events.to(hook.url)
        sim.faults.events(batch=3)
        ids = self.write(sim, 3)
        [(_, body, _)] = hook.posts
        assert [event["id"] for event in json.loads(body)] == ids

    def test_another_schema_without_claims(self, sim: Simulator, got: list[Event]) -> None:
        sim.faults.events(schema="CloudEventSchemaV1_0", strip_claims=True)
        self.write(sim, 1)
        assert (got[0]["specversion"], got[0]["data"]["claims"]) == ("1.0", {})

    def test_a_forged_actor(self, sim: Simulator, got: list[Event]) -> None:
        name = "http://schemas.microsoft.com/identity/claims/objectidentifier"
        sim.faults.events(forge={"data": {"claims": {name: "someone-else"}}})
        self.write(sim, 1)
        assert got[0]["data"]["claims"][name] == "someone-else"
        assert got[0]["data"]["claims"]["name"] == "ml-engineer"
        assert sim.events.record[0]["data"]["claims"][name] != "someone-else", "the record keeps the truth"

    def test_injected_from_nothing_and_replayed(self, sim: Simulator, got: list[Event]) -> None:
        self.write(sim, 1)
        sim.events.inject(*sim.events.record * 3)
        sim.events.inject({"eventType": "Microsoft.Resources.ResourceWriteSuccess"})
        sim.events.drain()
        assert len(got) == 1 + 3 + 1
