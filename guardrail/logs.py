"""One line a transition: JSON as the message, for the Functions worker forwards nothing else; plain on a terminal.

The log is a copy and may be lost; the record in the store is the truth and is written first. What a line holds was
written by others: secrets are taken out, control characters shown, long values cut.
"""

from __future__ import annotations

import logging
import re
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

import msgspec

from guardrail.ids import ResourceId
from guardrail.redact import redact, scrub
from guardrail.values import Record

Level = Literal["debug", "info", "warning", "error"]

VALUE_LENGTH = 4096
ALWAYS: Mapping[str, Any] = {
    "resource_id": "", "action_id": "", "controls": [], "mode": "", "correlation_id": "", "actor": "", "outcome": "",
    "attempt": 0, "duration_ms": 0,
}
# error pages someone, warning is for today, info is the course of things
EVENTS: Mapping[str, Level] = {
    "change.received": "info", "change.seen": "info", "change.rejected": "warning",
    "finding.raised": "warning", "finding.cleared": "info", "decision.made": "info", "plan.refused": "warning",
    "action.proposed": "warning", "action.reminded": "warning",
    "action.held": "warning", "action.approved": "info", "action.rejected": "info",
    "action.expired": "warning", "action.superseded": "info", "action.applying": "info", "action.applied": "info",
    "action.verified": "info", "action.failed": "error", "action.unknown": "error", "action.rolled_back": "warning",
    "request.sent": "info", "verification.failed": "warning", "conflict.seen": "warning",
    "resource.quarantined": "warning", "resource.released": "warning", "resource.gone": "info",
    "breaker.tripped": "error",
    "exemption.asked": "info", "exemption.added": "warning", "exemption.removed": "info", "exemption.expired": "info",
    "exemption.expiring": "warning", "baseline.accepted": "info",
    "mode.asked": "info", "mode.switched": "warning", "freeze.set": "warning", "freeze.ended": "info", "policy.loaded": "info",
    "person.refused": "warning", "page.failed": "error", "wish.made": "info", "wish.refused": "warning",
    "look.poisoned": "error", "clock.skewed": "error", "look.retried": "info", "sweep.finished": "info",
    "probe.sent": "info", "probe.received": "info", "path.broken": "error", "path.restored": "info",
    "permission.lost": "error", "own.changed": "error", "own.reached": "error", "identity.misused": "error",
    "arm.throttled": "info",
    "message.sent": "info", "message.failed": "warning", "anchor.written": "info", "audit.broken": "error",
}

_log = logging.getLogger("guardrail")
_NUMBERS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_QUERY = re.compile(r"\?([^\s\"'<>\\?]*=[^\s\"'<>\\]*)")
_VERSION = re.compile(r"(?:\A|&)(api-version=[\w.-]+)", re.ASCII)


def configure(level: Level = "info", stream: TextIO | None = None) -> None:
    """Lines of `level` and above go to `stream`, readable on a terminal; without one to the worker's own handlers."""
    _log.setLevel(_NUMBERS[level])
    for handler in list(_log.handlers):
        _log.removeHandler(handler)
    _log.propagate = stream is None
    if stream is not None:
        handler = logging.StreamHandler(stream)
        handler.setFormatter(_Terminal() if stream.isatty() else logging.Formatter("%(message)s"))
        _log.addHandler(handler)


def line(event: str, *, exc_info: BaseException | None = None, **fields: Any) -> None:
    """One line, as severe as EVENTS says; a name that is not there is a warning. `exc_info` adds the traceback."""
    level = EVENTS.get(event, "warning")
    if not _log.isEnabledFor(_NUMBERS[level]):
        return
    if exc_info is not None:
        fields["exception"] = "".join(traceback.format_exception(exc_info))
    told = {"event": event, "at": fields.pop("at", None) or datetime.now(UTC), "severity": level, **ALWAYS, **fields}
    clean = {visible(str(name)): _safe(value, lines=name == "exception") for name, value in _redacted(told).items()}
    # no arguments for the logger to lay into the text: a % in a value is a %
    _log.log(_NUMBERS[level], "%s", msgspec.json.encode(clean, enc_hook=str).decode(), extra={"told": clean})


def told(record: Record, resource: ResourceId) -> None:
    """The line of a record that has been committed."""
    detail = {name: value for name, value in record.detail.items() if name not in ("event", "exc_info")}
    own = {"at": record.at, "resource_id": resource, "mode": record.mode, "actor": record.actor,
           "correlation_id": record.correlation_id, "outcome": record.event.rpartition(".")[2]}
    controls = detail.get("controls") or [detail[name] for name in ("control",) if name in detail]
    line(record.event, **{**detail, **own, "controls": controls})


def visible(text: str) -> str:
    r"""`text` with what does not show, or moves what does, spelled out: \x1b, \x0a, \u{202e}. Blanks stay."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else _spelled(ord(one)) for one in text)


def plain(text: str) -> str:
    """`text` in ASCII: also what looks like another letter is spelled out. For names that people tell apart by eye (D11)."""
    return visible(text) if text.isascii() else "".join(visible(one) if one.isascii() else _spelled(ord(one)) for one in text)


def _spelled(code: int) -> str:
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{{{code:x}}}"


def _redacted(event: Mapping[str, Any]) -> dict[str, Any]:
    """As plain JSON. A line must never fail for what stands in it."""
    try:
        cleaned: dict[str, Any] = redact(dict(event))
    except TypeError:
        cleaned = redact({name: _plain(value) for name, value in event.items()})
    return cleaned


def _plain(value: Any) -> Any:
    try:
        return redact(value)
    except TypeError:
        return scrub(str(value))


def _safe(value: Any, *, lines: bool = False) -> Any:
    """Strings made visible and cut; a larger structure than one value may be becomes the beginning of its JSON."""
    if isinstance(value, str):
        text = _QUERY.sub(lambda found: "?" + (version[1] if (version := _VERSION.search(found[1])) else "..."), value)
        return _cut("\n".join(map(visible, text.split("\n"))) if lines else visible(text))
    if isinstance(value, Mapping):
        value = {visible(str(name)): _safe(inner) for name, inner in value.items()}
    elif isinstance(value, list):
        value = [_safe(inner) for inner in value]
    else:
        return value
    text = msgspec.json.encode(value, enc_hook=str).decode()
    return value if len(text) <= VALUE_LENGTH else _cut(text)


def _cut(text: str) -> str:
    return text if len(text) <= VALUE_LENGTH else f"{text[:VALUE_LENGTH]} ... {len(text) - VALUE_LENGTH} more"


class _Terminal(logging.Formatter):
    """A person at a terminal needs no fields without a value."""

    def format(self, record: logging.LogRecord) -> str:
        told = {name: value for name, value in getattr(record, "told", {}).items() if value not in ("", [], 0, None)}
        head = f"{str(told.pop('at', ''))[11:19]} {told.pop('severity', ''):<7} {told.pop('event', '')}"
        trace = told.pop("exception", "")
        pairs = "  ".join(f"{name}={value}" for name, value in told.items())
        return "\n".join(filter(None, (f"{head:<40} {pairs}", trace)))
