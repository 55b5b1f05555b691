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

from guardrail.settings import LOCAL_GROUP
from tests.flow import world as flow_world
from tests.flow.harness import TYPES, world
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
