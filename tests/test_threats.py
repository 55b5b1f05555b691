"""The threat model's rows and their tests: no row is claimed that is not there, and the list can be printed."""

from __future__ import annotations

import pytest

from tests.threats import is_row, proofs, rows

COUNTS = {"A": 17, "B": 10, "C": 8, "D": 14, "E": 10, "F": 9, "G": 5, "R": 43, "I": 15}


def test_every_row_stands_on_the_page_once_in_order() -> None:
    assert list(rows()) == [f"{kind}{number}" for kind, count in COUNTS.items() for number in range(1, count + 1)]
    assert is_row("E5")
    assert not is_row("E11")


class Item:
    """As much of a pytest item as `proofs` asks for."""

    def __init__(self, nodeid: str, *names: str) -> None:
        self.nodeid, self.names = nodeid, names

    def iter_markers(self, name: str) -> list[pytest.Mark]:
        return [pytest.mark.threat(*self.names).mark] if name == "threat" and self.names else []


def test_proofs_are_listed_by_row_without_parameters() -> None:
    two = [Item("a.py::one[x]", "R1", "E5"), Item("a.py::one[y]", "R1", "E5")]
    items = [*two, Item("b.py::two", "R1"), Item("b.py::three")]
    assert proofs(items) == {"E5": ["a.py::one"], "R1": ["a.py::one", "b.py::two"]}  # type: ignore[arg-type]


def test_the_markers_of_this_run_name_rows(request: pytest.FixtureRequest) -> None:
    """Collection refuses an unknown row; this says how many rows the tests at hand prove."""
    found = proofs(request.session.items)
    assert set(found) <= set(rows())
