"""The worker processes, and what an event's sender sees of them: acknowledged, or sent again to another one (S19, S20, S22)."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections import Counter
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
ANSWER_S = 30.0         # then an event counts as not acknowledged
OFFSETS_S = (0.0, -3.0, 3.0, 1.0)
VERSIONS = ("", "", "0.0.9")


class One:
    """A place in the crew: a process, and the one that takes its place."""

    def __init__(self, number: int, process: Process, errors: Any) -> None:
        self.number, self.process, self.errors = number, process, errors
        self.waiting = dict[int, asyncio.Future[str]]()
        self.ended = asyncio.Event()
        self.expected = False       # to end: we did it


class Crew:
    """`count` workers; `how`: what each is started with (clock, account, sweep_every_s); `did` adds up their faults."""

    def __init__(self, count: int, how: Mapping[str, Any], environment: Mapping[str, str], folder: Path,
                 dice: random.Random) -> None:
        self.count, self.how, self.environment, self.folder, self.dice = count, how, environment, folder, dice
        self.ones: list[One] = []
        self.did = Counter[str]()
        self.broken = list[str]()       # workers that ended by themselves, and what they said
        self._number = 0
        self._reading = set[asyncio.Task[None]]()
        self._doing = set[asyncio.Task[None]]()
        self._shares: Mapping[str, float] = {}

    async def start(self) -> None:
        self.ones = list(await asyncio.gather(*(self._start(number) for number in range(self.count))))

    async def _start(self, number: int) -> One:
        offset_s, version = OFFSETS_S[number % len(OFFSETS_S)], VERSIONS[number % len(VERSIONS)]
        self.did.update({"S21 clock": bool(offset_s), "S22 version": bool(version)})
        told = {**self.how, "offset_s": offset_s, "version": version, "seed": self.dice.randrange(10 ** 9)}
        errors = (self.folder / f"worker-{number}.log").open("ab")
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.soak.worker", json.dumps(told), stdin=PIPE, stdout=PIPE, stderr=errors, cwd=ROOT,
            env={**self.environment}, limit=2 ** 20)
        one = One(number, process, errors)
        task = asyncio.create_task(self._read(one))
        self._reading.add(task)
        task.add_done_callback(self._reading.discard)
        self._say(one, {"shares": self._shares})
        return one

    async def _read(self, one: One) -> None:
        assert one.process.stdout is not None
        while line := await one.process.stdout.readline():
            message = json.loads(line)
            if "n" in message and (future := one.waiting.pop(message["n"], None)) is not None and not future.done():
                future.set_result(message["why"])
            self.did.update(message.get("did", {}))
            self.did.update({"S18 sweep broken off": 1} if "sweep" in message else {})
        code = await one.process.wait()
        if not one.expected and code != -signal.SIGKILL:
            text = Path(one.errors.name).read_text("utf-8")[-3000:]
            self.broken.append(f"worker {one.number} ended by itself with {code}: {text}")
        for future in one.waiting.values():
            if not future.done():
                future.set_result("died")
        one.errors.close()
        one.ended.set()
        if not one.expected and not self.broken:            # it died as it was told to
            await self._replace(one)

    async def _replace(self, one: One) -> None:
        self.ones[self.ones.index(one)] = await self._start(one.number)

    def _say(self, one: One, message: Mapping[str, Any]) -> None:
        with suppress(ConnectionError):
            if one.process.stdin is not None and not one.process.stdin.is_closing():
                one.process.stdin.write(json.dumps(message).encode() + b"\n")

    # events

    async def tell(self, raw: str) -> None:
        """Until one of them has acknowledged it: as Event Grid and a queue do. Not while one is broken."""
        while not self.broken:
            one = self.dice.choice(self.ones)
            self._number += 1
            number, future = self._number, asyncio.get_running_loop().create_future()
            if one.ended.is_set():
                await asyncio.sleep(0.05)
                continue
            one.waiting[number] = future
            self._say(one, {"n": number, "raw": raw})
            try:
                why = await asyncio.wait_for(future, ANSWER_S)
            except TimeoutError:
                why = "late"
            one.waiting.pop(number, None)
            if not why:
                return
            self.did[f"not acknowledged: {why}"] += 1
            await asyncio.sleep(0.02)

    # faults

    def suffer(self, shares: Mapping[str, float]) -> None:
        """S18, S19: every worker, those to come too."""
        self._shares = shares
        for one in self.ones:
            self._say(one, {"shares": shares})

    def die_soon(self) -> None:
        """S20: one of them kills itself at one of its next call boundaries."""
        self.did["S20 crash at a call"] += 1
        self._say(self.dice.choice(self.ones), {"die": self.dice.randint(0, 40)})

    def end(self, how: signal.Signals) -> None:
        """S20: SIGKILL at any instant, or SIGTERM as a site update does it; another takes its place."""
        one = self.dice.choice(self.ones)
        if not one.expected and not one.ended.is_set():
            self.did[f"S20 {how.name}"] += 1
            one.expected = True
            self._signal(one, how)
            self._under_way(self._replaced(one))

    async def _replaced(self, one: One) -> None:
        try:
            await asyncio.wait_for(one.ended.wait(), 20)
        except TimeoutError:
            self._signal(one, signal.SIGKILL)       # it was paused, or will not stop: nothing needs a clean exit
            await one.ended.wait()
        await self._replace(one)

    def pause(self, seconds: float) -> None:
        """S20: it stands still, on the wall, and wakes up to a world that has moved on."""
        self.did["S20 pause"] += 1
        self._under_way(self._paused(self.dice.choice(self.ones), seconds))

    async def _paused(self, one: One, seconds: float) -> None:
        self._signal(one, signal.SIGSTOP)
        await asyncio.sleep(seconds)
        self._signal(one, signal.SIGCONT)

    def _signal(self, one: One, how: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            one.process.send_signal(how)

    def _under_way(self, doing: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(doing)
        self._doing.add(task)
        task.add_done_callback(self._doing.discard)

    async def calm(self) -> None:
        """Everybody is there and awake, and suffers nothing any more."""
        self.suffer({})
        await asyncio.gather(*self._doing)

    async def stop(self) -> None:
        await self.calm()
        for one in self.ones:
            one.expected = True
            self._signal(one, signal.SIGTERM)
        _, late = await asyncio.wait([asyncio.create_task(one.ended.wait()) for one in self.ones], timeout=20)
        for one in self.ones if late else ():
            self._signal(one, signal.SIGKILL)
        await asyncio.gather(*(one.ended.wait() for one in self.ones))
