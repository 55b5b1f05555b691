"""The hourly sweep: Resource Graph nominates, a GET decides. It leaves Looks and nothing else."""

from __future__ import annotations

import contextlib
from dataclasses import replace

from guardrail import breakers, ids
from guardrail.errors import Final, Malformed, Stale
from guardrail.ids import ResourceId
from guardrail.paths import fold as fold_text
from guardrail.stores import HOME
from guardrail.turn import Engine
from guardrail.values import Look, Record

TABLES = {"microsoft.authorization/roleassignments": "authorizationresources"}      # the others stand in `resources`
TRIES = 5


async def sweep(engine: Engine) -> None:
    """Looks at every guarded resource that Azure lists, and at every known one that it does not. Errors: Retryable."""
    began = engine.clock()
    listed = set[str]()
    unlisted = list[str]()
    for table in ("resources", *sorted(set(TABLES.values()))):
        try:
            async for row in engine.arm.graph(_query(engine, table), engine.subscriptions):
                resource = _id(row.get("id"))
                if resource is not None and ids.fold(resource) not in listed:
                    listed.add(ids.fold(resource))
                    await engine.store.send(Look(resource, "sweep"))
        except Final as error:
            unlisted.append(f"{table}: {error}")
    vanished = 0
    async for chain in engine.store.chains():
        known = chain.resource
        if known != HOME and ids.fold(known) not in listed and _is_guarded(engine, known):
            vanished += 1
            await engine.store.send(Look(known, "sweep"))
    took = engine.clock() - began
    record = Record(
        "sweep.finished", engine.clock(), "guardrail", "", engine.ceiling, engine.policy.hash,
        {"read": len(listed), "looked": len(listed) + vanished, "unlisted": vanished, "errors": unlisted,
         "took_s": round(took.total_seconds(), 3)})
    for _ in range(TRIES):
        case, _look = await engine.store.load(HOME)
        with contextlib.suppress(Stale):        # a reject or an anchor was recorded meanwhile
            counts = breakers.count(ResourceId(one) for one in listed)
            await engine.store.commit(replace(case, good={**case.good, breakers.KNOWN: counts}), record)
            return


def _query(engine: Engine, table: str) -> str:
    """Constant text but for type names, which come from our own table."""
    names = sorted(name for name in engine.types if TABLES.get(name, "resources") == table)
    types = ", ".join(f"'{name}'" for name in names)
    return f"{table} | where type in~ ({types}) | project id, type | order by id asc"


def _id(text: object) -> ResourceId | None:
    try:
        return ids.parse(text) if isinstance(text, str) else None
    except Malformed:
        return None


def _is_guarded(engine: Engine, resource: ResourceId) -> bool:
    return fold_text(ids.type_of(resource)) in engine.types and ids.subscription(resource) in engine.subscriptions
