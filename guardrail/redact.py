"""What must not be written down, taken out: a secret leaves "(set)" or "(changed)", and nothing where none was. Pure.

Three ways to know one: the type says so (`write_only`), its name says so, or the text itself looks like one.
References to secrets (ids, Key Vault addresses) and switches ("Enabled") are no secrets, and are what guards look at.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence, Set
from functools import lru_cache
from typing import Any

import msgspec

from guardrail.errors import Malformed
from guardrail.paths import ABSENT, fold, parse

SET, CHANGED = "(set)", "(changed)"

_DEEP = (r"(?:pass(?:word|wd|phrase)|pwd|secret|token|credential|authorization|cookie|connectionstring"
         r"|secure(?:string|value))")
_ENDS = rf"(?:{_DEEP}|key)s?\d?"
_NAME = re.compile(rf"{_ENDS}(?:value)?$")
_WHOLE = re.compile(rf"{_DEEP}s?\d?$")      # all below such a name is secret; below a key lie its name and source
_OPEN = re.compile(r"(?:public|partition|sort|row|routing|shard|dedup\w*|idempotency)keys?\d?$")
_WORDS = frozenset(("", "enabled", "disabled", "true", "false", "none", "null", "allow", "deny", "required", "optional",
                    "on", "off", "yes", "no", "notspecified", SET, CHANGED))
_REFERENCE = re.compile(r"/subscriptions/|@microsoft\.keyvault\(|https://[^/?#\s]+/(?:keys|secrets|certificates)/[\w/-]+$",
                        re.IGNORECASE)
_OPAQUE = re.compile(r"[A-Za-z0-9+/=_-]{20,}")

_HINT = re.compile(r"[=\"]|eyJ|-----BEGIN|\b(?:bearer|basic|sharedkey)\s", re.IGNORECASE)
_TEXTS: tuple[tuple[re.Pattern[str], str], ...] = tuple((re.compile(pattern, re.IGNORECASE | re.DOTALL), rest + SET)
                                                        for pattern, rest in (
    (r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)", ""),
    (r"\beyJ[\w-]{8,}(?:\.[\w-]*){1,4}", ""),
    (r"\b(bearer|basic|sharedkey)\s+[\w.~+/=:-]{8,}", r"\1 "),
    (r"\b(\w*(?:account_?key|accesskey|accesssignature|password|pwd|secret|instrumentationkey|api_?key)\s*=\s*)[^;,\s\"'&\\]+",
     r"\1"),
    (r"([?&](?:sig|code|\w*token|\w*secret|(?:[\w-]*-)?key|apikey)=)[^&\s\"'\\]+", r"\1"),
    # "primaryKey": "..." in text that did not parse, or in JSON within a string (its quotes escaped once or more)
    (rf"((\\*\")[\w.\- ]{{0,80}}?{_ENDS}\2\s*:\s*\2)(?!\(set\)).*?(?:(?<!\\)(?=\2)|$)", r"\1"),
))
_PAIRS = (("before", "after"), ("observed", "wanted"))


@lru_cache(maxsize=4096)
def is_secret_name(name: str) -> bool:
    """Whether a property of this name holds a secret: `primaryKey`, `DB_PASSWORD`; not `keyName`, `publicKey`."""
    plain = re.sub(r"[^a-z0-9]", "", fold(name))
    return bool(_NAME.search(plain)) and not _OPEN.search(plain)


def scrub(text: str) -> str:
    """`text` without what looks like a key, a token or a connection string; lone surrogates are escaped."""
    if not text.isascii():
        text = text.encode("utf-8", "backslashreplace").decode()
    if len(text) > 10 and _HINT.search(text):
        for pattern, instead in _TEXTS:
            text = pattern.sub(instead, text)
    return text


def redact(value: Any, write_only: Sequence[str] = ()) -> Any:
    """Plain JSON of `value` without its secrets. `write_only`: paths of the type, from where `value` begins."""
    return _walk(value, (), tuple(_names(path) for path in write_only))


def _names(path: str) -> tuple[str, ...]:
    """A path's names; which item of a list does not matter here."""
    try:
        return tuple(fold(segment) for segment in parse(path) if isinstance(segment, str))
    except Malformed:
        return ()


def _walk(value: Any, at: tuple[str, ...], hidden: tuple[tuple[str, ...], ...]) -> Any:
    if value is ABSENT or value is None or isinstance(value, (bool, float)):
        return value
    if hidden and any(at[: len(path)] == path for path in hidden if path):
        return SET
    if isinstance(value, str):
        return SET if at and _is_secret(at[-1], value) else scrub(value)
    if isinstance(value, int):
        if -(2**63) <= value < 2**63 and not (at and _WHOLE.search(at[-1])):
            return value
        return _walk(str(value), at, hidden)
    if isinstance(value, Mapping):
        return _mapping(value, at, hidden)
    if isinstance(value, Set):
        return sorted((_walk(item, at, hidden) for item in value), key=repr)
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray)):
        return [_walk(item, at, hidden) for item in value if item is not ABSENT]
    return _walk(msgspec.to_builtins(value), at, hidden)


def _is_secret(name: str, text: str) -> bool:
    if not is_secret_name(name) or fold(text) in _WORDS or _REFERENCE.match(text):
        return False
    return fold(name) not in ("key", "keys") or bool(_OPAQUE.fullmatch(text))     # a bare "key" mostly names something


def _mapping(value: Mapping[Any, Any], at: tuple[str, ...], hidden: tuple[tuple[str, ...], ...]) -> dict[str, Any]:
    place = _names(value["path"]) if isinstance(value.get("path"), str) else ()
    named = value.get("name", value.get("keyName"))
    result, is_deep = dict[str, Any](), bool(at and _WHOLE.search(at[-1]))
    for key, inner in value.items():
        below = at if is_deep else (*at, fold(str(key)))
        if place and any(key in pair for pair in _PAIRS):         # an edit, a drift: the value stands at its path
            below = place
        elif key == "value" and isinstance(named, str) and is_secret_name(named):     # an environment variable
            below = (*at, fold(named))
        clean = _walk(inner, below, hidden)
        if clean is not ABSENT:
            result[scrub(str(key))] = clean
    for before, after in _PAIRS:
        if place and result.get(before) == SET == result.get(after) and value.get(before) != value.get(after):
            result[after] = CHANGED
    return result
