"""The invariants of the threat model, over random worlds. A failure names the invariant and the seed that repeats it.

    GUARDRAIL_SEED=17 pytest tests/test_invariants.py       that one run
    GUARDRAIL_SOAK=100000 pytest -s tests/test_invariants.py    as many happenings in worlds of new seeds
    pytest tests/test_invariants.py --store azurite         the same on tables and queue
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

import recorded
from detectors import CONTROLS
from guardrail.settings import LOCAL_GROUP
from guardrail.values import Look
from tests.flow import world as flow_world
from tests.flow.harness import TYPES, at, stand, world
from tests.flow.world import world as whole_world
from tests.invariants import Trial

pytestmark = pytest.mark.anyio

STEPS = 60
SOAK = int(os.environ.get("GUARDRAIL_SOAK", "0"))
FIRST = int(os.environ.get("GUARDRAIL_SEED", "0"))


def seeds() -> list[int]:
    if FIRST:
        return [FIRST]
    if SOAK:
        return [random.SystemRandom().randrange(1, 10 ** 9) for _ in range(max(1, SOAK // STEPS))]
    return list(range(1, 21))


@pytest.fixture(autouse=True)
def _store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.config.getoption("--store") == "azurite":
        azurite = request.getfixturevalue("azurite")
        monkeypatch.setattr(flow_world, "STORES", [lambda clock: azurite.account().stores(clock)])


@pytest.mark.threat("I1", "I2", "I3", "I4", "I5", "I6", "I7", "I8", "I12", "I13", "I15")
@pytest.mark.parametrize("seed", seeds())
async def test_the_invariants_hold(seed: int, tmp_path: Path) -> None:
    print(f"seed {seed}")
    async with world(tmp_path, proven=TYPES, settings={"GUARDRAIL_PROBE": "on"}) as here:
        here.sim.seed(LOCAL_GROUP, {"location": "westeurope"})
        trial = Trial(here, seed)
        try:
            await trial.run(STEPS)
            await trial.check()
        finally:
            await trial.close()


@pytest.mark.threat("R20")
async def test_what_was_deleted_after_our_read_comes_back_with_our_edit_and_no_more(tmp_path: Path) -> None:
    """A PUT of a content filter has no ETag. That it was there a moment ago is known; what was never there is a fault."""
    control = next(one for one in CONTROLS if one.id == "openai-rai-policy-indirect-attack")
    async with whole_world(tmp_path, proven=[control.on]) as here:
        trial = Trial(here, 1)
        id = stand(here, recorded.good(control.on))
        trial.ids = (id,)
        trial.oracle.see(id)
        stand(here, recorded.drifted(control))
        trial.oracle.see(id)
        at(here.guardrail, "arm.send", "before", lambda: here.sim.faults.delete(f"{id}/raiPolicies/strict", quiet=True))
        await here.guardrail.store.send(Look(id, "person"))
        await here.forward(35)
        (write,) = trial.oracle.writes
        trial.remember({id: await here.records(id)})
        assert list(trial.was_declared(write)) == []
        trial.oracle.states[id].clear()
        assert len(list(trial.was_declared(write))) == 1
        await trial.close()
