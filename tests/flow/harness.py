"""What tests do to the guardrail itself: stop it at any call (S20), take its store away (S18), run several (S22).

A worker's calls to store and ARM pass through `Points`, one wrapper around each; the engine knows nothing of it.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import recorded
from detectors import CONTROLS
from guardrail import app, policy_file
from guardrail.arm import Budget
from guardrail.errors import StoreDown
from guardrail.ids import ResourceId
from guardrail.ids import type_of as type_name
from guardrail.paths import get, parse
from guardrail.stores import Store
from guardrail.values import Control, Look
from tests.flow.world import ENFORCE, World, type_of
from tests.flow.world import world as whole_world

STORE = ("load", "commit", "send", "rules", "take", "add_anchor")     # what a look calls; intake calls `send`
ARM = ("read", "mount", "send")

STORAGE = "Microsoft.Storage/storageAccounts"
AI = "Microsoft.CognitiveServices/accounts"
VAULT = "Microsoft.KeyVault/vaults"
NSG = "Microsoft.Network/networkSecurityGroups"
ROLE = "Microsoft.Authorization/roleAssignments"
COMPUTE = "Microsoft.MachineLearningServices/workspaces/computes"
TYPES = (STORAGE, AI, VAULT, NSG, ROLE, COMPUTE)
"""What is guarded in these tests: one type of every shape of write, so that no other type's drift mixes in."""

Hook = Callable[[str, str], Awaitable[None]]            # ("store.commit", "before" | "after")


class Crash(BaseException):
    """The process is gone: nothing that it had in memory is ever done."""


class Points:
    """One object whose calls are told to a hook before and after; everything else is the object's own."""

    def __init__(self, inner: Any, name: str, calls: Sequence[str], hook: Hook) -> None:
        self._inner, self._name, self._calls, self._hook = inner, name, calls, hook

    def __getattr__(self, call: str) -> Any:
        found = getattr(self._inner, call)
        if call not in self._calls:
            return found

        async def told(*args: Any, **options: Any) -> Any:
            await self._hook(f"{self._name}.{call}", "before")
            result = await found(*args, **options)
            await self._hook(f"{self._name}.{call}", "after")
            return result

        return told


def watch(guardrail: app.Guardrail, hook: Hook) -> None:
    """From now on each call of this worker is told to `hook`."""
    store: Any = Points(guardrail.engine.store, "store", STORE, hook)
    arm: Any = Points(guardrail.engine.arm, "arm", ARM, hook)
    guardrail.store, guardrail.engine.store, guardrail.engine.arm = store, store, arm


def crash_at(guardrail: app.Guardrail, number: int) -> list[str]:
    """The worker dies at its call boundary `number` (from 0); the names of those that it passed, as it goes."""
    passed = list[str]()

    async def hook(call: str, when: str) -> None:
        passed.append(f"{when} {call}")
        if len(passed) > number:
            raise Crash(passed[-1])

    watch(guardrail, hook)
    return passed


def at(guardrail: app.Guardrail, call: str, when: str, do: Callable[[], Any], times: int = 1) -> None:
    """`do` (a call, or a coroutine function) at that boundary, the first `times`."""
    left = [times]

    async def hook(name: str, now: str) -> None:
        if (name, now) == (call, when) and left[0]:
            left[0] -= 1
            done = do()
            if isinstance(done, Awaitable):
                await done

    watch(guardrail, hook)


def store_fails(guardrail: app.Guardrail, call: str, when: str, times: int = 1, skip: int = 0) -> None:
    """S18: the store does not answer, before it did anything or after it did; the first `skip` calls are spared."""
    seen = [0]

    def fail() -> None:
        seen[0] += 1
        if seen[0] > skip:
            raise StoreDown("the store does not answer")

    at(guardrail, call, when, fail, times + skip)


def narrowed(guardrail: app.Guardrail) -> app.Guardrail:
    """The same worker, guarding TYPES alone."""
    guardrail.engine.types = {name: type for name, type in guardrail.engine.types.items() if type.name in TYPES}
    guardrail.engine.controls = tuple(one for one in guardrail.engine.controls if one.on in TYPES)
    return guardrail


@asynccontextmanager
async def world(folder: Path, policy: str = ENFORCE, **how: Any) -> AsyncIterator[World]:
    """tests.flow.world, narrowed."""
    async with whole_world(folder, policy, **how) as here:
        narrowed(here.guardrail)
        yield here


def budget(here: World) -> Callable[[], Budget]:
    """Read budgets that never run out, in the world's own time."""
    return lambda: Budget(1e9, 1e9, lambda: here.clock().timestamp())


def restarted(here: World, policy: str = ENFORCE) -> app.Guardrail:
    """Another worker on the same store and simulator, made as a new process would make it."""
    guardrail = app.build(here.guardrail.settings, store=here.open_store(), clock=here.clock, budget=budget(here))
    guardrail.engine.policy = policy_file.load(policy.encode(), "test policy")
    return narrowed(guardrail)


async def restart(here: World, policy: str = ENFORCE) -> None:
    """The world's worker is gone, and another one has taken its place."""
    old, here.guardrail = here.guardrail, restarted(here, policy)
    await old.close()


def plain_store(guardrail: app.Guardrail) -> Store:
    """The store without the points around it."""
    store: Any = guardrail.store
    while isinstance(store, Points):
        store = store._inner
    return store  # type: ignore[no-any-return]


def event(id: str, operation: str = "", **over: Any) -> dict[str, Any]:
    """What Event Grid would say of a successful write at `id`, or of the operation; `over` is laid over it."""
    name = operation or f"{type_name(ResourceId(id))}/write"
    verb = {"write": "Write", "delete": "Delete"}.get(name.rsplit("/", 1)[-1], "Action")
    data = {"resourceUri": id, "operationName": name, "status": "Succeeded", "correlationId": str(uuid.uuid4()),
            "claims": {}, **over.pop("data", {})}
    return {"id": str(uuid.uuid4()), "subject": id, "eventType": f"Microsoft.Resources.Resource{verb}Success",
            "topic": "/".join(id.split("/")[:3]), "eventTime": "2026-11-24T19:00:00Z", "dataVersion": "2",
            "metadataVersion": "1", "data": data, **over}


def stand(here: World, sample: recorded.Sample) -> ResourceId:
    """The resource and its mounted parts are exactly `sample` now, behind everyone's back."""
    type = type_of(type_name(sample.id))
    wanted = {url for url, _, _ in recorded.resources(sample, type)}
    for url, _, _ in recorded.resources(recorded.good(type.name), type):
        if url not in wanted:
            here.sim.faults.delete(url, quiet=True)
    for url, version, body in recorded.resources(sample, type):
        here.sim.seed(url, body, version)
    return sample.id


def control(id: str) -> Control:
    return next(one for one in CONTROLS if one.id == id)


def laid(type: str, *edits: Mapping[str, Any]) -> recorded.Sample:
    """The type's good document with these edits."""
    good = recorded.good(type)
    body = good.body
    for one in edits:
        body = recorded.laid(body, one)
    return replace(good, body=body)


HTTPS = "properties.supportsHttpsTrafficOnly"
NOT_HTTPS = control("storage-https-only").drift         # one PATCH of an account
SSH, RANGE = control("nsg-inbound-internet-management-ports").drift, control("nsg-inbound-internet-any").drift  # a DELETE each
JAILBREAK = control("openai-rai-policy-jailbreak").drift        # a PUT of what stands
SSH_ON = control("ml-compute-instance-ssh").drift       # a POST


async def looked(here: World, id: ResourceId, why: Any = "person") -> None:
    """Somebody asks for a look, and all that is due now is done."""
    await here.guardrail.store.send(Look(id, why))
    await here.settle()


def value(here: World, id: ResourceId, path: str) -> Any:
    return get(here.show(id), parse(path))


def methods(here: World, *, taken: bool | None = None) -> list[str]:
    """The writes that we sent; `taken`: only those that Azure took, or did not."""
    return [line.method for line in here.ours if taken is None or taken == (0 < line.status < 400)]


def rules(here: World, id: ResourceId) -> set[str]:
    """Names of the rules that stand in a network security group."""
    return {rule["name"] for rule in here.show(id)["properties"]["securityRules"]}
