"""Replays recorded sequences against the simulator and says where the two differ.

Compared: the status; whether Azure-AsyncOperation, Location and ETag come (an ETag's weakness too), and Retry-After
where it came; an error's code; the body, value by value, absent against null included. Not compared, since the service
makes them: dates, GUIDs that no client sent, values of ETags and URLs, letter case, systemData beyond being there, a
state that was caught before it had settled. What else cannot be compared stands in test_fidelity.py, with the reason.

    python -m tests.simulator.replay        the figures, and every difference that is left
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from simulator import Simulator
from simulator.ids import group_of, parent_of, subscription_of, type_of
from simulator.types import habits_of

DATA = Path(__file__).parent.parent / "data" / "exchanges"
GUID = re.compile(r"^\{?[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}\}?$")
DATE = re.compile(r"^\d{4}-\d\d-\d\dt\d\d:\d\d|^[a-z]{3}, \d\d [a-z]{3} \d{4}")
URL = re.compile(r"^https?://|\.(azure|windows|microsoft)\.(com|net|io)[:/]?")
TENANT = "b84e2d17-05c9-4f63-8a2e-d91f7c3065be"
"""The one made-up tenant of all recordings."""
UNSETTLED = ("creating", "updating", "provisioning", "accepted", "registeringdns", "deleting")


@dataclass(frozen=True, slots=True)
class Step:
    """One recorded call and what came of it. `headers`: aao, loc, etag (true or "weak"), retry (seconds)."""

    method: str
    path: str
    version: str
    sent: Any
    status: int
    headers: Mapping[str, Any]
    body: Any


@dataclass(frozen=True, slots=True)
class Sequence:
    """Calls on one resource in time order; `name` is the type in lower case and the line in its file."""

    type: str
    name: str
    source: str
    path: str
    steps: list[Step] = field(default_factory=list)


def sequences() -> Iterator[Sequence]:
    """All recorded sequences, in the order of the files."""
    for file in sorted(DATA.glob("*.jsonl")):
        type = file.stem.removeprefix("microsoft.")
        for line, text in enumerate(file.read_text(encoding="utf-8").splitlines()):
            told = json.loads(text)
            steps = [Step(method, told["path"] if path == "~" else path, *rest) for method, path, *rest in told["steps"]]
            yield Sequence(type, f"{type}#{line}", told["from"], told["path"], steps)


def replay(sequence: Sequence, outside: Mapping[str, str]) -> Iterator[tuple[int, list[str] | None]]:
    """Sends every step; gives its number and the differences, `path: recorded | ours`.

    `outside`: error codes that another resource's state decided; their steps are not sent and give None.
    """
    sim = Simulator(subscriptions=(subscription_of(sequence.path),), tenant=TENANT)
    sim.throttle.off()
    prepare(sim, sequence)
    said = said_by_clients(sequence)
    last = len(sequence.steps) - 1
    for number, step in enumerate(sequence.steps):
        code = error_code(step.body)
        if code in outside:
            yield number, None
            continue
        if step.status in (204, 404) and number == last > 0:
            clean_up(sim, sequence, code)
        answer = sim.request(step.method, step.path, step.sent, api_version=step.version)
        differences = list(compare_heads(sequence, step, answer.status, answer.headers))
        if step.status >= 400 and step.status == answer.status and error_code(answer.body) != code:
            differences.append(f"code: {code} | {error_code(answer.body)}")
        if step.status < 400 and answer.status < 400:
            differences += compare_bodies(step, answer.body, said)
        yield number, differences


def prepare(sim: Simulator, sequence: Sequence) -> None:
    """The world before the first step: its parents, and the resource itself where the recording starts with one."""
    first, path = sequence.steps[0], sequence.path
    sku = {"sku": first.body["sku"]} if isinstance(first.body, dict) and "sku" in first.body else {}
    sim.seed(parent_of(path), {"location": "westus", **sku})
    if first.method == "DELETE" and first.status in (200, 202):
        sim.seed(path, next(step.body for step in sequence.steps if isinstance(step.body, dict)), first.version)
    elif first.status == 200 and (first.method == "GET" or habits_of(type_of(path)).new.status != 200):
        sim.seed(path, first.body, first.version)


def said_by_clients(sequence: Sequence) -> set[str]:
    """Values that a client (or the state before the first step) said first: unlike the service's they must match."""
    mine, first = set(sequence.path.lower().split("/")), sequence.steps[0]
    theirs: set[str] = set()
    if first.method == "GET" and first.status == 200:
        mine |= words(first.body)
    for step in sequence.steps:
        mine |= words(step.sent) - theirs
        theirs |= words(step.body) - mine
    return mine


def clean_up(sim: Simulator, sequence: Sequence, code: str) -> None:
    """A 404 or 204 at the end is the recorded test's clean-up: group, parent or resource went, unseen in the file."""
    parent = parent_of(sequence.path)
    named = f"'{type_of(parent)}/{parent.rpartition('/')[2]}'".lower()
    if code == "ResourceGroupNotFound":
        sim.world.delete(group_of(sequence.path))
    elif code == "ParentResourceNotFound" or named in str(sequence.steps[-1].body).lower():
        sim.world.delete(parent)
    else:
        sim.world.delete(sequence.path)


def compare_heads(sequence: Sequence, step: Step, status: int, headers: Mapping[str, str]) -> Iterator[str]:
    """Status and the four headers. The operator's recorder dropped ETags: there a missing one says nothing."""
    if step.status != status:
        yield f"status: {step.status} | {status}"
    ours = {name.lower(): value for name, value in headers.items()}
    for kind, name in (("aao", "azure-asyncoperation"), ("loc", "location"), ("etag", "etag")):
        is_dropped = kind == "etag" and "azure-service-operator" in sequence.source and kind not in step.headers
        if (kind in step.headers) != (name in ours) and not is_dropped:
            yield f"{name} header: {kind in step.headers} | {name in ours}"
    if "retry" in step.headers and "retry-after" not in ours:
        yield "retry-after header: True | False"
    if "etag" in step.headers and "etag" in ours and (step.headers["etag"] == "weak") != ours["etag"].startswith("W/"):
        yield f"etag header: {step.headers['etag']} | {ours['etag']}"


def compare_bodies(step: Step, body: Any, said: set[str]) -> Iterator[str]:
    is_write = step.method != "GET"
    recorded, ours = dict(comparable(step.body, said, is_write)), dict(comparable(body, said, is_write))
    for key in sorted(recorded.keys() | ours.keys()):
        left, right = recorded.get(key, "-"), ours.get(key, "-")
        if not same(key, left, right):
            yield f"{key}: {left!r} | {right!r}"


def same(key: str, recorded: Any, ours: Any) -> bool:
    """Equal; or caught before it had settled; or an id that the recorders replaced in two ways."""
    if recorded == ours or (key.endswith("provisioningstate") and recorded in UNSETTLED):
        return True
    is_id = bool(GUID.match(str(ours)))
    return is_id and (recorded == "<guid>" or (key == "name" and bool(GUID.match(str(recorded)))))


def comparable(body: Any, said: set[str], is_write: bool) -> Iterator[tuple[str, Any]]:
    """Leaves by path, in the form in which they are compared."""
    for where, value in leaves(body):
        last = where.rsplit(".", 1)[-1]
        if where in ("", "tags") and not value:
            continue  # an empty body or none; no tags as {} or absent, which changed with the years
        if is_write and last == "provisioningstate":
            continue
        if where.startswith("systemdata"):
            yield "systemdata", True
        elif where == "location" and isinstance(value, str):
            yield where, value.replace(" ", "").lower()
        elif last == "etag":
            yield where, "<etag>"
        else:
            yield where, leaf(value, said)


def leaf(value: Any, said: set[str]) -> Any:
    if not isinstance(value, str):
        return value
    folded = value.lower()
    if DATE.search(folded):
        return "<date>"
    if GUID.match(folded) and folded not in said:
        return "<guid>"
    return "<url>" if URL.search(folded) and folded not in said else folded


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted path in lower case, value) of everything that holds nothing; empty objects and lists are values."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from leaves(inner, f"{path}.{key.lower()}" if path else key.lower())
    elif isinstance(value, list) and value:
        for index, inner in enumerate(value):
            yield from leaves(inner, f"{path}[{index}]")
    else:
        yield path, value


def words(body: Any) -> set[str]:
    return {str(value).lower() for _, value in leaves(body)}


def error_code(body: Any) -> str:
    """The code in Azure's envelope, or without one."""
    if not isinstance(body, dict):
        return ""
    inner = body.get("error", body)
    return str(inner.get("code", "")) if isinstance(inner, dict) else ""


if __name__ == "__main__":
    from tests.simulator import test_fidelity

    test_fidelity.main()
