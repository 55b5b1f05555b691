"""How a message leaves: an Event Grid topic, a Teams workflow, a Slack webhook, a webhook of yours.

Each goes over https to the one address of its setting, once: no redirect is followed and nothing is tried again here. An
address is a secret (who knows it may post), so no error names it. A setting may hold a secret's id instead: it is read for each
message, so that the newest version counts. References of app settings would do that for us, but on Flex Consumption they
do not reach a closed vault (Azure Functions, Flex Consumption plan, considerations, 2025-05). Chats make links, mentions and
dates of what they are given, so whatever others wrote stands only where they do not, and is disarmed all the same.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from guardrail.errors import Unavailable
from guardrail.messages import Message, line
from guardrail.settings import IN_VAULT, Settings
from guardrail.transport import check_url
from guardrail.values import to_json

if TYPE_CHECKING:
    import aiohttp

CARD_BYTES = 25_000         # Teams refuses 28 KB (Microsoft Teams, limits of incoming webhooks)
SHOWN = 8                   # changes in a chat
HEADER, SECTION, FIELD = 150, 2900, 1900       # Slack, Block Kit: header 150 characters, section 3000, field of one 2000
EVENT_GRID = "https://eventgrid.azure.net"      # audience that azure-eventgrid 4.22 asks a token for


class Channel(Protocol):
    """One receiver."""

    @property
    def name(self) -> str:
        """Stands in the records, so it is never changed."""

    async def send(self, message: Message, now: datetime) -> None:
        """Taken by the receiver, which is not yet seen by anybody. Errors: Unavailable, or anything that a socket raises."""


def connect(settings: Settings, credential: Any) -> tuple[Channel, ...]:
    """The channels that the settings name."""
    proxy = not settings.is_simulated       # a proxy of the environment may stand before the Internet, not before loopback
    hooks = [Hook("teams", settings.teams, lambda message, *_: (to_json(card(message)), {}), proxy, credential),
             Hook("slack", settings.slack, lambda message, *_: (to_json(blocks(message)), {}), proxy, credential),
             Hook("webhook", settings.webhook, signed, proxy, credential, settings.webhook_key)]
    topic = [Topic(settings.topic, credential, settings.group, proxy)] if settings.topic else []
    return (*topic, *(hook for hook in hooks if hook.url))


@lru_cache(maxsize=1)
def _trusted() -> ssl.SSLContext:
    return ssl.create_default_context()


def _session(*, proxy: bool) -> aiohttp.ClientSession:
    """For one message: they are rare, and a connection that is kept is one to be looked after."""
    import aiohttp

    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=_trusted()), trust_env=proxy,
                                 cookie_jar=aiohttp.DummyCookieJar())


@dataclass(frozen=True, slots=True)
class Hook:
    """A POST of JSON. `body`: (message, now, key) -> bytes and headers of its own. `url`, `key`: as they are, or ids."""

    name: str
    url: str = field(repr=False)
    body: Callable[[Message, datetime, str], tuple[bytes, Mapping[str, str]]]
    proxy: bool = True
    credential: Any = field(default=None, repr=False)
    key: str = field(default="", repr=False)

    async def send(self, message: Message, now: datetime) -> None:
        from yarl import URL

        async with _session(proxy=self.proxy) as session:
            url, key = [await held(text, session, self.credential) for text in (self.url, self.key)]
            check_url(url, "https", urlsplit(url).netloc)
            body, headers = self.body(message, now, key)
            async with session.post(URL(url, encoded=True), data=body, allow_redirects=False,
                                    headers={"Content-Type": "application/json", **headers}) as answer:
                if not 200 <= answer.status < 300:
                    raise Unavailable(f"{self.name} answered {answer.status}")


async def held(text: str, session: aiohttp.ClientSession, credential: Any) -> str:
    """What a vault holds under `text` if that is a secret's id, else `text`. Errors: Unavailable.

    GET {id}?api-version=7.4 answers {"value"} (Key Vault REST, Get Secret); the scope is the cloud's vault service.
    """
    if not re.fullmatch(IN_VAULT, text, re.ASCII | re.IGNORECASE):
        return text
    at = urlsplit(text)
    token = await credential.get_token(f"https://{at.netloc.partition('.')[2]}/.default")
    async with session.get(text, params={"api-version": "7.4"}, allow_redirects=False,
                           headers={"Authorization": f"Bearer {token.token}"}) as answer:
        if answer.status != 200:
            raise Unavailable(f"the vault answered {answer.status} to {at.path}")
        found = (await answer.json(content_type=None)).get("value")
    if not isinstance(found, str) or not found.strip():
        raise Unavailable(f"the vault holds no text under {at.path}")
    return found.strip()


@dataclass(frozen=True, slots=True)
class Topic:
    """An Event Grid custom topic that takes CloudEvents 1.0, by managed identity (role EventGrid Data Sender)."""

    url: str
    credential: Any = field(repr=False)
    source: str
    proxy: bool = True
    name: str = "topic"

    async def send(self, message: Message, now: datetime) -> None:
        from azure.core.messaging import CloudEvent
        from azure.core.pipeline.transport import AioHttpTransport
        from azure.eventgrid.aio import EventGridPublisherClient

        check_url(self.url, "https", urlsplit(self.url).netloc)
        event = CloudEvent(
            source=self.source, type=event_type(message.kind), subject=message.resource_id or self.source, id=message.id,
            time=message.occurred_at, data=message.told())
        async with _session(proxy=self.proxy) as session:
            transport = AioHttpTransport(session=session, session_owner=False, use_env_settings=self.proxy)
            # SDK defaults would try three times and follow thirty redirects
            made: Any = EventGridPublisherClient
            await made(self.url, self.credential, transport=transport, retry_total=0, permit_redirects=False).send(event)


def event_type(kind: str) -> str:
    """approval.asked -> Guardrail.ApprovalAsked"""
    return f"Guardrail.{''.join(part.capitalize() for part in kind.split('.'))}"


# Bodies

def signed(message: Message, now: datetime, key: str) -> tuple[bytes, Mapping[str, str]]:
    """The common JSON, and a signature over time and body, so that nobody else can send one, nor an old one again."""
    body, at = to_json(message.told()), str(int(now.timestamp()))
    mac = hmac.new(key.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return body, {"Guardrail-Id": message.id, "Guardrail-Time": at, "Guardrail-Signature": f"v1={mac}"}


def harmless(text: str, length: int = 500) -> str:
    """What no client makes a link or a date of: URLs without their ://, {{DATE()}} and ${...} taken apart."""
    for armed, instead in (("://", "[:]//"), ("www.", "www[.]"), ("mailto:", "mailto[:]"), ("{{", "{ {"), ("${", "$ {")):
        text = text.replace(armed, instead)
    return line(text, length)


def facts(message: Message) -> list[tuple[str, str]]:
    """What a chat shows beside title and text."""
    who = ", ".join(str(one["object_id"]) for one in message.caused_by)
    found = (("Resource", message.resource_id), ("Caused by", who), ("Decided by", ", ".join(message.decided_by)),
             ("Controls", ", ".join(message.controls)), ("Mode", message.mode), ("Severity", message.severity),
             ("Action", f"{message.action_id} {message.plan_hash[:8]}".strip()), ("To do", message.must_do))
    return [(name, harmless(value)) for name, value in found if value]


def diff(message: Message) -> list[str]:
    """At most SHOWN lines."""
    lines = []
    for one in message.changes[:SHOWN]:
        now, wanted = (line(one[name], 80) if name in one else "nothing" for name in ("now", "wanted"))
        lines.append(harmless(f"{line(one['path'], 200)}: {now} => {wanted}"))
    return lines + ([f"and {len(message.changes) - SHOWN} more"] if len(message.changes) > SHOWN else [])


def card(message: Message) -> dict[str, Any]:
    """A Workflows message with an Adaptive Card 1.4.

    TextBlock, FactSet and fallbackText render Markdown links, TextRun does not, but dates in all of them: so every text
    is a TextRun (Adaptive Cards, text features).
    """
    def text(*runs: tuple[str, str]) -> dict[str, Any]:
        inlines = [{"type": "TextRun", "text": part, **({"weight": style} if style == "Bolder" else {}),
                    **({"fontType": style} if style == "Monospace" else {})} for part, style in runs]
        return {"type": "RichTextBlock", "inlines": inlines}

    button = [{"type": "Action.OpenUrl", "title": "Open", "url": url} for url in message.links.values()]

    def whole(*body: dict[str, Any]) -> dict[str, Any]:
        content = {"type": "AdaptiveCard", "version": "1.4", "msteams": {"width": "Full"}, "body": list(body),
                   "actions": button, "fallbackText": "A message of the guardrail that this client cannot show."}
        return {"type": "message",
                "attachments": [{"contentType": "application/vnd.microsoft.card.adaptive", "content": content}]}

    title = text((harmless(message.title, HEADER), "Bolder"))
    full = whole(title, text((harmless(message.text, SECTION), "")),
                 *(text((f"{name}: ", "Bolder"), (value, "")) for name, value in facts(message)),
                 *(text((one, "Monospace")) for one in diff(message)))
    return full if len(to_json(full)) <= CARD_BYTES else whole(title)


def blocks(message: Message) -> dict[str, Any]:
    """A Slack message. plain_text objects show Markdown as it is; &, < and > are control characters everywhere."""
    def plain(value: str, length: int) -> dict[str, Any]:
        escaped, room = "", harmless(value, length)
        for one in room:
            part = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}.get(one, one)
            if len(escaped) + len(part) > length:
                break
            escaped += part
        return {"type": "plain_text", "text": escaped, "emoji": False}

    body: list[dict[str, Any]] = [
        {"type": "header", "text": plain(message.title, HEADER)}, {"type": "section", "text": plain(message.text, SECTION)},
        {"type": "section", "fields": [plain(f"{name}: {value}", FIELD) for name, value in facts(message)]}]
    body += [{"type": "section", "text": plain(one, SECTION)} for one in diff(message)]
    body += [{"type": "actions", "elements": [{"type": "button", "text": plain("Open", 10), "url": url}]}
             for url in message.links.values()]
    body.append({"type": "context", "elements": [plain(f"{message.id} {message.kind}", FIELD)]})
    return {"text": plain(message.title, HEADER)["text"], "mrkdwn": False, "link_names": False, "unfurl_links": False,
            "unfurl_media": False, "blocks": body}
