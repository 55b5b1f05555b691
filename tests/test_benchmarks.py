"""The benchmarks run, count what was asked of ARM, and write results and tables; their numbers are no business of tests."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import bench, tables
from benchmarks.measure import Cell, Result

ROOT = Path(__file__).parent.parent
PAGE = f"# A page?\nbefore\n{tables.BEGIN}\nstale words\n{tables.END}\nafter\n"


def test_a_quick_run_measures_and_renders(tmp_path: Path) -> None:
    """One read for a clean event and a reported drift; read, write, read for a mended one. The page keeps its own words."""
    out, page = tmp_path / "results.json", tmp_path / "page.md"
    page.write_text(PAGE)
    bench.main(["--quick", "--out", str(out), "--page", str(page)])
    results = json.loads(out.read_text())
    calls = {(row["case"], row["in_flight"]): (row["reads"], row["writes"]) for row in results["rows"]}
    assert calls == {("clean", 1): (1, 0), ("clean", 32): (1, 0), ("drift", 1): (1, 0), ("drift", 32): (1, 0),
                     ("mend", 1): (2, 1), ("mend", 32): (2, 1)}
    assert all(row["events_per_s"] > 0 and row["cpu_ms"] > 0 for row in results["rows"])
    text = page.read_text()
    assert text.startswith("# A page?\nbefore\n")
    assert text.endswith("after\n")
    assert "| drift, mended |" in text
    assert "stale words" not in text


def test_a_run_that_did_not_do_the_work_counts_for_nothing() -> None:
    """Numbers of events that ended otherwise than their case wants are no numbers."""
    row = bench.Row("ours", Cell("durable", "mend", 10, 1, 0), [Result(2, 1, 1.0, 1.0, 1.0, 4, 2, 0)])
    with pytest.raises(RuntimeError, match="did not all do the work"):
        row.told()


def test_the_page_has_a_place_for_the_tables() -> None:
    text = (ROOT / "docs/explanation/performance.md").read_text("utf-8")
    assert text.count(tables.BEGIN) == text.count(tables.END) == 1
    assert text.index(tables.BEGIN) < text.index(tables.END)
