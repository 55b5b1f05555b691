"""What both sides share: the events, the meter, and the line protocol of a worker. Standard library only: the peer's
environment has nothing of ours.

A worker is a process that reads one Cell a line and answers each with one Result; bench.py asks.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

EVENT = Path(__file__).parent.parent / "recorded/events/subscription-write-eventgrid.json"
SUBSCRIPTION = "00000000-0000-0000-0000-000000000001"

Case = Literal["clean", "drift", "mend"]


@dataclass(frozen=True)
class Cell:
    """One measurement: `way` says how the worker does it, see there. For `seconds`, and for `least` events at least."""

    way: str
    case: Case
    controls: int
    in_flight: int
    latency_ms: int
    stub: str = ""
    seconds: float = 0.5
    least: int = 3
    warm: bool = True   # some events first, which are not counted: imports, connections, token
    later: bool = False


@dataclass(frozen=True)
class Result:
    """What one run of a cell cost; counts are the stub's own. `answered`: events that ended as their case wants it."""

    events: int
    answered: int
    wall_s: float
    cpu_s: float
    peak_mib: float
    reads: int
    writes: int
    versions: int
    later: int = 0      # reads an event within the next two minutes


class Events:
    """Events of one kind without end, each for a resource of its own, as Event Grid would send them."""

    def __init__(self) -> None:
        self._template = json.dumps(json.loads(EVENT.read_text("utf-8"))[0])
        self.told = 0

    def until(self, seconds: float, least: int) -> Iterator[tuple[str, str]]:
        """Events for so long, and so many at least."""
        end, first = time.perf_counter() + seconds, self.told
        while time.perf_counter() < end or self.told - first < least:
            yield self.next()

    def next(self) -> tuple[str, str]:
        """(event, resource id)"""
        self.told += 1
        name = f"st{self.told:07}"
        event = json.loads(self._template.replace("stmltrain", name))
        event |= {"id": str(uuid.uuid4()), "eventTime": datetime.now(UTC).isoformat().replace("+00:00", "Z")}
        return json.dumps(event), event["subject"]


def stub(url: str, settings: dict[str, Any] | None = None) -> dict[str, int]:
    """The stub's counters; with settings it begins anew."""
    body = None if settings is None else json.dumps(settings).encode()
    request = urllib.request.Request(f"{url}/stub", data=body, method="PUT" if settings else "GET")  # noqa: S310
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
        return json.loads(answer.read())  # type: ignore[no-any-return]


class Meter:
    """Around a run: wall and CPU time of this process with all its threads, and what the stub was asked."""

    def __init__(self, url: str) -> None:
        self._url, self._asked = url, stub(url)
        self._wall, self._cpu = time.perf_counter(), cpu_s()

    def stop(self, events: int, answered: int) -> Result:
        wall, cpu = time.perf_counter() - self._wall, cpu_s() - self._cpu
        asked = stub(self._url)
        if asked.get("unknown"):
            raise RuntimeError(f"{asked['unknown']} requests met no route of the stub")
        reads, writes, versions = (asked.get(name, 0) - self._asked.get(name, 0) for name in ("reads", "writes", "versions"))
        return Result(events, answered, wall, cpu, peak_mib(), reads, writes, versions)


def cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def peak_mib() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024 * 1024 if sys.platform == "darwin" else 1024)


def begin(cell: Cell) -> None:
    stub(cell.stub, {"latency_s": cell.latency_ms / 1000, "drift": cell.case != "clean"})


def work(run: Callable[[Cell], Result]) -> None:
    """Answers cells until stdin closes. What others print goes to stderr."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        print(json.dumps(asdict(run(Cell(**json.loads(line))))), file=out, flush=True)
