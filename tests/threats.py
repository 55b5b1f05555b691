"""Which test proves which row of docs/reference/threats.md. `make threats` prints it: python -m tests.threats"""

from __future__ import annotations

import contextlib
import io
import re
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROW = re.compile(r"^\| ([A-GRI]\d{1,2}) \| (.+?) \|", re.MULTILINE)


@cache
def rows() -> Mapping[str, str]:
    """Row id -> its few words, in the page's order."""
    return dict(ROW.findall((ROOT / "docs/reference/threats.md").read_text()))


def is_row(name: object) -> bool:
    return name in rows()


def proofs(items: Iterable[pytest.Item]) -> dict[str, list[str]]:
    """Row id -> tests that carry it, parameters left out."""
    found: dict[str, dict[str, None]] = {}
    for item in items:
        for marker in item.iter_markers("threat"):
            for row in marker.args:
                found.setdefault(row, {})[item.nodeid.partition("[")[0]] = None
    return {row: list(found[row]) for row in rows() if row in found}


def main() -> int:
    found: dict[str, list[str]] = {}

    class Collector:
        def pytest_collection_finish(self, session: pytest.Session) -> None:
            found.update(proofs(session.items))

    told = io.StringIO()
    with contextlib.redirect_stdout(told):
        code = pytest.main(["--collect-only", "-qq", str(ROOT / "tests")], plugins=[Collector()])
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        print(told.getvalue(), file=sys.stderr)
        return int(code)
    for row, tests in found.items():
        print(f"{row:<4} {rows()[row]}")
        for test in tests:
            print(f"       {test}")
    without = [row for row in rows() if row not in found]
    print(f"{len(found)} of {len(rows())} rows have a test. None yet: {', '.join(without) or 'none is missing'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
