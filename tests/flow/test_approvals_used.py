"""I9 over random schedules: an approval is used by at most one action, before its end, by somebody who is neither the
one who changed the resource nor the one who asked, and for the plan that they saw."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from guardrail import people
from guardrail.authorize import Person
from guardrail.errors import Refused
from guardrail.ids import ResourceId
from tests.flow.harness import STORAGE, VAULT, restarted, world
from tests.flow.test_people import APPROVER, ENGINEER, ONCALL, POLICY
from tests.flow.world import PROD, World

pytestmark = pytest.mark.anyio

PEOPLE = (APPROVER, ONCALL, ENGINEER)
DRIFTS: Sequence[Mapping[str, Any]] = (
    {"properties": {"publicNetworkAccess": "Enabled"}}, {"properties": {"publicNetworkAccess": "Disabled"}},
    {"properties": {"minimumTlsVersion": "TLS1_0"}}, {"properties": {"minimumTlsVersion": "TLS1_2"}}, {"tags": {"a": "b"}})


class Schedule:
    """A night of drifts, approvals of plans that were seen some time ago, rejections, undos, other workers and time."""

    def __init__(self, here: World, seed: int) -> None:
        self.here, self.dice = here, random.Random(seed)
        self.ids = [here.stands(type, subscription=PROD) for type in (STORAGE, VAULT)]
        self.seen = list[tuple[ResourceId, str, str]]()     # resource, action, hash: as somebody saw it on a page
        self.yes = list[tuple[ResourceId, str, str]]()      # taken: on which resource, for which action, of which plan

    async def run(self, steps: int) -> None:
        for _ in range(steps):
            await self.dice.choices((self.drift, self.look, self.approve, self.time, self.reject, self.undo, self.race),
                                    (5, 6, 8, 3, 1, 2, 3))[0]()
        await self.here.settle()

    async def drift(self) -> None:
        id, who = self.dice.choice(self.ids), self.dice.choice(("ml-engineer", "approver", "deploy-pipeline"))
        self.here.sim.faults.events(strip_claims=self.dice.random() < 0.2)     # then nobody is known, and two decide
        self.here.write("PATCH", id, self.dice.choice(DRIFTS), as_=who)
        if self.dice.random() < 0.7:
            await self.here.settle()

    async def look(self) -> None:
        await self.here.settle()
        for id in self.ids:
            if (asked := (await self.here.case(id)).asked) is not None:
                self.seen.append((id, asked.id, asked.plan.hash))

    async def approve(self, who: Person | None = None) -> None:
        if self.seen:
            id, action, hash = self.dice.choice(self.seen[-4:])
            who = who or self.dice.choice(PEOPLE)
            hash = self.dice.choice(self.seen)[2] if self.dice.random() < 0.2 else hash     # seen somewhere else
            try:
                await people.approve(self.here.guardrail.engine, id, action, hash, who, "seen")
                self.yes.append((id, action, hash))
            except Refused:
                return

    async def race(self) -> None:
        """The same worker and another one answer while people decide."""
        other = restarted(self.here, POLICY)
        await self.approve()
        await other.settle()
        await self.approve()
        await other.close()

    async def reject(self) -> None:
        if self.seen:
            id, action, _ = self.dice.choice(self.seen[-4:])
            try:
                await people.reject(self.here.guardrail.engine, id, action, ONCALL, "no")
            except Refused:
                return

    async def undo(self) -> None:
        id = self.dice.choice(self.ids)
        done = [one["detail"]["action_id"] for one in await self.here.records(id) if one["event"] == "action.verified"]
        if done:
            try:
                who = self.dice.choice(PEOPLE)
                await people.undo(self.here.guardrail.engine, id, self.dice.choice(done), who, "was wanted")
            except Refused:
                return

    async def time(self) -> None:
        ends = [asked.expires for id in self.ids if (asked := (await self.here.case(id)).asked) and asked.expires]
        if ends and self.dice.random() < 0.4:       # at the last instant
            self.here.clock.now = max(self.here.clock(), min(ends) - timedelta(seconds=self.dice.choice((20, 40))))
            for who in PEOPLE:
                await self.approve(who)
        else:
            self.here.clock.forward(self.dice.choice((6, 60, 3600, 5 * 3600)))
            await self.here.guardrail.tend()


@pytest.mark.threat("I9", "D1", "D10")
@pytest.mark.parametrize("seed", range(1, 9))
async def test_an_approval_is_used_once_in_time_by_another_for_the_plan_they_saw(seed: int, tmp_path: Path) -> None:
    async with world(tmp_path, POLICY) as here:
        night = Schedule(here, seed)
        await night.look()
        await night.run(90)
        let = dict[str, str]()                  # action -> the plan that was let through
        sent = dict[str, str]()                 # client request id -> its action
        for id in night.ids:
            chain = Chain(await here.records(id))
            for action, plan, requests in chain.used():
                assert action not in let or requests, "let through once"
                let[action] = plan
                sent.update(dict.fromkeys(requests, action))
            for where, action, seen in night.yes:
                assert where != id or chain.asked[action]["plan_hash"] == seen, "for the plan that they saw"
        for line in here.ours:
            assert sent[line.headers["x-ms-client-request-id"]] in let, f"{line.method} that nobody approved"
        assert len(let) <= len(night.yes)


ENDS = ("action.rejected", "action.expired", "action.superseded", "action.verified")


class Chain:
    """The records of one resource, told again: who was involved when, what waited until when, who said yes to what."""

    def __init__(self, records: Sequence[Mapping[str, Any]]) -> None:
        self.records = records
        self.open = set[str]()
        self.actors = set[str]()                # since it last was clean
        self.asked = dict[str, dict[str, Any]]()

    def used(self) -> Iterator[tuple[str, str, list[str]]]:
        """Each action that was let through, with its plan; then the same with the requests that it sent."""
        was: datetime | None = None
        for record in self.records:
            event, detail, at = record["event"], record["detail"], datetime.fromisoformat(record["at"])
            action = detail.get("action_id", "")
            if at != was and not self.open:         # the look before this one left it clean
                self.actors = set()
            was = at
            if event == "change.seen":
                self.actors = self.actors | set(detail["actors"])
            elif event in ("finding.raised", "finding.cleared"):
                (self.open.add if event == "finding.raised" else self.open.discard)(detail["finding_id"])
            elif event in ("action.proposed", "action.held"):
                asker = {record["actor"]} - {"guardrail"}
                self.asked[action] = {**detail, "involved": (self.actors if self.open else set()) | asker, "asker": asker,
                                      "yes": [], "over": False}
            elif event == "action.approved":
                self.said_yes(action, record["actor"], detail, at)
                if isinstance(detail["approvals"], list):       # the last one that was needed
                    asked = self.asked[action]
                    assert set(detail["approvals"]) == set(asked["yes"]), "nobody else's yes, and all of them"
                    asked["over"] = True
                    yield action, asked["plan_hash"], []
            elif event in ENDS and action in self.asked:
                self.asked[action]["over"] = True
                self.actors = set() if event == "action.verified" else self.actors
            elif event == "action.applying" and detail.get("requests"):
                assert detail["plan_hash"] == self.asked[action]["plan_hash"], "no other plan than the approved one"
                yield action, detail["plan_hash"], [one["client_request_id"] for one in detail["requests"]]

    def said_yes(self, action: str, who: str, detail: Mapping[str, Any], at: datetime) -> None:
        asked = self.asked[action]
        assert not asked["over"], "used after its end"
        assert detail["plan_hash"] == asked["plan_hash"], "the plan that was shown"
        is_askers = asked["asker"] == {who}     # outside production the asker is enough; here it counts as one of two
        assert is_askers or who not in asked["involved"] | (self.actors if self.open else set()), f"{who} is involved"
        if asked.get("expires"):
            assert at <= datetime.fromisoformat(asked["expires"]) - timedelta(seconds=30), "in time"
        asked["yes"].append(who)
