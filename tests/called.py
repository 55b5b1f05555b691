"""Which actions of the generated role the flow suite really called, over all its tests: none is there for nothing.

Every world of tests/flow stands under RBAC (S12) with exactly what roles.json grants, so what is missing fails there. What
nothing calls is told at the end of a run, and fails it where all tests ran, as `make test` runs them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from guardrail.ids import fold
from simulator import Exchange
from simulator.access import operation

ROLES = Path(__file__).parent.parent / "infra" / "roles.json"
# One of the two names under which RBAC may check the list of a group's resources (guardrail.roles.LOOKUPS)
UNSURE = {"microsoft.resources/subscriptions/resourcegroups/resources/read"}
CALLED = set[str]()


def note(lines: Iterable[Exchange]) -> None:
    """The actions behind what the guardrail asked and got."""
    CALLED.update(fold(operation(line.method, line.path).action) for line in lines
                  if line.actor == "guardrail" and line.status < 400)


class Called:
    """Gathers them from the workers of pytest-xdist, and says what is left."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        output = getattr(self.config, "workeroutput", None)
        if output is not None:
            output["called"] = sorted(CALLED)
        elif CALLED and not exitstatus and self.ran_all() and self.unused():
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        CALLED.update(getattr(node, "workeroutput", {}).get("called", ()))

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if CALLED and self.ran_all():
            unused = self.unused()
            terminalreporter.write_line(f"roles.json: {len(granted()) - len(unused)} of {len(granted())} actions were called"
                                        + "".join(f"\n  not called: {one}" for one in unused))

    def unused(self) -> list[str]:
        return sorted(granted() - CALLED)

    def ran_all(self) -> bool:
        chosen = self.config.getoption("keyword") or self.config.getoption("markexpr")
        return self.config.args_source is pytest.Config.ArgsSource.TESTPATHS and not chosen


def granted() -> set[str]:
    return {fold(action) for actions in json.loads(ROLES.read_bytes()).values() for action in actions} - UNSURE
