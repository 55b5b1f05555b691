"""Faults inside a worker: its store fails before or after the work, conflicts, dawdles or is away (S18); nudges get lost
(S19); and the process dies at one of its own call boundaries (S20). The engine knows nothing of it."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections import Counter
from collections.abc import Mapping
from typing import Any

from guardrail.errors import Stale, StoreDown

CALLS = ("load", "commit", "send", "rules", "set_rules", "take", "reject", "early", "nudge")
WALKS = ("looks", "open_cases", "chains")
QUEUE = ("lost", "twice", "never")
ARM = ("read", "mount", "send")


class Unsteady:
    """What a worker is told to suffer: the shares of calls that meet a fault, and a death `die` boundaries from now."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.shares: Mapping[str, float] = {}
        self.die: int | None = None
        self.did = Counter[str]()

    def told(self, message: Mapping[str, Any]) -> None:
        self.shares = message.get("shares", self.shares)
        self.die = message.get("die", self.die)

    def meets(self, fault: str) -> bool:
        share = self.shares.get(fault, 0)
        if not share or self.dice.random() >= share:
            return False
        self.did[f"{'S19' if fault in QUEUE else 'S18'} {fault}"] += 1
        return True

    def boundary(self) -> None:
        """P1 to P14: between any two calls that leave something behind."""
        if self.die is not None:
            self.die -= 1
            if self.die < 0:
                os.kill(os.getpid(), signal.SIGKILL)


class Around:
    """A store, or ARM, as this worker meets it."""

    def __init__(self, inner: Any, unsteady: Unsteady, calls: tuple[str, ...], walks: tuple[str, ...] = ()) -> None:
        self._inner, self._unsteady, self._calls, self._walks = inner, unsteady, calls, walks

    def __getattr__(self, call: str) -> Any:
        found, unsteady = getattr(self._inner, call), self._unsteady
        if call in self._walks:
            async def walked(*args: Any) -> Any:
                if unsteady.meets("down"):
                    raise StoreDown("the store is away")
                async for one in found(*args):
                    yield one
            return walked
        if call not in self._calls:
            return found

        async def told(*args: Any, **options: Any) -> Any:
            unsteady.boundary()
            if self._walks:
                await self._before(call, args)
                if call == "send" and args[0].why == "due" and unsteady.meets("lost"):
                    return None                     # a nudge: the row is the truth
            result = await found(*args, **options)
            unsteady.boundary()
            if self._walks and unsteady.meets("fail_after_commit"):
                raise StoreDown("done, and the answer was lost")
            return result

        return told

    async def _before(self, call: str, args: tuple[Any, ...]) -> None:
        unsteady = self._unsteady
        if unsteady.meets("down") or unsteady.meets("fail_before"):
            raise StoreDown("the store does not answer")
        if unsteady.meets("slow"):
            await asyncio.sleep(unsteady.dice.uniform(0, 0.2))
        if call == "commit" and unsteady.meets("conflict"):
            raise Stale("another commit was faster")
