"""Runs the measurements, ours and the peer's in turns, and writes results.json and the tables of the results page.

    python -m benchmarks.bench [--peer] [--rounds N] [--quick] [--out results.json] [--page page.md]

Environments of their own, beside this one and made when missing: .venv-deployed holds requirements.txt and nothing
else (what a cold start imports from), .venv-peer Cloud Custodian. The peer takes part when its environment is there.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from benchmarks import tables
from benchmarks.measure import SUBSCRIPTION, Case, Cell, Result

ROOT = Path(__file__).parent.parent
PEER = ("c7n==0.9.53", "c7n-azure==0.7.52")
CASES: tuple[Case, ...] = ("clean", "drift", "mend")
THREADS = 6             # what a Functions worker gives functions that are not async, on two cores: min(32, cores + 4)
SLOW_MS = 1000          # an event that waits so long for ARM is measured in one round: the waiting does not vary
BASE, APP = "import azure.functions, azure.core", "import function_app"
PEER_APP = "from c7n_azure import entry, handler; from azure.functions import QueueMessage; entry.initialize_azure()"
SHOWN = ("azure-core", "azure-functions", "azure-mgmt-storage", "aiohttp", "msgspec", "requests", "c7n", "c7n-azure")

Who = Literal["ours", "peer"]


@dataclass
class Row:
    """A cell and what its runs gave."""

    who: Who
    cell: Cell
    runs: list[Result] = field(default_factory=list)

    def told(self) -> dict[str, Any]:
        """Medians, an event; counts are exact."""
        one = self.runs[0]
        if any((run.reads * one.events, run.writes * one.events) != (one.reads * run.events, one.writes * run.events)
               or run.answered != run.events for run in self.runs):
            raise RuntimeError(f"{self.who} {self.cell}: the runs did not all do the work: {self.runs}")
        cell = {name: getattr(self.cell, name) for name in ("way", "case", "controls", "in_flight", "latency_ms")}
        return {
            "who": self.who, **cell, "runs": len(self.runs), "events": sum(run.events for run in self.runs),
            "events_per_s": round(statistics.median(run.events / run.wall_s for run in self.runs), 1),
            "cpu_ms": round(1000 * statistics.median(run.cpu_s / run.events for run in self.runs), 2),
            "reads": one.reads / one.events, "writes": one.writes / one.events, "versions": one.versions / one.events,
            "later_reads": one.later, "peak_mib": round(max(run.peak_mib for run in self.runs))}


class Worker:
    def __init__(self, python: Path, module: str) -> None:
        self._process = subprocess.Popen([python, "-m", f"benchmarks.{module}"], cwd=ROOT, text=True,
                                         stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def line(self) -> str:
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line:
            raise RuntimeError(f"a worker ended with {self._process.wait()}: {self._process.args!r}")
        return line.strip()

    def run(self, cell: Cell) -> Result:
        if self._process.stdin:
            print(json.dumps(asdict(cell)), file=self._process.stdin, flush=True)
        return Result(**json.loads(self.line()))

    def close(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                pipe.close()
        self._process.wait(timeout=10)


@contextmanager
def started(python: Path, module: str) -> Iterator[Worker]:
    worker = Worker(python, module)
    try:
        yield worker
    finally:
        worker.close()


def cells(quick: bool) -> Iterator[Row]:
    """In the order in which they run: what is compared stands next to each other."""
    controls, latencies = ((3,), (0,)) if quick else ((1, 10, 30), (0, 50))
    base = Cell("", "clean", 0, 1, 0, seconds=0, least=1, warm=False) if quick else Cell("", "clean", 0, 1, 0)
    for latency_ms in latencies:
        for case in CASES:
            for count in controls:
                cell = replace(base, case=case, controls=count, latency_ms=latency_ms)
                for ours, theirs in ((1, 1), (32, THREADS)):
                    yield Row("ours", replace(cell, way="durable", in_flight=ours, later=case == "clean" and not latency_ms))
                    yield Row("peer", replace(cell, way="function", in_flight=theirs))
            if quick:
                continue
            cell = replace(base, case=case, controls=10, latency_ms=latency_ms)
            yield Row("peer", replace(cell, way="loaded"))
            yield Row("ours", replace(cell, way="fast", in_flight=1))
            yield Row("ours", replace(cell, way="fast", in_flight=32))


def measured(rows: Sequence[Row], pythons: dict[Who, Path], url: str, rounds: int) -> None:
    with ExitStack() as stack:
        workers = {who: stack.enter_context(started(python, who)) for who, python in pythons.items()}
        for number in range(rounds):
            for row in rows:
                slow = row.who == "peer" and row.cell.controls * row.cell.latency_ms > SLOW_MS
                if row.who in workers and not (slow and number):
                    row.runs.append(workers[row.who].run(replace(row.cell, stub=url)))
            print(f"round {number + 1} of {rounds} done", file=sys.stderr)


def memory(pythons: dict[Who, Path], url: str, events: int) -> dict[Who, dict[str, Any]]:
    """Peak memory of a fresh process that mended so many drifts among ten controls."""
    found = dict[Who, dict[str, Any]]()
    for who, python in pythons.items():
        way, in_flight = {"ours": ("durable", 32), "peer": ("function", THREADS)}[who]
        with started(python, who) as worker:
            result = worker.run(Cell(way, "mend", 10, in_flight, 0, url, seconds=0, least=events))
        found[who] = {"peak_mib": round(result.peak_mib), "events": result.events, "in_flight": in_flight}
    return found


def first_event(pythons: dict[Who, Path], url: str, times: int) -> dict[Who, int]:
    """Milliseconds from the start of a process until its first drift is mended: interpreter, imports, token, all of it."""
    took: dict[Who, list[float]] = {who: [] for who in pythons}
    for _ in range(times):
        for who, python in pythons.items():
            began = time.perf_counter()
            with started(python, who) as worker:
                way = {"ours": "durable", "peer": "function"}[who]
                worker.run(Cell(way, "mend", 10, 1, 0, url, seconds=0, least=1, warm=False))
                took[who].append(1000 * (time.perf_counter() - began))
    return {who: round(statistics.median(found)) for who, found in took.items()}


def cold_import(python: Path, times: int, app: str = APP) -> dict[str, float]:
    """Milliseconds of importing the app and of what it stands on, each in fresh processes, in turns."""
    settings = {"GUARDRAIL_SUBSCRIPTIONS": SUBSCRIPTION, "PATH": os.environ.get("PATH", "")}
    took: dict[str, list[float]] = {BASE: [], app: []}
    for number in range(-(times > 1), times):
        for what, found in took.items():
            script = f"import time; t = time.perf_counter(); {what}; print(time.perf_counter() - t)"
            run = subprocess.run([python, "-c", script], cwd=ROOT, env=settings, capture_output=True, text=True, check=True)
            if number >= 0:             # the one before the first may still compile
                found.append(1000 * float(run.stdout))
    base, own = (statistics.median(took[what]) for what in (BASE, app))
    return {"base_ms": round(base, 1), "app_ms": round(own, 1), "ratio": round(own / base, 2)}


def environment(name: str, *wanted: str) -> Path:
    """The interpreter of an environment that holds `wanted` (arguments of pip install); made if it is not like that."""
    folder = ROOT / name
    python, stamp = folder / "bin/python", folder / ".ready"
    told = ((ROOT / word).read_text("utf-8") if (ROOT / word).is_file() else word for word in wanted)
    content = "\n".join((sys.version, *told))
    if not stamp.exists() or stamp.read_text("utf-8") != content:
        print(f"making {name}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "-qq", "--disable-pip-version-check", *wanted], cwd=ROOT, check=True)
        stamp.write_text(content, "utf-8")
    return python


def versions(python: Path) -> dict[str, str]:
    script = f"""if True:
        import json, platform
        from importlib.metadata import PackageNotFoundError, version
        found = {{"python": platform.python_version()}}
        for name in {SHOWN!r}:
            try: found[name] = version(name)
            except PackageNotFoundError: pass
        print(json.dumps(found))"""
    told = subprocess.run([python, "-c", script], capture_output=True, text=True, check=True).stdout
    return json.loads(told)  # type: ignore[no-any-return]


def machine() -> dict[str, Any]:
    lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor())
    return {"cores": os.cpu_count(), "cpu": model, "system": f"{platform.system()} {platform.machine()}",
            "load_at_start": round(os.getloadavg()[0], 1)}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.bench")
    parser.add_argument("--peer", action="store_true", help="install the peer into .venv-peer if it is not there")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one short round of ours alone, in this environment")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results.json")
    parser.add_argument("--page", type=Path, default=ROOT / "docs/explanation/performance.md")
    asked = parser.parse_args(arguments)

    here = Path(sys.executable)
    pythons: dict[Who, Path] = {"ours": here}
    imports = {"here": here}
    if not asked.quick:
        imports["deployed"] = environment(".venv-deployed", "-r", "requirements.txt")
        if asked.peer or (ROOT / ".venv-peer/.ready").exists():
            pythons["peer"] = environment(".venv-peer", *PEER)
    results: dict[str, Any] = {
        "at": datetime.now(UTC).date().isoformat(), "machine": machine(),
        "versions": {who: versions(python) for who, python in pythons.items()}}
    results["cold_import"] = {name: cold_import(python, 1 if asked.quick else 9) for name, python in imports.items()}
    if "peer" in pythons:
        results["cold_import"]["peer"] = cold_import(pythons["peer"], 9, PEER_APP)
    rows = list(cells(asked.quick))
    with started(here, "stub") as stub:
        url = stub.line()
        results["first_event_ms"] = {} if asked.quick else first_event(pythons, url, 5)
        results["memory"] = {} if asked.quick else memory(pythons, url, 200)
        measured(rows, pythons, url, 1 if asked.quick else asked.rounds)
    results["rows"] = [row.told() for row in rows if row.runs]
    asked.out.write_text(json.dumps(results, indent=1) + "\n", "utf-8")
    tables.write(asked.page, results)
    print(tables.rendered(results))


if __name__ == "__main__":
    main()
