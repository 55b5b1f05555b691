"""Keeps the rows of this release, so that every later one is held to reading them. Run by hand, once a release:

    python -m tools.golden_rows

Written to tests/data/rows/VERSION/, and never again: what was released is what it was. Until a release is out, remove its
folder to make it anew. Needs Azurite (make azurite).

    guardrail.db    a SQLite store after one evening: an action in each state that a row can hold, and every kind of row
    tables.json     the same evening in tables: {table: [entity]}; bytes are {"base64": "..."}
    evening.json    what stands in Azure then, the time, the policy, and {resource: state of its action} of both
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sqlite3
import sys
from base64 import b64encode
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

import recorded
from guardrail import __version__, anchors, audit, people, switches
from guardrail.ids import ResourceId
from guardrail.policy_schema import Freeze
from guardrail.values import Case, Look
from tests.azurite import running
from tests.flow.harness import COMPUTE, SSH_ON, STORAGE, Crash, laid, looked, restart, stand, watch, world
from tests.flow.test_people import APPROVER, ONCALL, POLICY
from tests.flow.world import DEV, PROD, Stores, World, type_of

TARGET = Path(__file__).resolve().parent.parent / "tests" / "data" / "rows"
PUBLIC, FLAPS = "storage-public-network-access", 50      # the breaker of tests.flow.world
BUDGET = f"blast/{DEV}/{PUBLIC}/someone"                  # two of three
OPEN = {"properties": {"publicNetworkAccess": "Enabled"}}
TABLES = ("cases", "open", "budgets")


def account(name: str, subscription: str = DEV) -> ResourceId:
    place = f"/subscriptions/{subscription}/resourceGroups/rg-ai-dev/providers"
    return ResourceId(f"{place}/{STORAGE}/st{name}")


async def drifted(here: World, name: str, subscription: str = DEV) -> ResourceId:
    """A storage account that an ml-engineer has just opened; nobody has looked yet."""
    id = here.stands(STORAGE, id=account(name), subscription=subscription)
    here.write("PATCH", id, OPEN)
    await here.deliver()
    return id


async def play(here: World) -> dict[ResourceId, str]:
    """One evening, after which a case is in every state; what state each is in."""
    engine, states = here.guardrail.engine, dict[ResourceId, str]()

    async def asked(name: str) -> tuple[ResourceId, Any]:
        id = await drifted(here, name, PROD)
        await here.settle()
        return id, (await here.case(id)).asked

    expired, _ = await asked("expired")
    states[expired] = "expired"
    await here.forward(9 * 3600, step=1800)

    until = here.clock() + timedelta(hours=8)
    freeze = Freeze(name="tonight", start=here.clock(), until=until, scope=account("frozen"))
    await switches.freeze(engine, freeze, ONCALL, "a migration")
    await engine.store.commit(Case(account("held"), wrote={f"flapping/{PUBLIC}": (here.clock(),) * FLAPS}))
    await engine.store.take(BUDGET, 3, 3600, 2)
    states[await drifted(here, "held")] = "held"
    states[await drifted(here, "verified")] = ""
    failed = await drifted(here, "failed")
    here.sim.faults.answer(f"PATCH {failed}", 403, "AuthorizationFailed")
    states[failed] = "failed"
    unknown = stand(here, laid(COMPUTE, SSH_ON))
    here.sim.faults.lose_answer(f"POST {unknown}/*", "500")
    states[unknown] = "unknown"
    await looked(here, unknown)
    here.sim.faults.clear()

    rejected, action = await asked("rejected")
    await people.reject(engine, rejected, action.id, ONCALL, "not tonight", "")
    states[rejected] = "rejected"
    states[(await asked("proposed"))[0]] = "proposed"
    await here.guardrail.intake(b"{no event")
    await anchors.write(engine.store, here.clock())
    approved, action = await asked("approved")

    applied = await drifted(here, "applied")
    here.sim.faults.stale(f"GET {applied}", ms=1e9)     # its effect is not seen yet
    await here.settle()
    states[applied] = "applied"
    applying = await drifted(here, "applying")
    await killed(here, applying)
    states[applying] = "applying"
    await restart(here, POLICY)
    for who in (APPROVER, ONCALL):      # two, while a freeze is on
        await people.approve(here.guardrail.engine, approved, action.id, action.plan.hash, who, "it may")
    states[approved] = "approved"
    here.clock.forward(60)
    await here.guardrail.store.send(Look(account("verified"), "sweep"), 3600)
    await anchors.write(here.guardrail.store, here.clock())
    return states


async def killed(here: World, id: ResourceId) -> None:
    """The worker dies before its first request."""
    async def hook(call: str, side: str) -> None:
        if (side, call) == ("before", "arm.send"):
            raise Crash

    watch(here.guardrail, hook)
    try:
        await here.guardrail.answer(id)
    except Crash:
        return
    raise AssertionError("the worker lived")


async def told(here: World, states: dict[ResourceId, str]) -> dict[str, Any]:
    """What stands in Azure and in the rows, the latter as it was meant to be."""
    stands = list[dict[str, Any]]()
    for id, state in states.items():
        case = await here.case(id)
        held = case.acting or case.asked
        assert (held.state if held else "") == state, f"{id}: {held and held.state} is not {state}"
        name = COMPUTE if "/computes/" in id else STORAGE
        for part, version, _ in recorded.resources(replace(recorded.good(name), id=id), type_of(name)):
            stands.append({"id": part, "api_version": version, "document": here.sim.document(part, version)})
    report = await audit.verify_store(here.guardrail.store)
    assert report.ok, report.broken
    return {"at": here.clock().isoformat(), "policy": POLICY, "records": report.records, "chains": report.chains,
            "stands": stands, "states": states}


def write_key(folder: Path) -> None:
    """The key that the rows are signed with, beside the SQLite file: always the same, and nobody's secret."""
    folder.mkdir(parents=True, exist_ok=True)
    number = int.from_bytes(hashlib.sha256(b"golden rows").digest(), "big")
    (folder / "guardrail.key").write_bytes(ec.derive_private_key(number, ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))


async def entities(here: World) -> dict[str, list[dict[str, Any]]]:
    """Every row of every table, as the SDK reads it."""
    signed: Any = here.guardrail.store
    found = {table: [dict(row) async for row in signed.inner._tables._table(table).list_entities()] for table in TABLES}
    return {table: [{name: plain(value) for name, value in row.items()} for row in rows] for table, rows in found.items()}


def plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return {"base64": b64encode(value).decode()}
    assert isinstance(value, (str, int, float, bool)), value
    return value


async def evening(folder: Path, store: Stores | None, then: Callable[[World], Awaitable[Any]]) -> tuple[dict[str, Any], Any]:
    write_key(folder)
    async with world(folder, POLICY, store=store) as here:
        states = await play(here)
        return await told(here, states), await then(here)


async def nothing(here: World) -> None:
    pass


def main() -> int:
    target = TARGET / __version__
    if target.exists():
        print(f"{target.relative_to(TARGET.parents[2])} is there: rows of a release are never written again")
        return 1
    with TemporaryDirectory() as name:
        folder = Path(name)
        seen, _ = asyncio.run(evening(folder, None, nothing))
        with running(folder / "azurite") as azurite:
            # anchors in a table, so that there is a row of them
            also, rows = asyncio.run(evening(folder / "tables", partial(azurite.account().stores, anchors=""), entities))
        assert seen["states"] == also["states"]
        target.mkdir(parents=True)
        with closing(sqlite3.connect(folder / "guardrail.db")) as db:
            db.execute("VACUUM INTO ?", (str(target / "guardrail.db"),))
    for file, content in (("tables.json", rows), ("evening.json", seen)):
        (target / file).write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")
    print(f"{target.relative_to(TARGET.parents[2])}: {seen['records']} records, {len(seen['states'])} resources")
    return 0


if __name__ == "__main__":
    sys.exit(main())
