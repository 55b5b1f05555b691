"""The composition root, once a worker: settings, policy, store, ARM and the tables become one Guardrail.

The only module that knows detectors and remediators.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detectors import CONTROLS as CONTROLS
from guardrail import events, home, ids, logs, own, policy, policy_file, probe
from guardrail.errors import ConfigError, GuardrailError, Malformed, Retryable
from guardrail.ids import ResourceId
from guardrail.messages import TOLD
from guardrail.paths import fold as fold_text
from guardrail.settings import Settings
from guardrail.signing import Key, Keys, LocalKey, VaultKey
from guardrail.stores import Store
from guardrail.stores.signed import SignedStore
from guardrail.turn import Engine
from guardrail.values import Case, Change, Look, Record
from remediators import TYPES as TYPES

if TYPE_CHECKING:
    from guardrail.letters import Letters

ROOT = Path(__file__).resolve().parent.parent
MESSAGE_BYTES = 8 * 1024
IN_FLIGHT = 24                      # host.json: batchSize + newBatchThreshold
IDLE_S = 0.05
CRASHED_AGAIN_S = 30                # host.json: visibilityTimeout
TRIES = 5                           # host.json: maxDequeueCount
POISONED_S, POISONED_AGAIN_S = 3600.0, 300.0


def now() -> datetime:
    return datetime.now(UTC)


class Guardrail:
    """What the functions, the console and the CLI call. `engine` and `store` are there for those who only read."""

    def __init__(self, settings: Settings, engine: Engine, letters: Letters | None = None) -> None:
        self.settings, self.engine, self.letters = settings, engine, letters
        self.store = engine.store
        self._failures: dict[str, int] = {}

    def is_guarded(self, resource: ResourceId) -> bool:
        return ids.subscription(resource) in self.engine.subscriptions and not own.is_ours(self.engine, resource)

    async def intake(self, raw: bytes | str, *, queued: bool = False, late: bool = False) -> None:
        """One event or an array of them becomes Looks: durable before this returns. Neither reads nor decides.

        What is no event is recorded and skipped; the rest goes on. `late`: they were not delivered, but found among the
        dead letters. Errors: StoreDown.
        """
        now = self.engine.clock()
        found = events.from_queue(raw, now) if queued and isinstance(raw, bytes) else events.read(raw, now)
        looks = dict[str, Look]()
        for item in found:
            if isinstance(item, events.Rejected):
                await self.store.reject(item.raw, item.why)
            elif isinstance(item, Change) and own.is_probe(self.engine, item):
                if not late:
                    await probe.received(self.engine, item)
            elif isinstance(item, Change) and own.is_ours(self.engine, item.resource):
                await own.changed(self.engine, item)
            elif isinstance(item, Change):
                engine = self.engine
                for subject in events.subjects(item, engine.controls, engine.types, engine.subscriptions):
                    known = looks.get(ids.fold(subject))
                    changes = (*known.changes, item) if known else (item,)
                    looks[ids.fold(subject)] = Look(subject, "event", changes)
        for look in looks.values():
            await self.store.send(look)
            for change in look.changes:
                logs.line(
                    "change.received", resource_id=look.resource, operation=change.operation, event_id=change.event_id,
                    actor=change.actor, correlation_id=change.correlation_id, at=change.at)

    async def nudge(self, message: bytes | str) -> ResourceId:
        """The resource that a queue message names; nothing else is read from it. Errors: Malformed."""
        raw = message.encode() if isinstance(message, str) else message
        body = events.load(raw, limit=MESSAGE_BYTES)
        if not isinstance(body, Mapping) or body.get("v") != 1 or not isinstance(body.get("resource"), str):
            raise Malformed("not a message of ours")
        return ids.parse(body["resource"])

    async def nudged(self, message: bytes | str) -> None:
        """Answers the look that a queue message names, unless it is due only later. Errors: as nudge and answer."""
        resource = await self.nudge(message)
        if not await self.store.early(resource):
            await self.answer(resource)

    async def answer(self, resource: ResourceId) -> None:
        """Reconciles one resource; what can only be done later goes back into its row with its delay.

        Errors: StoreDown, and bugs: they leave the message to the queue.
        """
        from guardrail.reconcile import reconcile

        if not self.is_guarded(resource):
            return
        try:
            await reconcile(self.engine, resource)
        except Retryable as error:
            await self.engine.store.send(Look(resource, "due"), error.after_s)
            logs.line("look.retried", resource_id=resource, error=str(error), after_s=error.after_s)

    async def poisoned(self, message: bytes | str, count: int) -> None:
        """A look that failed to the queue's limit. It may have been the store, for minutes: it is put back, once an hour.

        Errors: as nudge, StoreDown.
        """
        resource = await self.nudge(message)
        if not self.is_guarded(resource):
            return
        if await self.store.take(f"poisoned/{ids.fold(resource)}", 1, POISONED_S):
            await self.store.send(Look(resource, "due"), POISONED_AGAIN_S)
            logs.line("look.retried", resource_id=resource, error="it failed too often", attempt=count,
                      after_s=POISONED_AGAIN_S)
        else:
            await self.stick(resource, "the look failed too often", count)

    async def stick(self, resource: ResourceId, error: str, count: int) -> None:
        """A look that failed too often: the row says so, the action stays open, a person sees it."""
        from dataclasses import replace

        case, look = await self.store.load(resource)
        engine = self.engine
        record = Record("look.poisoned", engine.clock(), "guardrail", "", engine.ceiling, engine.policy.hash,
                        {"error": error, "dequeue_count": count})
        await self.store.commit(replace(case, stuck=error[:500]), record, answered=look)
        logs.told(record, resource)

    async def tend(self) -> None:
        await self._tell(await self._tend())

    async def _tend(self) -> list[Case]:
        from guardrail.tend import tend

        cases = await tend(self.engine, probes=self.settings.probes)
        if self.letters is not None:
            taken = await self.letters.again(self.store, partial(self.intake, late=True))
            await home.count(self.engine, "letters", taken)
        return cases

    async def _tell(self, cases: Sequence[Case]) -> None:
        """After everything else, for receivers may be slow."""
        if cases:
            from guardrail.notify import deliver

            try:
                await deliver(self.engine, cases)
            except Exception as error:  # noqa: BLE001  what people are told holds up nothing
                logs.line("message.failed", error=repr(error), exc_info=error)

    async def sweep(self) -> None:
        from guardrail.sweep import sweep

        await sweep(self.engine)

    async def settle(self) -> int:
        """Answers every look that is due now; returns how many. With the SQLite store this stands for the queue."""
        looks = [look async for look in self.store.looks()]
        gate = asyncio.Semaphore(IN_FLIGHT)
        await asyncio.gather(*(self._one(look.resource, gate) for look in looks))
        return len(looks)

    async def _one(self, resource: ResourceId, gate: asyncio.Semaphore) -> None:
        key = ids.fold(resource)
        async with gate:
            try:
                await self.answer(resource)
                self._failures.pop(key, None)
            except Exception as error:  # noqa: BLE001  the edge of one item: the host's retries and poison queue in Azure
                count = self._failures[key] = self._failures.get(key, 0) + 1
                logs.line("look.retried", resource_id=resource, error=repr(error), attempt=count,
                         exc_info=error)
                if count >= TRIES and not isinstance(error, GuardrailError):
                    await self.stick(resource, f"{type(error).__name__}: {error}", count)
                else:
                    await self.store.send(Look(resource, "due"), CRASHED_AGAIN_S)

    async def run(self, tend_every_s: float = 60, stop: asyncio.Event | None = None) -> None:
        """The loop of a worker without a queue: due looks, and tend each minute.

        Ends by cancellation, or at rest once `stop` is set: requests in hand are finished first.
        """
        tended, telling = 0.0, asyncio.create_task(self._tell(()))
        try:
            while stop is None or not stop.is_set():
                try:
                    if asyncio.get_running_loop().time() - tended > tend_every_s:
                        cases = await self._tend()
                        if telling.done():      # beside the looks: a slow receiver holds up none
                            telling = asyncio.create_task(self._tell(cases))
                        tended = asyncio.get_running_loop().time()
                    if not await self.settle():
                        await asyncio.sleep(IDLE_S)
                except Retryable as error:      # the store did not answer
                    await asyncio.sleep(min(error.after_s, 5))
            await telling
        finally:
            telling.cancel()

    async def close(self) -> None:
        await self.engine.arm.clients.close()
        self.store.close()


def build(settings: Settings, *, store: Store | None = None, keys: Keys | None = None,
          clock: Callable[[], datetime] = now, budget: Callable[[], Any] | None = None) -> Guardrail:
    """A Guardrail from its settings, or with `store` and `keys` instead of theirs. Errors: ConfigError, before any event."""
    from azure.core.pipeline.transport import AioHttpTransport

    from guardrail import channels
    from guardrail.arm import Arm, Budget
    from guardrail.transport import Clients

    loaded = load_policy(settings.policy)
    # a proxy of the environment may stand before Azure, and never before a simulator on loopback
    transport = AioHttpTransport(use_env_settings=not settings.is_simulated)
    credential = _Credential()
    told = channels.connect(settings, credential)
    clients = Clients(settings.arm_endpoint, f"{settings.arm_audience}/.default", credential, transport)
    adopts = store is None and _is_older_than_its_key(settings)
    keys = keys or keys_of(settings, credential, transport)
    signed = SignedStore(store or _unsigned(settings, clock, credential, transport), keys, clock, adopts=adopts)
    engine = Engine(
        store=signed, keys=keys, arm=Arm(clients, budget or Budget), policy=loaded,
        channels=told, url=settings.url, is_simulated=settings.is_simulated,
        ceiling=settings.ceiling, controls=policy.enabled(CONTROLS, loaded),
        types={fold_text(type.name): type for type in TYPES}, clock=clock, subscriptions=settings.subscriptions,
        group=settings.group, principals=settings.principals)
    return Guardrail(settings, engine, _letters(settings, clock, credential, transport))


def _letters(settings: Settings, clock: Callable[[], datetime], credential: Any, transport: Any) -> Letters | None:
    """What could not be delivered; without a queue, only what Event Grid left in a container."""
    if not (settings.dead_letters or settings.has_tables):
        return None
    from guardrail.letters import Letters
    from guardrail.stores.account import Account

    return Letters(Account(credential, transport, clock), settings.dead_letters, settings.queue if settings.has_tables else "")


def load_policy(name: str) -> policy.Policy:
    """The policy in a file below the package; a missing one reports everywhere. Errors: ConfigError."""
    path = ROOT / name
    loaded = policy_file.load(path.read_bytes() if path.exists() else None, name)
    policy_file.check(loaded, CONTROLS, now())
    return loaded


def open_store(settings: Settings, clock: Callable[[], datetime] = now) -> SignedStore:
    """The store of the settings, signed and verified, for who needs no more than that. Errors: ConfigError, StoreDown."""
    adopts = _is_older_than_its_key(settings)
    credential = _Credential()
    keys = keys_of(settings, credential, None)
    return SignedStore(_unsigned(settings, clock, credential, None), keys, clock, adopts=adopts)


def keys_of(settings: Settings, credential: Any, transport: Any) -> Keys:
    """Key Vault's where the settings name them, else one in a file beside the SQLite file. Errors: ConfigError."""
    named = [settings.front_key, settings.hands_key]
    local = LocalKey(_key_path(settings)) if not all(named) else None
    front, hands = (local if local and not id else _vault_key(id, credential, transport) for id in named)
    return Keys(front, hands, settings.part)


def _vault_key(id: str, credential: Any, transport: Any) -> Key:
    from azure.core.pipeline.transport import AioHttpTransport

    return VaultKey(id, credential, transport or AioHttpTransport())


def _key_path(settings: Settings) -> Path:
    """Tables without a named key are an emulator's: see settings."""
    return ROOT / (".run/emulator.key" if settings.has_tables else Path(settings.store).with_suffix(".key"))


def _is_older_than_its_key(settings: Settings) -> bool:
    """Whether a SQLite file stands there from before there were keys: its rows are taken as they are, once."""
    return not settings.has_tables and (ROOT / settings.store).exists() and not _key_path(settings).exists()


def _unsigned(settings: Settings, clock: Callable[[], datetime], credential: Any, transport: Any) -> Store:
    """SQLite, or Azure's tables and queue: then with `credential` and `transport`, which stay their owner's to close.

    Errors: ConfigError, StoreDown.
    """
    if settings.has_tables:
        from azure.core.pipeline.transport import AioHttpTransport

        from guardrail.stores.azure import AzureStore

        try:
            return AzureStore(
                settings.store, settings.queue, credential, transport or AioHttpTransport(), clock,
                anchors=settings.anchors, bodies=settings.bodies, tells=_tells(settings))
        except ValueError as error:     # a token goes over https only, so says the SDK
            raise ConfigError("app settings", "GUARDRAIL_STORE", settings.store, "write https addresses.") from error
    from guardrail.stores.sqlite import SqliteStore

    path = ROOT / settings.store
    path.parent.mkdir(parents=True, exist_ok=True)
    return SqliteStore(path, clock, tells=_tells(settings))


def _tells(settings: Settings) -> frozenset[str]:
    """The events that people are told, if there is anybody to tell; front cannot know that, so hands take out its own."""
    is_told = settings.part == "front" or settings.topic or settings.teams or settings.slack or settings.webhook
    return TOLD if is_told else frozenset()


class _Credential:
    """The managed identity, made at the first token: azure-identity costs a quarter of a second to import."""

    def __init__(self) -> None:
        self._made: Any = None

    async def get_token(self, *scopes: str, **options: Any) -> Any:
        if self._made is None:
            from azure.identity.aio import ManagedIdentityCredential

            self._made = ManagedIdentityCredential()
        return await self._made.get_token(*scopes, **options)

    async def close(self) -> None:
        if self._made is not None:
            await self._made.close()
