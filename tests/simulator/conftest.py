"""A simulator with an account that is as it should be and an empty network security group, and who listens to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from simulator import Simulator
from tests.simulator.calls import ACCOUNT, NSG, SECURED
from tests.simulator.hook import Hook


@pytest.fixture
def sim(tmp_path: Path) -> Iterator[Simulator]:
    with Simulator(folder=tmp_path) as made:
        made.seed(ACCOUNT, SECURED)
        made.seed(NSG, {"location": "eastus", "properties": {}})
        yield made


@pytest.fixture
def got(sim: Simulator) -> list[dict[str, Any]]:
    """What one sink received, in order."""
    received: list[dict[str, Any]] = []
    sim.events.to(received.extend)
    return received


@pytest.fixture
def hook() -> Iterator[Hook]:
    made = Hook()
    yield made
    made.close()
