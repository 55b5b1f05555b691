"""What a command works on: a policy, the local store, or live resources. Each says so on stderr before anything else."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from cli.identities import GROUP
from cli.output import Code, Ended, say
from guardrail import app, ids, policy, policy_file
from guardrail.app import Guardrail
from guardrail.errors import ConfigError
from guardrail.settings import Settings
from guardrail.settings import read as read_settings
from guardrail.stores import HOME, Store
from guardrail.values import Case, Control, Decision, Finding

T = TypeVar("T")


def load_policy(name: str = "") -> policy.Policy:
    """From a file of the caller's, else GUARDRAIL_POLICY or guardrail.yaml of the package. Errors: ConfigError, Ended."""
    if not name:
        return app.load_policy(os.environ.get("GUARDRAIL_POLICY", "guardrail.yaml"))
    try:
        loaded = policy_file.load(Path(name).read_bytes(), name)
    except OSError as error:
        raise Ended(Code.BAD_POLICY, f"{name}: {error.strerror}. cure: name a policy file that can be read.") from error
    policy_file.check(loaded, app.CONTROLS)
    return loaded


def policy_text(loaded: policy.Policy) -> str:
    return f"policy {loaded.source} {loaded.hash[:8]}" if loaded.hash else "no policy file (everything is on, report only)"


def decide(finding: Finding, control: Control, loaded: policy.Policy, tags: Any) -> Decision:
    """What the policy says of a finding where nothing else lowers it: no ceiling, no switch, no actor."""
    place = policy.place(finding.resource, loaded)
    held = tags if isinstance(tags, Mapping) else {}
    return policy.decide(finding, control, place, held, loaded, policy.Rules(switch="policy"), "enforce", app.now())


def store_path() -> Path:
    """Of the local store. Errors: ConfigError for one that is no file."""
    name = os.environ.get("GUARDRAIL_STORE") or ".run/guardrail.db"
    if "://" in name:
        raise ConfigError("environment", "GUARDRAIL_STORE", name, "name a SQLite file: these commands work on a local one.")
    return app.ROOT / name


def shown_path(path: Path) -> str:
    """As short as it can be typed here."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def with_store(work: Callable[[Store], Awaitable[T]], *, announce: bool = True) -> T:
    """Runs `work` on the local store. Errors: Ended if there is none yet, StoreDown, Held."""
    path = store_path()
    if not path.exists():
        raise Ended(Code.UNFINISHED, f"no store at {shown_path(path)}. cure: guardrail run, or set GUARDRAIL_STORE.")
    store = app.open_store(Settings(frozenset(), store=str(path)))
    if announce:
        say(f"target: store {shown_path(path)}{_running_text()}")
    try:
        return asyncio.run(_awaited(work(store)))
    finally:
        store.close()


def with_guardrail(work: Callable[[Guardrail], Awaitable[T]], *, needs_run: bool = True) -> T:
    """Runs `work` with the engine that the embedded run has, on the same store: the same policy, Azure and people.

    Without a run: with what the environment says, if `needs_run` allows; then nothing of Azure is read. Errors: Ended.
    """
    path, run = store_path(), running()
    if not path.exists() or (run is None and needs_run):
        what = f"no embedded run on {shown_path(path)}, and nobody to carry anything out" if path.exists() else (
            f"no store at {shown_path(path)}")
        raise Ended(Code.UNFINISHED, f"{what}. cure: guardrail run, in another shell (--keep goes on with the last one).")
    say(f"target: store {shown_path(path)}{_running_text()}")
    return asyncio.run(_on_engine(work, run))


async def _on_engine(work: Callable[[Guardrail], Awaitable[T]], run: Running | None) -> T:
    if run is not None:
        made = settings(run.simulator, run.subscriptions, run.policy)
        os.environ.update(IDENTITY_ENDPOINT=f"{run.simulator}/msi/token", IDENTITY_HEADER="embedded")
    else:
        store = app.open_store(Settings(frozenset(), store=str(store_path())))
        try:
            known = frozenset({ids.subscription(case.resource) for case in await all_cases(store) if case.resource != HOME})
        finally:
            store.close()
        made = Settings(known, ceiling="enforce", approvers=GROUP, store=str(store_path()),
                        policy=os.environ.get("GUARDRAIL_POLICY", "guardrail.yaml"))
    guardrail = app.build(made)
    try:
        return await work(guardrail)
    finally:
        await guardrail.close()


def settings(simulator: str, subscriptions: Sequence[str], policy: str) -> Settings:
    """Of the embedded run, and of every command that works beside it."""
    return read_settings({
        "GUARDRAIL_SUBSCRIPTIONS": ",".join(subscriptions), "GUARDRAIL_CLOUD": simulator, "GUARDRAIL_APPROVERS": GROUP,
        "IDENTITY_ENDPOINT": f"{simulator}/msi/token", "GUARDRAIL_CEILING": "enforce", "GUARDRAIL_POLICY": policy,
        "GUARDRAIL_STORE": str(store_path())})


async def _awaited(work: Awaitable[T]) -> T:
    return await work


@dataclass(frozen=True, slots=True)
class Running:
    """An embedded run of this machine, as it left its mark beside the store."""

    pid: int
    simulator: str
    url: str
    subscriptions: tuple[str, ...]
    policy: str


def mark_path() -> Path:
    return store_path().with_suffix(".run.json")


def running() -> Running | None:
    """The embedded run on this store, if one is up."""
    try:
        found = msgspec.json.decode(mark_path().read_bytes(), type=Running)
        os.kill(found.pid, 0)
    except (OSError, msgspec.MsgspecError):
        return None
    return found


def _running_text() -> str:
    run = running()
    return f" (embedded run at {run.url})" if run else ""


async def all_cases(store: Store) -> list[Case]:
    return [(await store.load(chain.resource))[0] async for chain in store.chains()]
