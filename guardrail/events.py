"""What Event Grid delivers, reduced to Changes, and which resources each Change makes us look at. Pure: no clock.

Event Grid schema, CloudEvents 1.0 and Azure Resource Notifications are read. An event is a hint, never evidence:
nothing in it decides more than where to look, so everything but the resource may be missing or odd.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from guardrail import ids
from guardrail.errors import Malformed
from guardrail.ids import ResourceId
from guardrail.paths import fold
from guardrail.values import Change, Control, ResourceType, digest, to_json

MIB = 1024 * 1024
DEPTH = 64                          # nested lists and objects
ENTRIES = 10_000                    # in one list
ALL = "*"                           # as a part: read the whole document; no parts at all is the resource alone

_TOKEN = re.compile(r'"(?:[^"\\]+|\\.)*+"?|[\[\]{},]', re.DOTALL)     # an open string runs to the end: linear time
_NO_BRACKET = re.compile(r'"(?:[^"\\]+|\\.)*+"?|[^"\[\]{}]+', re.DOTALL)
_PAIR = re.compile(r"\[\]|\{\}")
_STEP = {"[": 1, "{": 1, "]": -1, "}": -1}
_INT = range(-(2**63), 2**64)
_SURROGATE = re.compile("[\ud800-\udfff]")
_GUID = re.compile(r"[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}")
_OPERATION = re.compile(r"[A-Za-z0-9._-]+(?:/[A-Za-z0-9._*-]+)+")
_KIND = re.compile(r"microsoft\.resources\.resource(write|delete|action)(success|failure|cancel)")
_NOTIFIED = {"microsoft.resourcenotifications.resources.createdorupdated": "write",
             "microsoft.resourcenotifications.resources.deleted": "delete"}
_HANDSHAKE = "microsoft.eventgrid.subscriptionvalidationevent"
_CLAIM = "http://schemas.microsoft.com/identity/claims/"
_CONTAINERS = ("microsoft.resources/subscriptions", "microsoft.resources/subscriptions/resourcegroups")
_TEXT_LENGTH = 512


@dataclass(frozen=True, slots=True)
class Rejected:
    """An item that is no event; recorded, and the rest of the batch goes on."""

    why: str
    raw: bytes


@dataclass(frozen=True, slots=True)
class Ignored:
    """A sound event that tells us nothing: not of Resource Manager, or of an operation that failed. Counted only."""

    why: str


def load(raw: bytes | str, limit: int = MIB, *, unique: bool = False) -> Any:
    """JSON from outside as Python values; `limit` in bytes, `unique` refuses duplicate keys. Errors: Malformed.

    What json.loads lets pass or chokes on is refused: more than 64 levels, NaN, 1e999, integers beyond 64 bits, lists
    of more than 10,000 entries. A lone surrogate, which UTF-8 cannot encode again, becomes its escape as text.
    """
    try:
        encoded = raw.encode("utf-8", "backslashreplace") if isinstance(raw, str) else raw
        if len(encoded) > limit:
            raise Malformed(f"larger than {limit} bytes")
        text = encoded.decode("utf-8-sig")
        if text.count("[") + text.count("{") > DEPTH and not _is_shallow(text):
            raise Malformed(f"nested deeper than {DEPTH} levels, or not balanced")
        value = json.loads(text, parse_constant=_refused, parse_int=_int, parse_float=_float,
                           object_pairs_hook=_unique if unique else None)
    except (ValueError, RecursionError) as error:
        raise Malformed(f"not JSON: {error}"[:300]) from error
    return _tidy(value) if "\\u" in text or text.count(",") >= ENTRIES else value


def _is_shallow(text: str) -> bool:
    """Whether nothing is left of the brackets when the innermost pairs have been taken away DEPTH times."""
    brackets = _NO_BRACKET.sub("", text)
    for _ in range(DEPTH):
        brackets = _PAIR.sub("", brackets)
    return not brackets


def _refused(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _int(text: str) -> int:
    if len(text) > 20 or int(text) not in _INT:
        raise ValueError("an integer beyond 64 bits")
    return int(text)


def _float(text: str) -> float:
    if not math.isfinite(float(text)):
        raise ValueError("a number beyond 64 bits")
    return float(text)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a key stands twice")
    return dict(pairs)


def _tidy(value: Any) -> Any:
    if isinstance(value, str):
        return _SURROGATE.sub(lambda found: f"\\u{ord(found[0]):04x}", value)
    if isinstance(value, list):
        if len(value) > ENTRIES:
            raise Malformed(f"a list of more than {ENTRIES} entries")
        return [_tidy(item) for item in value]
    if isinstance(value, dict):
        return {_tidy(key): _tidy(item) for key, item in value.items()}
    return value


def from_queue(body: bytes, now: datetime) -> list[Change | Ignored | Rejected]:
    """As `read`, of a queue message: plain JSON, or base64 where sender or host encoded it."""
    if body.lstrip()[:1] in (b"{", b"["):
        return read(body, now)
    try:
        return read(base64.b64decode(body.strip(), validate=True), now)
    except (binascii.Error, ValueError):
        return [Rejected("neither JSON nor base64", body)]


def read(raw: bytes | str, now: datetime) -> list[Change | Ignored | Rejected]:
    """One event or an array of them, in the order sent; `now` stands in for a missing time. Never raises."""
    encoded = raw.encode("utf-8", "backslashreplace") if isinstance(raw, str) else raw
    try:
        value = load(encoded)
    except Malformed as error:
        # what one event broke must not take the others with it
        parts = _split(encoded)
        return [_apart(part, now) for part in parts] if parts else [Rejected(str(error), encoded)]
    if value == []:
        return [Rejected("an empty batch", encoded)]
    return [_item(item, now) for item in (value if isinstance(value, list) else [value])]


def _split(raw: bytes) -> list[str]:
    """The texts of the items of an unreadable array; nothing if it is no array, unbalanced or too large."""
    text = raw.decode("utf-8", "surrogateescape").strip() if len(raw) <= MIB else ""
    if not text.startswith("["):
        return []
    parts, start, depth = list[str](), 1, 0
    for token in _TOKEN.finditer(text):
        depth += _STEP.get(token[0], 0)
        if depth == 0 or (depth == 1 and token[0] == ","):
            parts.append(text[start:token.start()])
            start = token.end()
        if depth == 0:
            break
    return parts if depth == 0 and start == len(text) and len(parts) <= ENTRIES else []


def _apart(part: str, now: datetime) -> Change | Ignored | Rejected:
    try:
        return _item(load(part), now)
    except Malformed as error:
        return Rejected(str(error), part.encode("utf-8", "surrogateescape"))


def _item(item: Any, now: datetime) -> Change | Ignored | Rejected:
    try:
        return _change(item, now)
    except Malformed as error:
        return Rejected(str(error), to_json(item))


def _change(item: Any, now: datetime) -> Change | Ignored:
    if not isinstance(item, dict):
        raise Malformed("not an object")
    named = item.get("eventType") or item.get("type")
    if not isinstance(named, str):
        raise Malformed("no event type")
    data = _object(item.get("data"))
    kind, verb = _KIND.fullmatch(fold(named)), _NOTIFIED.get(fold(named))
    if fold(named) == _HANDSHAKE:
        # the host answers those itself; one that gets here is somebody's, and its validationUrl is never fetched
        raise Malformed("a validation handshake is no event")
    if kind is None and verb is None:
        return Ignored(f"not an event of Resource Manager: {named[:100]}")
    # failed and cancelled operations count too: they may have taken half their effect, and a look costs one read
    verb = verb or (kind[1] if kind else "")
    resource = _resource(item.get("subject"), data.get("resourceUri"), _object(data.get("resourceInfo")).get("id"))
    claims = {fold(key): value for key, value in _object(data.get("claims")).items()}
    return Change(
        event_id=_text(item.get("id")) or digest(item)[:32],
        operation=_operation(data.get("operationName"), verb, resource),
        resource=resource,
        actor=_guid(claims.get(_CLAIM + "objectidentifier")) or _guid(claims.get("oid")),
        app=_guid(claims.get("appid")),
        correlation_id=_text(data.get("correlationId")),
        at=_time(item.get("eventTime") or item.get("time"), now),
    )


def _object(value: Any) -> dict[str, Any]:
    """An object, also one that came as JSON inside a string (seen in claims); else an empty one."""
    if isinstance(value, str) and value.startswith("{"):
        try:
            value = load(value)
        except Malformed:
            return {}
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) and len(value) <= _TEXT_LENGTH else ""


def _guid(value: Any) -> str:
    """A GUID in its usual spelling, "" for anything else."""
    if not isinstance(value, str) or not _GUID.fullmatch(fold(value)):
        return ""
    digits = fold(value).replace("-", "")
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def _resource(*candidates: Any) -> ResourceId:
    """The first that is an id; else the longest sound beginning: a bad tail must not hide what stands above it."""
    texts = [text for text in candidates if isinstance(text, str)]
    for text in texts:
        if ids.soundest(text) == text:
            return ids.parse(text)
    sound = [found for found in map(ids.soundest, texts) if found is not None]
    if not sound:
        raise Malformed("no resource id in subject or data")
    return max(sound, key=len)


def _operation(sent: Any, verb: str, resource: ResourceId) -> str:
    """The operation as sent; if it is missing or does not fit the event's own type, what that type says."""
    text = _text(sent)
    if _OPERATION.fullmatch(text) and fold(text).endswith("/" + verb):
        return text
    return f"{ids.type_of(resource)}/{verb}"


def _time(value: Any, now: datetime) -> datetime:
    """Event Grid sends up to seven decimals, which fromisoformat cuts to six. No zone is UTC."""
    try:
        at = datetime.fromisoformat(value)
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        return now


def subjects(change: Change, controls: Iterable[Control], types: Mapping[str, ResourceType],
             subscriptions: Collection[str] | None = None) -> Mapping[ResourceId, frozenset[str]]:
    """The guarded resources at or above the change, each with the parts that this operation's controls read.

    A type is guarded when a control is `on` it and `types` (folded name -> type) can read it; controls on "*" belong
    to every guarded type. An operation that no control of a type names re-reads everything (ALL): child types and
    other surfaces must not be a way round the triggers (A8). Groups and subscriptions, which stand above everything,
    are looked at only when they are the resource named or one of their own controls names the operation.
    Of subscriptions other than `subscriptions` (GUIDs, folded; None: any) nothing is looked at (B7).
    """
    if subscriptions is not None and ids.subscription(change.resource) not in subscriptions:
        return {}
    operation = _folded(change.operation)
    asked = dict[str, set[str]]()               # type -> parts; the types that are guarded at all
    named = set[str]()                          # types with a control that names the operation; "*" is one of them
    for control in controls:
        on = _folded(control.on)
        parts = asked.setdefault(on, set())
        if any(_folded(trigger) == operation for trigger in control.triggered_by):
            named.add(on)
            parts.update(control.also_reads)
    everywhere = asked.pop("*", set())
    found = dict[ResourceId, frozenset[str]]()
    for resource in ids.ancestors(change.resource):
        type = _folded(ids.type_of(resource))
        if type not in asked or type not in types:
            continue
        if type in _CONTAINERS and type not in named and resource != change.resource:
            continue
        is_named = type in named or "*" in named
        found[resource] = frozenset(asked[type] | everywhere) if is_named else frozenset({ALL})
    return found


_folded = lru_cache(maxsize=8192)(fold)
