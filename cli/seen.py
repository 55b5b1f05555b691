"""What doctor looks at, read at the edge: a plain dict of Azure's and the console's own answers. Nothing is written.

What could not be read stands in it as a NotSeen, so that a check says why it says nothing.
api-versions are those of infra/, found in the published types.
"""

from __future__ import annotations

import asyncio
import email.utils
from collections.abc import Awaitable, Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from cli import held
from cli.output import Ended
from guardrail.arm import RESOURCES_VERSION
from guardrail.errors import Denied, Gone, GuardrailError, Unavailable
from guardrail.ids import ResourceId, subscription, url_path
from guardrail.paths import fold

if TYPE_CHECKING:
    from cli.remote import Remote
    from guardrail.arm import Arm

WEB, STORAGE, VAULT, EVENTS = "2025-03-01", "2026-04-01", "2026-02-01", "2025-02-15"
TOPICS = "microsoft.resources.subscriptions"        # topicType of a subscription's own changes
QUEUES = ("events", "events-poison", "looks", "looks-poison")
STORES = {"tables": "tableServices/default/tables", "containers": "blobServices/default/containers"}
PAGES = ("/health", "/modes", "/audit/verify", "/event-path")
PARTS = ("front", "hands")

UNASKED = "Azure was not asked: the sign-in failed"

Seen = dict[str, Any]


class NotSeen(Exception):
    """Why something could not be looked at. `is_gone`: Azure says that there is none. `is_late`: it may answer yet."""

    def __init__(self, why: str, *, is_gone: bool = False, is_late: bool = False) -> None:
        super().__init__(why)
        self.is_gone, self.is_late = is_gone, is_late


def of(seen: Any, *names: str) -> Any:
    """What stands there. Raises the NotSeen that is found on the way."""
    for name in names:
        seen = seen.get(name, NotSeen(UNASKED)) if isinstance(seen, Mapping) else seen
        if isinstance(seen, NotSeen):
            raise seen
    return seen


def at(body: Any, *names: str) -> Any:
    """A value in somebody's answer; None where anything on the way is missing or is something else."""
    for name in names:
        body = body.get(name) if isinstance(body, Mapping) else None
    return body


async def azure(arm: Arm, group: ResourceId, named: Mapping[str, str], namespaces: Iterable[str], now: datetime) -> Seen:
    """What Resource Manager says of the deployment in a group. `named`: azd's values, GUARDRAIL_… without the prefix."""
    home = subscription(group)
    try:
        answer = await arm.get(f"/subscriptions/{home}", RESOURCES_VERSION, home)
    except GuardrailError as error:
        return {"subscription": NotSeen(str(error))}
    date = answer.headers.get("date", "")
    seen: Seen = {"subscription": answer.body, "clock": {"here": now, "azure": email.utils.parsedate_to_datetime(date)} if date
                  else NotSeen("the answer has no date")}
    audit = f"/subscriptions/{home}/resourceGroups/{named.get('AUDIT_GROUP') or group.rsplit('/', 1)[1] + '-audit'}"
    seen["own"] = (str(group), audit)
    sites, vaults, accounts = await asyncio.gather(
        _listed(arm, seen["own"][:1], "Microsoft.Web/sites", WEB, home),
        _listed(arm, seen["own"], "Microsoft.KeyVault/vaults", VAULT, home),
        _listed(arm, seen["own"], "Microsoft.Storage/storageAccounts", STORAGE, home))
    seen["accounts"] = accounts
    seen["sites"] = {part: _site(sites, part) for part in PARTS}
    seen["settings"] = {part: await _settings(arm, site) for part, site in seen["sites"].items()}
    seen["keys"] = await _children(arm, _only(vaults), "keys", VAULT)
    records, anchors = _account(seen, "records", named), _account(seen, "anchors", named)
    seen["records"], seen["anchors"] = records, anchors
    seen["queues"] = dict(zip(QUEUES, await asyncio.gather(*(
        _get(arm, records, f"queueServices/default/queues/{name}", STORAGE) for name in QUEUES)), strict=True))
    seen["store"] = {what: await _children(arm, records, path) for what, path in STORES.items()}
    seen["immutability"] = await _get(
        arm, anchors, "blobServices/default/containers/anchors/immutabilityPolicies/default", STORAGE)
    seen["guarded"] = _guarded(seen, named)
    guarded = () if isinstance(seen["guarded"], NotSeen) else seen["guarded"]
    seen["events"] = {one: await _tried(_events(arm, one)) for one in guarded}
    seen["roles"] = {part: {one: await _roles(arm, seen["sites"][part], one) for one in guarded} for part in PARTS}
    spaces = sorted(set(namespaces))
    seen["providers"] = dict(zip(spaces, await asyncio.gather(*(
        _tried(_body(arm, f"/providers/{one}", RESOURCES_VERSION, home)) for one in spaces)), strict=True))
    return seen


async def console(remote: Remote | None, why: str, pages: Iterable[str] = PAGES) -> Seen:
    """page -> {"status", "body"} of the console's API, with az's token; `why` there is no console to ask."""
    if remote is None:
        return {page: NotSeen(why) for page in pages}
    return {page: await _page(remote, page) for page in pages}


async def _page(remote: Remote, page: str) -> Any:
    raw = bytearray()
    try:
        status = await remote.send("GET", page, {}, b"", lambda _, piece: raw.extend(piece))
    except (Ended, GuardrailError) as error:
        return NotSeen(getattr(error, "words", "") or str(error), is_late=isinstance(error, Unavailable))
    try:
        return {"status": status, "body": msgspec.json.decode(bytes(raw))}
    except msgspec.DecodeError:
        return {"status": status, "body": None}


# Azure ---------------------------------------------------------------------------------------------------------------

async def _tried(asked: Awaitable[Any]) -> Any:
    try:
        return await asked
    except Gone as error:
        return NotSeen(str(error), is_gone=True)
    except Denied as error:
        return NotSeen(f"you may not look: {error}")
    except GuardrailError as error:
        return NotSeen(str(error))
    except (LookupError, TypeError, AttributeError) as error:
        return NotSeen(f"Azure's answer is not as its types say: {type(error).__name__}")


async def _listed(arm: Arm, groups: Iterable[str], type: str, version: str, home: str) -> Any:
    """All of a type in these groups, or why one of them cannot be looked into."""
    found = list[Any]()
    for one in groups:
        listing = await _tried(arm.list(f"{url_path(ResourceId(one))}/providers/{type}", version, home))
        if isinstance(listing, NotSeen):
            return listing
        found += listing
    return found


async def _body(arm: Arm, url: str, version: str, at: str) -> Any:
    return (await arm.get(url, version, at)).body


async def _get(arm: Arm, resource: Any, child: str, version: str) -> Any:
    """A child of what was found, or why that was not."""
    if isinstance(resource, NotSeen):
        return resource
    id = ResourceId(resource["id"])
    return await _tried(_body(arm, f"{url_path(id)}/{child}", version, subscription(id)))


async def _children(arm: Arm, resource: Any, children: str, version: str = STORAGE) -> Any:
    """All of a kind, or why their parent was not found."""
    if isinstance(resource, NotSeen):
        return resource
    id = ResourceId(resource["id"])
    return await _tried(arm.list(f"{url_path(id)}/{children}", version, subscription(id)))


def _only(listing: Any) -> Any:
    return listing if isinstance(listing, NotSeen) else listing[0] if listing else NotSeen(
        "there is no vault in our groups", is_gone=True)


def _site(sites: Any, part: str) -> Any:
    if isinstance(sites, NotSeen):
        return sites
    return next((one for one in sites if at(one, "tags", "azd-service-name") == part),
                NotSeen(f"no app in the group is tagged azd-service-name: {part}", is_gone=True))


async def _settings(arm: Arm, site: Any) -> Any:
    """Its app settings: an action, since they may hold secrets (WebApps_ListApplicationSettings)."""
    if isinstance(site, NotSeen):
        return site
    url = f"{arm.clients.endpoint}{url_path(ResourceId(site['id']))}/config/appsettings/list?api-version={WEB}"
    answer = await _tried(arm.clients.call("POST", url))
    if isinstance(answer, NotSeen):
        return answer
    found = at(answer.body, "properties")
    return found if isinstance(found, Mapping) else NotSeen("the answer holds no settings")


def _account(seen: Seen, what: str, named: Mapping[str, str]) -> Any:
    """The account that hands uses for it, else azd's: records by its queue, anchors by its container."""
    if isinstance(seen["accounts"], NotSeen):
        return seen["accounts"]
    setting, told = ("Work__queueServiceUri", "RECORDS_ID") if what == "records" else ("GUARDRAIL_ANCHORS", "ANCHORS")
    settings = seen["settings"]["hands"]
    address = "" if isinstance(settings, NotSeen) else str(settings.get(setting, ""))
    name = (urlsplit(address).hostname or "").partition(".")[0] or named.get(told, "").rpartition("/")[2]
    if not name:
        return NotSeen(f"which account holds the {what} is not known")
    return next((one for one in seen["accounts"] if fold(str(at(one, "name"))) == fold(name)),
                NotSeen(f"the account of the {what} is not in our groups", is_gone=True))


def _guarded(seen: Seen, named: Mapping[str, str]) -> Any:
    settings = seen["settings"]["hands"]
    told = named.get("GUARDED") or ("" if isinstance(settings, NotSeen) else str(settings.get("GUARDRAIL_SUBSCRIPTIONS", "")))
    found = tuple(fold(one.strip()) for one in told.split(",") if one.strip())
    return found or NotSeen("no guarded subscription is known: the settings of hands could not be read")


async def _events(arm: Arm, guarded: str) -> Any:
    """The event subscriptions of the subscription's system topic; Azure allows one topic."""
    topics = await arm.list(f"/subscriptions/{guarded}/providers/Microsoft.EventGrid/systemTopics", EVENTS, guarded)
    found = list[Any]()
    for topic in topics:
        if fold(str(at(topic, "properties", "topicType"))) == TOPICS:
            found += await arm.list(f"{url_path(ResourceId(topic['id']))}/eventSubscriptions", EVENTS, guarded)
    return found


async def _roles(arm: Arm, site: Any, guarded: str) -> Any:
    if isinstance(site, NotSeen):
        return site
    principal = at(site, "identity", "principalId")
    if not isinstance(principal, str):
        return NotSeen("the app has no identity of its own")
    return await _tried(held.roles_of(arm, principal, guarded))
