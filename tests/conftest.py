"""What every suite shares: the async backend, hypothesis' profile, threat rows, and one progress line a suite."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterable
from typing import Any

import hypothesis
import pytest

from tests.azurite import azurite as azurite
from tests.called import Called
from tests.threats import is_row

# No deadline: machines are shared. A failing example prints the line that repeats it.
hypothesis.settings.register_profile("guardrail", deadline=None, print_blob=True)
hypothesis.settings.load_profile("guardrail")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--suites", action="store_true", help="one line a test file instead of a dot a test")
    parser.addoption("--store", choices=["sqlite", "azurite"], default="sqlite", help="what the flow tests run on")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Called(config), "called")
    if config.getoption("--suites") and not hasattr(config, "workerinput"):
        config.option.console_output_style = "classic"
        config.pluginmanager.register(Suites(config), "suites")


def pytest_collection_modifyitems(items: Iterable[pytest.Item]) -> None:
    """A marker that names no row proves nothing, and a typo in one must not pass as a proof."""
    for item in items:
        for marker in item.iter_markers("threat"):
            wrong = [row for row in marker.args if not is_row(row)]
            if wrong or not marker.args:
                raise pytest.UsageError(f"{item.nodeid}: threat{marker.args!r}: no row of docs/reference/threats.md")


class Suites:
    """Prints a file's line when its last test has ended; pytest's own closing line stays the last one."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.waiting: Counter[str] = Counter()
        self.seen: dict[str, Counter[str]] = {}
        self.took_s: Counter[str] = Counter()

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.expect(item.nodeid for item in session.items)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: list[str]) -> None:
        if not self.waiting:  # each worker collects the same tests
            self.expect(ids)

    def expect(self, ids: Iterable[str]) -> None:
        self.waiting.update(suite(one) for one in ids)

    @pytest.hookimpl(wrapper=True)
    def pytest_report_teststatus(self) -> Generator[None, Any, Any]:
        category, _, word = yield
        return category, "", word

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        name = suite(report.nodeid)
        seen = self.seen.setdefault(name, Counter())
        self.took_s[name] += report.duration  # type: ignore[assignment]
        if report.when == "call" or report.outcome != "passed":
            seen[report.outcome] += 1
        if report.when == "teardown":
            self.waiting[name] -= 1
            if not self.waiting[name]:
                told = ", ".join(f"{seen[kind]} {kind}" for kind in ("failed", "passed", "skipped") if seen[kind])
                self.write(f"{name.removeprefix('tests/').removesuffix('.py'):<36} {told}, {self.took_s[name]:.1f} s")

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        reasons = Counter(str(report.longrepr[2]) for report in terminalreporter.stats.get("skipped", ()))
        for reason, count in reasons.most_common():
            self.write(f"{count} skipped: {reason.removeprefix('Skipped: ')}")

    def write(self, line: str) -> None:
        self.config.get_terminal_writer().line(line)


def suite(nodeid: str) -> str:
    return nodeid.partition("::")[0]
