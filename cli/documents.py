"""Documents from files and stdin, as values that controls can judge: offline, without Azure and without its SDKs.

Three forms: JSON lines `{"type", "api_version", "document"}`, the samples of recorded/, and what `az resource show`
(or `list`) prints. What cannot be used is told as a Problem, and the rest goes on.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cli.output import Code, Ended
from guardrail import events, ids
from guardrail.app import TYPES
from guardrail.documents import Document
from guardrail.errors import Malformed
from guardrail.paths import fold
from guardrail.values import ResourceType

DOCUMENT_BYTES = 4 * 1024 * 1024        # as the engine takes them from Azure
INPUT_BYTES = 512 * 1024 * 1024
BY_NAME: Mapping[str, ResourceType] = {fold(type.name): type for type in TYPES}


@dataclass(frozen=True, slots=True)
class Given:
    """A document and where it came from: "file.json", "stdin line 3"."""

    where: str
    type: ResourceType
    document: Document
    api_version: str        # "" where the form does not say


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is no document for us: an error in the input, or (`skipped`) sound and not ours to judge."""

    where: str
    why: str
    skipped: bool = False

    def __str__(self) -> str:
        return f"{'skipped' if self.skipped else 'error'}: {self.where}: {self.why}"


def read(source: str) -> Iterator[Given | Problem]:
    """From "-" (stdin), a file, or every *.json below a folder. Errors: Ended if there is nothing to read."""
    for where, raw in sources(source):
        yield from parse(where, raw)


def sources(source: str, what: str = "documents") -> Iterator[tuple[str, bytes]]:
    """(name, bytes) of what a path names. Errors: Ended."""
    if source == "-":
        yield "stdin", sys.stdin.buffer.read(INPUT_BYTES)
        return
    path = Path(source)
    files = sorted(path.rglob("*.json")) if path.is_dir() else [path]
    if not files:
        raise Ended(Code.USAGE, f"{source}: no *.json below this folder. cure: name {what}, a file, a folder or -.")
    for file in files:
        try:
            yield str(file), file.read_bytes()
        except OSError as error:
            reason = error.strerror or str(error)
            raise Ended(Code.USAGE, f"{file}: {reason}. cure: name {what}, a file, a folder or -.") from error


def parse(where: str, raw: bytes) -> Iterator[Given | Problem]:
    """One JSON value (an object, or a list of them), or JSON lines."""
    if not raw.strip():
        yield Problem(where, "empty")
        return
    try:
        whole = events.load(raw, limit=INPUT_BYTES)
    except Malformed as error:
        lines = raw.splitlines()
        found = [(f"{where} line {at}", _line(line)) for at, line in enumerate(lines, 1) if line.strip()]
        if len(found) > 1 and any(isinstance(value, dict) for _, value in found):
            for place, value in found:
                yield given(place, value)
        else:
            yield Problem(where, str(error))
        return
    if isinstance(whole, list):
        for at, item in enumerate(whole, 1):
            yield given(f"{where} item {at}", item)
    else:
        yield given(where, whole)


def _line(line: bytes) -> Any:
    try:
        return events.load(line, limit=DOCUMENT_BYTES)
    except Malformed as error:
        return error


def given(where: str, entry: Any) -> Given | Problem:
    """One entry of any of the three forms."""
    if isinstance(entry, Malformed):
        return Problem(where, str(entry))
    if not isinstance(entry, Mapping):
        return Problem(where, "not an object. cure: a resource as JSON, or {\"type\", \"api_version\", \"document\"}.")
    has_envelope = "document" in entry
    body = entry["document"] if has_envelope else entry
    if not isinstance(body, Mapping):
        return Problem(where, "document is not an object")
    try:
        id = ids.parse(entry.get("id") or body.get("id") or "")
    except Malformed as error:
        return Problem(where, f"id: {error}. cure: the document needs the resource's ARM id.")
    named = entry.get("type") or body.get("type") or ids.type_of(id)
    if not isinstance(named, str) or fold(named) != fold(ids.type_of(id)):
        return Problem(where, f"type is {named!r}, and the id is one of a {ids.type_of(id)}")
    type = BY_NAME.get(fold(named))
    if type is None:
        return Problem(where, f"no control reads a {named}", skipped=True)
    version = entry.get("api_version") if has_envelope else ""
    if has_envelope and not isinstance(version, str):
        return Problem(where, "api_version is missing: in which one was the document read?")
    if version and version != type.api_version:
        return Problem(where, f"told in api-version {version!r}, and the controls of {type.name} read "
                              f"{type.api_version}. cure: read it again in that version.", skipped=True)
    if not has_envelope and not isinstance(body.get("properties"), Mapping):
        return Problem(where, "no properties: another command's flat form. cure: az resource show --ids ID.")
    parts = frozenset(name for name in body if name.startswith("+"))
    return Given(where, type, Document(id, type.name, body, parts=parts), version or "")
