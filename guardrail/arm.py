"""Azure Resource Manager as the engine sees it: read a document, list a collection, send a request. Budgeted.

Knows no service: what to read and where to write stands in the types' routes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any
from urllib.parse import quote

from azure.core.exceptions import AzureError, DeserializationError

from guardrail import errors
from guardrail.documents import Document
from guardrail.ids import ResourceId, ancestors, fold, subscription, type_of, url_path
from guardrail.paths import ABSENT, Each, parse
from guardrail.paths import fold as fold_text
from guardrail.plans import list_url
from guardrail.transport import Answer, Clients, in_time, mapped
from guardrail.values import Request, ResourceType, Route

GRAPH_VERSION = "2022-10-01"
RESOURCES_VERSION = "2021-04-01"
SUBSCRIPTION = "Microsoft.Resources/subscriptions"
GROUP = f"{SUBSCRIPTION}/resourceGroups"
LIST_ENTRIES = 10_000


class Budget:
    """ARM's own token bucket for reads, kept here so that we never run into its 429: 250, refilled with 25 a second.

    A fifth is kept for what is urgent: critical looks, applies, verifications.
    """

    RESERVE = 50

    def __init__(self, size: float = 250, refill_per_s: float = 25,
                 clock: Callable[[], float] = time.monotonic) -> None:
        self._size, self._refill, self._clock = size, refill_per_s, clock
        self._left, self._at, self._closed_until = size, clock(), 0.0

    def take(self, urgent: bool) -> None:
        """Errors: Throttled with the seconds until a token is there."""
        now = self._clock()
        self._left = min(self._size, self._left + (now - self._at) * self._refill)
        self._at = now
        least = 1.0 if urgent else 1.0 + self.RESERVE
        if now < self._closed_until:
            raise errors.Throttled("ARM asked to wait", after_s=self._closed_until - now)
        if self._left < least:
            raise errors.Throttled("the read budget is used up", after_s=max(1.0, (least - self._left) / self._refill))
        self._left -= 1

    def told(self, answer: Answer) -> None:
        """What ARM says is left counts, if it is less: others read with this identity too."""
        left = answer.headers.get("x-ms-ratelimit-remaining-subscription-reads", "")
        if left.isdecimal():
            self._left = min(self._left, float(left))

    def wait(self, after_s: float) -> None:
        self._closed_until = max(self._closed_until, self._clock() + after_s)


class Arm:
    """One endpoint and one identity. `reads` counts what was asked of ARM, for the record and the benchmarks."""

    def __init__(self, clients: Clients, budget: Callable[[], Budget] = Budget) -> None:
        self.clients = clients
        self._make_budget = budget
        self._budgets: dict[str, Budget] = {}
        self.reads = 0

    @property
    def object_id(self) -> str:
        """Who we are in Azure, folded; "" before the first request."""
        return self.clients.bearer.object_id

    async def read(self, type: ResourceType, id: ResourceId, parts: Collection[str] = (), *,
                   urgent: bool = False) -> Document:
        """The resource with these parts mounted: a GET each, at the versions of the type's table.

        404: a gone document. What was refused or cannot be used stands in `unreadable`. Errors: Retryable.
        """
        body, why = await self._part(type, id, Route(), urgent)
        document = Document(id, type.name, body, unreadable={"": why} if why else {})
        return await self.mount(type, document, parts, urgent=urgent)

    async def mount(self, type: ResourceType, document: Document, parts: Collection[str], *,
                    urgent: bool = False) -> Document:
        """The document with these parts mounted too; those that it has are not read again. Errors: Retryable."""
        if document.gone or "" in document.unreadable:
            return document
        routes = [route for route in type.routes if _name(route) in set(parts) - document.parts]
        got = await asyncio.gather(*(self._part(type, document.id, route, urgent) for route in routes))
        for route, (value, why) in zip(routes, got, strict=True):
            name = _name(route)
            if why:
                document = replace(document, unreadable={**document.unreadable, name: why})
            elif value is not ABSENT:
                document = replace(document, body={**document.body, name: value})
            document = replace(document, parts=document.parts | {name})
        return document

    async def _part(self, type: ResourceType, id: ResourceId, route: Route, urgent: bool) -> tuple[Any, str]:
        """(value, why it is unreadable) of the resource itself or of a mounted part."""
        version = route.api_version or type.api_version
        is_list = any(isinstance(segment, Each) for segment in parse(route.path))
        url = list_url(route, id) if is_list else route.url.replace("{id}", url_path(id))
        try:
            if is_list:
                return await self.list(url, version, subscription(id), urgent=urgent), ""
            answer = await self.get(url, version, subscription(id), urgent=urgent)
        except errors.Gone as error:
            return (ABSENT, "") if not is_list else (ABSENT, str(error))
        except errors.Final as error:
            return ABSENT if route.path else {}, str(error)
        if not isinstance(answer.body, Mapping):
            return {}, "the answer is not an object"
        return answer.body, ""

    async def get(self, url: str, api_version: str, subscription: str = "", *, urgent: bool = False) -> Answer:
        """One GET below the endpoint. Errors: Retryable, Final."""
        budget = self._budgets.get(subscription) or self._budgets.setdefault(subscription, self._make_budget())
        budget.take(urgent)
        self.reads += 1
        try:
            answer = await self.clients.send(Request("GET", url, api_version), {})
        except errors.Throttled as error:
            budget.wait(error.after_s)
            raise
        budget.told(answer)
        return answer

    async def list(self, url: str, api_version: str, subscription: str, *, urgent: bool = False) -> list[Any]:
        """All pages of a collection. A next link is followed on our endpoint only. Errors: Malformed past 10,000."""
        answer = await self.get(url, api_version, subscription, urgent=urgent)
        items = list[Any]()
        while True:
            page = answer.body if isinstance(answer.body, Mapping) else {}
            if not isinstance(page.get("value"), list):
                raise errors.Malformed("the answer is not a list")
            items += page["value"]
            following = page.get("nextLink")
            if len(items) > LIST_ENTRIES:
                raise errors.Malformed(f"more than {LIST_ENTRIES} entries")
            if not following:
                return items
            if not isinstance(following, str):
                raise errors.Malformed("nextLink is not a URL")
            self._budgets[subscription].take(urgent)
            self.reads += 1
            answer = await self.clients.call("GET", following)

    async def stands(self, id: ResourceId, type: ResourceType | None) -> bool:
        """Whether there is such a resource in our tenant. Errors: Retryable; Final where that cannot be told.

        A type of ours is read at its own version. Of others the topmost resource is looked up in its group's list, which
        has one version for all types (Resources_ListByResourceGroup, Microsoft.Resources 2021-04-01).
        """
        held_by = {type_of(above): one for one, above in pairwise(ancestors(id))}
        top, at = held_by.get(GROUP), subscription(id)
        try:
            if type is not None or type_of(id) in (GROUP, SUBSCRIPTION):
                await self.get(url_path(id), type.api_version if type else RESOURCES_VERSION, at, urgent=True)
                return True
            if top is None:
                raise errors.Malformed("it lies in no resource group, where it could be looked up")
            url = f"{url_path(top).rsplit('/', 4)[0]}/resources?$filter={quote(f'resourceType eq {type_of(top)!r}')}"
            listed = await self.list(url, RESOURCES_VERSION, at, urgent=True)
        except errors.Gone:
            return False
        return any(isinstance(one, Mapping) and fold_text(str(one.get("id"))) == fold(top) for one in listed)

    async def send(self, type: ResourceType, request: Request, client_request_id: str) -> Answer:
        """Carries out one request, by the type's SDK where it has one. Here alone Azure changes.

        Errors: the tree of guardrail.errors; Unanswered if a POST may have taken effect.
        """
        headers = {"x-ms-client-request-id": client_request_id}
        if request.if_match:
            headers["If-Match"] = request.if_match
        if type.send is None:
            return await self.clients.send(request, headers)
        try:
            async with in_time():
                answer: Answer = await type.send(self.clients, request, headers)
        except DeserializationError:            # taken, and told in a way that the SDK cannot parse: the next read decides
            return Answer(200, None, {})
        except (AzureError, ValueError) as error:
            raise mapped(error, request.method) from error
        return answer

    async def graph(self, query: str, subscriptions: Collection[str],
                    page: int = 1000) -> AsyncIterator[Mapping[str, Any]]:
        """The rows of a Resource Graph query, page by page: it nominates, a GET decides. Errors: Retryable, Final."""
        token = ""
        while True:
            rows, token, _ = await self.graph_page(query, subscriptions, token, page)
            for row in rows:
                yield row
            if not token:
                return

    async def graph_page(self, query: str, subscriptions: Collection[str], token: str = "",
                         page: int = 1000) -> tuple[Sequence[Mapping[str, Any]], str, bool]:
        """(rows, token of the next page or "", whether rows were left out without one). Errors: Retryable, Final."""
        options = {"$top": page, "resultFormat": "objectArray", **({"$skipToken": token} if token else {})}
        body = {"subscriptions": sorted(subscriptions), "query": query, "options": options}
        url = f"{self.clients.endpoint}/providers/Microsoft.ResourceGraph/resources?api-version={GRAPH_VERSION}"
        try:
            answer = await self.clients.call("POST", url, body)
        except errors.Unanswered as error:          # a query changes nothing: it may be asked again
            raise errors.Unavailable(str(error)) from error
        told = answer.body if isinstance(answer.body, Mapping) else {}
        rows, following = told.get("data"), told.get("$skipToken")
        if not isinstance(rows, list):
            raise errors.Malformed("the answer of Resource Graph has no rows")
        following = following if isinstance(following, str) else ""
        is_cut = not following and str(told.get("resultTruncated")).lower() == "true"
        return [row for row in rows if isinstance(row, Mapping)], following, is_cut


def _name(route: Route) -> str:
    """The name under which a route is mounted: "+diagnosticSettings"; "" for what the document itself holds."""
    path = parse(route.path)
    mounted = path and isinstance(path[0], str) and path[0].startswith("+") and len(path) <= 2
    return str(path[0]) if mounted else ""
