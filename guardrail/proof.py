"""Whether a plan's requests do what its edits say, and nothing else: before the write, and after it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from guardrail.documents import Document
from guardrail.errors import Unsafe
from guardrail.paths import ABSENT, Item, Path, get, parse, put, same, show, under
from guardrail.plans import Step, judge, key
from guardrail.values import COMMON, Control, Edit, Finding, Parameters, ResourceType

_PAIRED_BY = ("name", "id", "key")


def predict(document: Document, steps: Sequence[Step]) -> Document:
    """The document after the requests, from their bodies alone; for POST and `write=` from the edits."""
    body = document.body
    for step in steps:
        request, now = step.request, get(body, step.part)
        if step.route.write is not None or request.method == "POST":
            for edit in step.edits:
                body = put(body, parse(edit.path), edit.after)
        elif request.method == "DELETE":
            body = put(body, step.part, ABSENT)
        elif request.method == "PATCH":
            body = put(body, step.part, merge(now, request.body))
        else:
            server = _only(now, step.route.readonly)
            body = put(body, step.part, {**request.body, **server} if server else request.body)
            for name in step.route.readonly:
                if len(parse(name)) > 1 and (kept := get(now, parse(name))) is not ABSENT:
                    body = put(body, (*step.part, *parse(name)), kept)
    return replace(document, body=body)


def _only(value: Any, names: Sequence[str]) -> dict[str, Any]:
    """The top-level ones of `names` that `value` has, and what is mounted in it: a PUT of the resource leaves both."""
    plain = {name for name in names if len(parse(name)) == 1}
    return {name: value[name] for name in value if name in plain or name.startswith("+")} if isinstance(value, Mapping) else {}


def merge(now: Any, patch: Any) -> Any:
    """A JSON merge patch (RFC 7396) as ARM takes it: lists and tags are replaced."""
    if not isinstance(patch, Mapping):
        return ABSENT if patch is None else patch
    merged: Any = dict(now) if isinstance(now, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            merged = put(merged, (name,), ABSENT)
        elif name == "tags":
            merged = put(merged, (name,), value)
        else:
            merged = put(merged, (name,), merge(get(merged, (name,)), value))
    return merged


def edited(document: Document, edits: Sequence[Edit]) -> Document:
    body = document.body
    for edit in edits:
        body = put(body, parse(edit.path), edit.after)
    return replace(document, body=body)


def prove(document: Document, steps: Sequence[Step], controls: Sequence[Control],
          parameters: Callable[[Control], Parameters], *, loosens: bool = False) -> None:
    """Raises Unsafe unless the requests give exactly the document with the edits, and no prefix of them opens anything.

    That every edit lies under a route that allows it was checked by `steps`. `loosens` (undo, with people on record)
    skips the last check.
    """
    wanted = edited(document, [edit for step in steps for edit in step.edits])
    got = predict(document, steps)
    if not same(got.body, wanted.body):
        paths = ", ".join(sorted(show(moved.path) or "the resource" for moved in differences(wanted.body, got.body))[:5])
        raise Unsafe(f"the requests would not give the document with the edits: {paths}")
    if loosens:
        return
    before = {key(finding) for finding in judge(controls, document, parameters)}
    for count in range(1, len(steps) + 1):
        after = predict(document, steps[:count])
        for found in judge(controls, after, parameters):
            if key(found) not in before and not _only_measured(found, document, after, controls, parameters):
                raise Unsafe(f"request {count} of {len(steps)} would open {found.control} at {found.path or 'the resource'}")


def _only_measured(found: Finding, before: Document, after: Document, controls: Sequence[Control],
                   parameters: Callable[[Control], Parameters]) -> bool:
    """Whether it is found only because the plan mends what it is measured by: by the measure as it was, it is silent.

    What it finds was there before, and goes on as drift like any other: fixed or asked by its own mode, in a plan of its own.
    A measure that was put back may name another, which is put back too: the filter that was used before.
    """
    own = [control for control in controls if control.id == found.control]
    body, back = after.body, set[str]()
    still: Finding | None = found
    while still and still.drift and (measures := set(still.drift.measures) - back):
        for path in map(parse, sorted(measures)):
            body = put(body, path, get(before.body, path))
        back |= measures
        still = next((one for one in judge(own, replace(after, body=body), parameters) if key(one) == key(found)), None)
    return still is None


@dataclass(frozen=True, slots=True)
class Moved:
    """A value that is not what it was to be; `now` ABSENT: it is missing."""

    path: Path
    predicted: Any
    now: Any


def differences(one: Any, other: Any, path: Path = ()) -> Iterator[Moved]:
    """Where two documents differ, at the leaves; items of a list are paired by name, id or key, else it is one leaf."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        names = {**dict.fromkeys(one), **{name: None for name in other if get(one, (name,)) is ABSENT}}
        for name in names:
            yield from differences(get(one, (name,)), get(other, (name,)), (*path, name))
        return
    pair = _paired_by(one, other)
    if pair:
        for named in dict.fromkeys(Item(((pair, item[pair]),)) for item in (*one, *other)):
            yield from differences(get(one, (named,)), get(other, (named,)), (*path, named))
    elif not same(one, other):
        yield Moved(path, one, other)


def _paired_by(one: Any, other: Any) -> str:
    if not (isinstance(one, list) and isinstance(other, list)):
        return ""
    items = [*one, *other]
    for name in _PAIRED_BY:
        named = bool(items) and all(isinstance(item, Mapping) and isinstance(item.get(name), str) for item in items)
        if named and all(len({item[name].lower() for item in part}) == len(part) for part in (one, other)):
            return name
    return ""


def lost(type: ResourceType, predicted: Document, now: Document,
         steps: Sequence[Step]) -> tuple[list[Moved], list[Moved]]:
    """(what our writes lost, what others moved) between what was predicted and what stands there now.

    Missing from what a PUT or a `whole` object replaced: lost. Anything else: somebody else's movement around our write.
    What ARM itself writes may change, and a value may come back in another case or order.
    """
    gone, foreign = list[Moved](), list[Moved]()
    carried = [parse(edit.path) for step in steps for edit in step.edits]
    for moved in differences(predicted.body, now.body):
        unread = any(under(moved.path, parse(part)) for part in now.unreadable)
        if unread or any(under(moved.path, path) for path in carried) or _is_servers(type, moved):
            continue
        if moved.now is ABSENT and any(_replaces(step, moved.path) for step in steps):
            gone.append(moved)
        elif moved.predicted is not ABSENT or not _is_default(moved, steps):
            foreign.append(moved)
    return gone, foreign


def _is_servers(type: ResourceType, moved: Moved) -> bool:
    tail = moved.path
    for depth, segment in enumerate(moved.path):
        if isinstance(segment, Item):
            tail = moved.path[depth + 1:]
    if any(under(tail, parse(name)) for name in COMMON):
        return True
    if moved.now is ABSENT:
        return False
    for route in type.routes:
        depth = len(parse(route.path))
        inside = under(moved.path, parse(route.path))
        if inside and any(under(moved.path[depth:], parse(name)) for name in route.readonly):
            return True
    return any(under(moved.path, parse(name)) for name in type.busy)


def _replaces(step: Step, path: Path) -> bool:
    """Whether the step's request sends the place of `path` complete."""
    if not under(path, step.part):
        return False
    if step.request.method == "PUT":
        return True
    inner = path[len(step.part):]
    return step.request.method == "PATCH" and any(
        under(inner, parse(name)) and get(step.request.body, parse(name)) is not ABSENT
        for name in ("tags", *step.route.whole))


def _is_default(moved: Moved, steps: Sequence[Step]) -> bool:
    """A value that appeared inside what we created or put: the service filled in its default."""
    return any(under(moved.path, step.part) and step.request.method == "PUT" for step in steps)

