"""Live resources for scan and plan: read through the engine's own Arm, with the caller's sign-in, and never written."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cli import target
from cli.documents import BY_NAME, Given, Problem
from cli.output import Code, Ended, say
from guardrail import ids
from guardrail.errors import GuardrailError, Malformed, Unavailable
from guardrail.ids import ResourceId
from guardrail.paths import fold
from guardrail.settings import read as read_settings
from guardrail.turn import Engine
from guardrail.values import Control

if TYPE_CHECKING:
    from guardrail.arm import Arm

AT_ONCE = 8
SOMEWHERE = "00000000-0000-0000-0000-000000000000"


@dataclass(frozen=True, slots=True)
class Token:
    """Stands for a sign-in at the simulator, which takes any token."""

    token: str = "simulated"     # noqa: S105
    expires_on: int = 2**40

    async def get_token(self, *_: str, **__: Any) -> Token:
        return self

    async def close(self) -> None:
        """Nothing is open."""


@dataclass(frozen=True, slots=True)
class SignIn:
    """az's sign-in, or a runner's own identity; without one it says what to do instead of what was tried."""

    credential: Any

    async def get_token(self, *scopes: str, **more: Any) -> Any:
        from azure.core.exceptions import ClientAuthenticationError

        try:
            return await self.credential.get_token(*scopes, **more)
        except ClientAuthenticationError as error:
            raise Unavailable("nobody is signed in to Azure here: az login") from error

    async def close(self) -> None:
        await self.credential.close()


def sign_in(authority: str) -> SignIn:
    """az first, as the console is asked: a machine of Azure has an identity that the rest would take before it."""
    from azure.identity.aio import AzureCliCredential, ChainedTokenCredential, DefaultAzureCredential

    rest = DefaultAzureCredential(exclude_interactive_browser_credential=True, authority=authority)
    return SignIn(ChainedTokenCredential(AzureCliCredential(), rest))


@asynccontextmanager
async def arm(cloud: str, subscription: str) -> AsyncIterator[Arm]:
    """ARM as the caller may see it: az's sign-in, or none at the simulator. Errors: ConfigError for an odd cloud."""
    from azure.core.pipeline.transport import AioHttpTransport

    from guardrail.arm import Arm
    from guardrail.transport import Clients

    environment = {"GUARDRAIL_SUBSCRIPTIONS": subscription or SOMEWHERE, "GUARDRAIL_CLOUD": cloud or "AzureCloud"}
    if cloud.startswith("http"):
        environment["IDENTITY_ENDPOINT"] = cloud
    settings = read_settings(environment)
    credential: Any = Token()
    if not settings.is_simulated:
        credential = sign_in(settings.authority)
    clients = Clients(settings.arm_endpoint, f"{settings.arm_audience}/.default", credential, AioHttpTransport())
    try:
        yield Arm(clients)
    finally:
        await clients.close()


def where(cloud: str, subscriptions: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """(cloud, subscriptions) as given; without a cloud those of a running embedded run."""
    run = target.running()
    if not cloud and not subscriptions and run is not None:
        return run.simulator, run.subscriptions
    return cloud, tuple(subscriptions)


def read(controls: Collection[Control], subscriptions: Sequence[str], group: str, named: Sequence[str], cloud: str,
         policy: str) -> list[Given | Problem]:
    """All guarded resources there, with the parts that these controls read. Errors: Ended, Final."""
    cloud, subscriptions = where(cloud, subscriptions)
    parsed = [ids.parse(one) for one in named]
    if not subscriptions and not parsed:
        raise Ended(Code.USAGE, "scan what? cure: DOCUMENTS (a file, a folder or -), --subscription ID, or --ids ID.")
    say(f"target: {cloud or 'AzureCloud'}, {', '.join(subscriptions) or 'the ids given'}, {policy}. Nothing is written.")
    return asyncio.run(_read(controls, subscriptions, group, parsed, cloud))


async def _read(controls: Collection[Control], subscriptions: Sequence[str], group: str, named: Sequence[ResourceId],
                cloud: str) -> list[Given | Problem]:
    async with arm(cloud, subscriptions[0] if subscriptions else ids.subscription(named[0])) as client:
        listed = list(named) or [one async for one in guarded(client, subscriptions)]
        wanted = [one for one in listed if not group or fold(ids.group(one)) == fold(group)]
        gate = asyncio.Semaphore(AT_ONCE)
        return list(await asyncio.gather(*(one(client, each, controls, gate) for each in wanted)))


async def guarded(client: Arm, subscriptions: Iterable[str]) -> AsyncIterator[ResourceId]:
    """What Resource Graph lists of the guarded types. Errors: Retryable, Final."""
    seen = set[str]()
    for table in ("resources", "authorizationresources"):
        async for row in client.graph(f"{table} | project id, type | order by id asc", list(subscriptions)):
            id = _id(row)
            if id is not None and fold(ids.type_of(id)) in BY_NAME and ids.fold(id) not in seen:
                seen.add(ids.fold(id))
                yield id


def _id(row: Mapping[str, Any]) -> ResourceId | None:
    try:
        return ids.parse(row.get("id", ""))
    except Malformed:
        return None


async def one(client: Arm, id: ResourceId, controls: Collection[Control], gate: asyncio.Semaphore) -> Given | Problem:
    type = BY_NAME.get(fold(ids.type_of(id)))
    if type is None:
        return Problem(id, f"no control reads a {ids.type_of(id)}", skipped=True)
    parts = Engine.parts_of([one for one in controls if one.on in ("*", type.name)])
    async with gate:
        try:
            document = await client.read(type, id, parts)
        except GuardrailError as error:
            return Problem(id, str(error))
    if document.gone:
        return Problem(id, "there is no such resource (404)")
    return Given(id, type, document, type.api_version)


async def named(client: Arm, name: str, subscriptions: Sequence[str]) -> ResourceId:
    """The resource of a short name. Errors: Ended if none or several have it."""
    listed = [one async for one in guarded(client, subscriptions)]
    return the_one(name, listed)


def the_one(name: str, listed: Sequence[ResourceId]) -> ResourceId:
    found = [one for one in listed if fold(ids.name_of(one)) == fold(name)]
    if len(found) > 1:
        raise Ended(Code.USAGE, f"{len(found)} resources are called {name!r}. cure: give the ARM id:\n  " + "\n  ".join(found))
    if not found:
        from cli.output import nearest

        raise nearest(name, [ids.name_of(one) for one in listed], "resource")
    return found[0]
