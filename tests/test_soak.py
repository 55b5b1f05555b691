"""A short soak: processes on one store, a SIGKILL, faults; nothing lost, doubled or widened. `make soak` is the long one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.soak.conduct import Terms, conduct

pytestmark = pytest.mark.anyio


@pytest.mark.threat("R2", "R14", "R27", "R28", "R29", "R32", "R38", "I1", "I2", "I3", "I4", "I5", "I6", "I8", "I12", "I13")
async def test_two_processes_through_a_short_night(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """`--store azurite`: on tables and queue, which takes three times as long."""
    terms = Terms(events=100, workers=2, seed=7, store=request.config.getoption("--store"), every=100)
    report = await conduct(tmp_path, terms, print)
    print(report.text)
    assert report.is_good
    assert report.night.crew.did["S20 SIGKILL"] and sum(report.night.written.values())
