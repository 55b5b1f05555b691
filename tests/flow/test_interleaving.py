"""Four actors on one root at once: revert, isolation, rollback, a child. Random interleavings at every call (R16)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from guardrail import app, people
from guardrail.errors import GuardrailError, Refused
from guardrail.ids import ResourceId
from guardrail.paths import ABSENT, agrees, get, parse
from guardrail.values import Edit, Look
from tests.flow.harness import NSG, RANGE, SSH, laid, looked, restarted, stand, watch, world
from tests.flow.test_people import GROUP, person
from tests.flow.world import DEV, ENFORCE

pytestmark = pytest.mark.anyio

POLICY = ENFORCE + f"approvals: {{approvers: [{{scope: /subscriptions/{DEV}, group: {GROUP}}}]}}\n"
OPERATOR = person("oncall", "Operator", "Approver")


class Turns:
    """At each call of a worker to store or ARM the dice say who goes on: every order can happen, each by its seed."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self._waiting: list[asyncio.Future[None]] = []

    async def pause(self, *_: str) -> None:
        gate = asyncio.get_running_loop().create_future()
        self._waiting.append(gate)
        await gate

    async def run(self, actors: Sequence[Awaitable[Any]]) -> None:
        tasks = [asyncio.ensure_future(one) for one in actors]
        while any(not task.done() for task in tasks):
            await asyncio.sleep(0)
            while not self._waiting and (under_way := [task for task in tasks if not task.done()]):
                await asyncio.wait(under_way, timeout=0.0005)       # a request is on its way
            if self._waiting:
                self._waiting.pop(self.dice.randrange(len(self._waiting))).set_result(None)
        for task in tasks:
            task.result()


async def refused_or_done(do: Callable[[], Awaitable[Any]]) -> None:
    """A person's verb: who came too late is told so, and tries again."""
    for _ in range(6):
        try:
            await do()
        except Refused as error:
            if error.code not in ("decided", "busy"):
                return
        else:
            return


async def mended(worker: app.Guardrail, id: ResourceId) -> None:
    for _ in range(3):
        try:
            await worker.answer(id)
        except GuardrailError:
            return


ENDS = ("action.verified", "resource.quarantined", "action.failed", "action.superseded", "action.held", "action.unknown")


def claims(records: Sequence[Any]) -> list[str]:
    """Where an action began, or was let through, while another one was at work: told apart by the records alone."""
    at_work, found = "", list[str]()
    for record in records:
        event, action = record["event"], record["detail"].get("action_id", "")
        taken = event == "action.superseded" and record["detail"]["why"] == "people decided on another plan"
        if (event == "action.applying" and at_work not in ("", action)) or (taken and action == at_work):
            found.append(f"{event} of {action} while {at_work} is at work, at {record['at']}")
        if event == "action.applying":
            at_work = action
        elif action == at_work and event in ENDS:
            at_work = ""
    return found


@pytest.mark.threat("R16", "I8")
@pytest.mark.parametrize("seed", range(1, 13))
async def test_four_actors_on_one_root_never_make_two_claims(seed: int, tmp_path: Path) -> None:
    async with world(tmp_path, POLICY) as here:
        id = stand(here, laid(NSG, SSH))
        await looked(here, id)
        await here.forward(30, step=15)
        (first,) = [one["detail"]["action_id"] for one in await here.records(id) if one["event"] == "action.verified"]
        before = len(here.ours)
        stand(here, laid(NSG, RANGE))                   # the drift that is reverted; the undo's value is still as we left it
        turns, workers = Turns(seed), [here.guardrail, *(restarted(here, POLICY) for _ in range(3))]
        for worker in workers:
            watch(worker, turns.pause)
        await here.guardrail.engine.store._inner.send(Look(id, "person"))       # type: ignore[attr-defined]

        async def child() -> None:
            """Somebody adds a rule at the child's own URL in the middle of it."""
            await turns.pause()
            rule = next(one for one in laid(NSG, SSH).body["properties"]["securityRules"] if one["name"] == "allow-ssh")
            here.write("PUT", f"{id}/securityRules/allow-other", {"properties": {**rule["properties"], "priority": 777}},
                       api_version="2025-09-01")
            await mended(workers[3], id)

        await turns.run([
            mended(workers[0], id),
            refused_or_done(lambda: people.quarantine(workers[1].engine, id, OPERATOR, "looks odd")),
            refused_or_done(lambda: people.undo(workers[2].engine, id, first, OPERATOR, "was wanted")),
            child()])
        for worker in workers[1:]:
            await worker.close()
        here.guardrail.engine.store = here.guardrail.store = here.guardrail.store._inner        # type: ignore[attr-defined]
        here.guardrail.engine.arm = here.guardrail.engine.arm._inner                            # type: ignore[attr-defined]
        await here.forward(3 * 3600, step=900)
        records = await here.records(id)
        assert claims(records) == []
        case = await here.case(id)
        assert case.acting is None and case.asked is None, (case.acting, case.asked)
        # the last state is right: each edit of the action that was verified last stands, and nothing is left to find
        last = [one["detail"] for one in records if one["event"] in ("action.verified", "resource.quarantined")][-1]
        (edits,) = [one["detail"]["edits"] for one in records
                    if one["event"] == "action.applying" and one["detail"]["action_id"] == last["action_id"]][-1:]
        for edit in (Edit(one["path"], one.get("before", ABSENT), one.get("after", ABSENT)) for one in edits):
            now = get(here.show(id), parse(edit.path))
            assert now is ABSENT if edit.after is ABSENT else agrees(now, edit.after), edit.path
        if not any(one["detail"].get("kind") == "undo" for one in records):
            assert case.findings == frozenset()
        assert len(here.ours) > before
