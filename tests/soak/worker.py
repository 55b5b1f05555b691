"""One worker of the soak: a process of its own with settings from its environment, as deployed, and the loop that answers.

    stdin    {"n": 7, "raw": "[...]"}            an event, or an array: answered when it is durable
             {"shares": {...}, "die": 12}        what it suffers from now on, see unsteady.py
    stdout   {"n": 7, "why": ""}                 acknowledged, or why not
             {"did": {...}}                      its faults, when it is told to stop (SIGTERM, or the end of stdin)
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import guardrail
from guardrail import app, logs, transport
from guardrail.arm import Budget
from guardrail.errors import Retryable, Stale
from guardrail.settings import read
from tests.flow.harness import narrowed
from tests.soak.clock import Clock
from tests.soak.hosted import Host, on_tables
from tests.soak.unsteady import ARM, CALLS, WALKS, Around, Unsteady


async def main(told: dict[str, Any]) -> None:
    clock = Clock(Path(told["clock"]), offset_s=told["offset_s"])
    if told["version"]:
        guardrail.__version__ = told["version"]
    # what the library and the transport measure on the wall is measured on the clock that runs faster
    transport.time = SimpleNamespace(time=clock.seconds)            # type: ignore[assignment]
    transport.REQUEST_TIMEOUT_S = transport.REQUEST_TIMEOUT_S / clock.speed      # type: ignore[assignment]
    logs.configure("error", sys.stderr)
    store = await on_tables(told["account"], clock) if told["account"] else None
    worker = narrowed(app.build(read(os.environ), store=store, clock=clock, budget=lambda: Budget(clock=clock.seconds)))
    unsteady = Unsteady(told["seed"])
    around: Any = Around(worker.store, unsteady, CALLS, WALKS)
    worker.store = worker.engine.store = around
    worker.engine.arm = Around(worker.engine.arm, unsteady, ARM)    # type: ignore[assignment]

    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    loop = Host(worker, store, clock, unsteady).run(stop) if store else worker.run(60 / clock.speed, stop)
    tasks = [asyncio.create_task(one) for one in (
        listen(worker, unsteady, stop), loop, sweep(worker, clock, told["sweep_every_s"]))]
    ended, _ = await asyncio.wait(tasks[:2], return_when=asyncio.FIRST_EXCEPTION)
    tasks[2].cancel()
    for task in ended:
        task.result()
    say(did=unsteady.did)
    await worker.close()


async def listen(worker: app.Guardrail, unsteady: Unsteady, stop: asyncio.Event) -> None:
    loop, reader = asyncio.get_running_loop(), asyncio.StreamReader(limit=2 ** 24)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    taken = set[asyncio.Task[None]]()
    ended = asyncio.create_task(stop.wait())
    while not stop.is_set():
        line = asyncio.create_task(reader.readline())
        await asyncio.wait((line, ended), return_when=asyncio.FIRST_COMPLETED)
        if not line.done() or not line.result():
            line.cancel()
            stop.set()
            break
        message = json.loads(line.result())
        if "raw" not in message:
            unsteady.told(message)
            continue
        task = asyncio.create_task(take(worker, message))
        taken.add(task)
        task.add_done_callback(taken.discard)
    await asyncio.gather(*taken)


async def take(worker: app.Guardrail, message: dict[str, Any]) -> None:
    try:
        await worker.intake(message["raw"])
        say(n=message["n"], why="")
    except Retryable as error:
        say(n=message["n"], why=type(error).__name__)


async def sweep(worker: app.Guardrail, clock: Clock, every_s: float) -> None:
    """As the timer trigger has it: a run that fails leaves its work to the next one."""
    while True:
        await asyncio.sleep(every_s / clock.speed)
        try:
            await worker.sweep()
        except (Retryable, Stale) as error:
            say(sweep=repr(error))


def say(**message: Any) -> None:
    print(json.dumps(message), flush=True)


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
