"""What our tables of controls and types say of Azure, each held against the published type: yields what is wrong, as
`place: what`. Used by test_schemas.py, where the exceptions stand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

import recorded
from detectors import CONTROLS
from guardrail import plans, proof, roles
from guardrail.documents import Document
from guardrail.paths import ABSENT, fold, get, parse, show
from guardrail.paths import Path as Place
from guardrail.plans import strip
from guardrail.values import COMMON, Control, Drift, Plan, ResourceType, Route
from remediators import TYPES
from tests import published
from tests.published import Published
from tests.watched import Asked, watched

BY_TYPE = {type.name: type for type in TYPES}
ACTING = [control for control in CONTROLS if control.response != "report"]


def settings(control: Control) -> Iterator[Mapping[str, Any]]:
    """The default parameters, then each yes or no the other way round: a check may look elsewhere then."""
    yield control.parameters
    for name, value in control.parameters.items():
        if isinstance(value, bool):
            yield {**control.parameters, name: not value}


@lru_cache(maxsize=1024)
def asked_by(id: str) -> Asked:
    """What a control, on its good document and on its drift, looks at."""
    control = next(one for one in CONTROLS if one.id == id)
    with watched() as asked:
        for document in (recorded.good(control.on).document, recorded.drifted(control).document):
            for parameters in settings(control):
                asked.drifts += control.check(document.node(), parameters)
    return asked


def of_route(type: ResourceType, route: Route) -> Published:
    return published.published(roles.resource(type, route), route.api_version or type.api_version)


def at(type: ResourceType, path: Place) -> tuple[Published, Place, Route]:
    """The published type that a path leads into, the rest of the path, and the part's route. Errors: KeyError."""
    if path and isinstance(path[0], str) and path[0].startswith("+"):
        route = next((one for one in type.routes if parse(one.path)[:1] == path[:1]), None)
        if route is None:
            raise KeyError(f"{type.name} has no part {path[0]}")
        return of_route(type, route), path[len(parse(route.path)):], route
    return published.published(type.name, type.api_version), path, Route()


def faults_of_path(type: ResourceType, path: Place) -> Iterator[str]:
    """Errors in a path of ours, which is spelled as the type spells it."""
    body, rest, _ = at(type, path)
    if not body.spots(rest, exact=True):
        yield f"{show(path)}: {'spelled otherwise' if body.spots(rest) else 'no such property'}"


def faults_of_value(type: ResourceType, path: Place, value: Any, *, exact: bool = True) -> Iterator[str]:
    """Errors in a value that we write at, or compare with, a place."""
    body, rest, _ = at(type, path)
    spots = body.spots(rest)
    kinds = {spot.schema.get("type") for spot in spots}
    kind = "boolean" if isinstance(value, bool) else "integer" if isinstance(value, int) else "string"
    known = [one for spot in spots for one in spot.values]
    if spots and kinds and None not in kinds and kind not in kinds:
        yield f"{show(path)}: {value!r} where {' or '.join(sorted(map(str, kinds)))} stands"
    elif kind == "string" and known and value not in known and (exact or value not in map(fold, known)):
        yield f"{show(path)}: {value!r} is none of {', '.join(dict.fromkeys(known))}"


def faults_of_operation(operation: str) -> Iterator[str]:
    """Errors in `Microsoft.X/type/child/write`. Names of actions are checked where the index has any: `unchecked`."""
    *parts, verb = operation.split("/")
    if verb not in ("read", "write", "delete", "action"):
        yield f"{operation}: no such verb"
    name = "/".join(parts[:-1] if verb == "action" else parts)
    known = published.index().get(fold(name))
    if known is None:
        yield f"{operation}: no such type"
    elif known.name.split("/")[1:] != name.split("/")[1:]:                  # the index spells some namespaces both ways
        yield f"{operation}: spelled {known.name}"


def unchecked(operation: str) -> bool:
    """Whether an action is one that the index does not list: it lists those that answer with something."""
    *parts, name, verb = operation.split("/")
    known = published.index().get(fold("/".join(parts)))
    return verb == "action" and (known is None or fold(name) not in map(fold, known.actions))


def permissions(control: Control) -> list[str]:
    return [one.action for one in roles.permissions(control, {fold(type.name): type for type in TYPES})]


@lru_cache(maxsize=256)
def faults_of_type(name: str) -> tuple[str, ...]:
    return tuple(_faults_of_type(BY_TYPE[name]))


def _faults_of_type(type: ResourceType) -> Iterator[str]:
    own = published.published(type.name, type.api_version)
    told = (*type.busy.items(), *type.stops.items())
    places = [(type.born, None), *((path, value) for path, values in told for value in values)]
    for path, value in places:
        yield from faults_of_path(type, parse(path))
        yield from faults_of_value(type, parse(path), value) if value else ()
    for path in type.dependants:
        yield from faults_of_path(type, parse(path))
        if not path.startswith("+") and not all(spot.schema.get("type") == "array" for spot in own.spots(path)):
            yield f"{path}: no list"
    bodies = (own, *(of_route(type, route) for route in written(type)))
    for name, version in dict.fromkeys((body.name, body.version) for body in bodies):
        yield from faults_of_operation(f"{name}/read")
        newest = published.index()[fold(name)].newest
        if version != newest:
            yield f"{name}@{version}: {newest} is newer"
    for route in type.routes:
        yield from (f"{fault} ({route.path or 'itself'})" for fault in faults_of_route(type, route))


def written(type: ResourceType) -> list[Route]:
    """The routes that write a document; those of actions have none."""
    return [route for route in type.routes if "{action}" not in route.url]


def faults_of_route(type: ResourceType, route: Route) -> Iterator[str]:
    """What it says of properties, and whether the good document could be sent back as it says."""
    if "{action}" in route.url:
        for value in route.actions:
            yield from faults_of_value(type, parse(route.path), value)
        return
    body = of_route(type, route)
    for name in route.readonly:
        spots = body.spots(name, exact=name not in COMMON)
        if not spots and name not in COMMON:
            yield f"{name}: no such property"
        if not all(spot.readonly for spot in spots):
            yield f"{name}: is not read-only"
    secrets = body.secrets()
    yield from (f"{name}: is neither write-only nor a secret" for name in route.write_only if name not in secrets)
    if route.update == "PUT":
        yield from (f"{name}: may be left out by GET, and is not in write_only" for name in secrets
                    if name not in route.write_only)
    if route.etag and not body.spots("etag"):
        yield "etag: no such property"
    for name in route.whole:
        spots = body.spots(name, exact=True)
        if not spots or any(spot.schema.get("type") != "object" for spot in spots):
            yield f"{name}: no object"
    for part in parts(type, route):
        if route.update == "PUT" or route.create:
            yield from body.faults(strip(part, route.readonly), sent="PUT")
        for name in route.whole:
            yield from body.faults(get(strip(part, route.readonly), parse(name)), sent="PUT", at=name)


def parts(type: ResourceType, route: Route) -> Iterator[Any]:
    """The parts of the good document that a route writes."""
    body = recorded.good(type.name).body
    found = [body if route.path else {name: value for name, value in body.items() if not name.startswith("+")}]
    for segment in parse(route.path):
        found = [get(one, (segment,)) for one in found] if isinstance(segment, str) else [item for one in found for item in one]
        found = [one for one in found if one is not ABSENT]
    yield from found


@lru_cache(maxsize=256)
def faults_of_sample(name: str) -> tuple[str, ...]:
    return tuple(_faults_of_sample(BY_TYPE[name]))


def _faults_of_sample(type: ResourceType) -> Iterator[str]:
    sample = recorded.good(type.name)
    if sample.api_version != type.api_version:
        yield f"the good document is told at {sample.api_version}"
    own = {name: value for name, value in sample.body.items() if not name.startswith("+")}
    yield from published.published(type.name, type.api_version).faults(own)
    for route in type.routes:
        if route.path.startswith("+"):
            for part in parts(type, route):
                inner = show(parse(route.path)[2:])     # a route may write less than a mounted item
                yield from (f"{fault} ({route.path})" for fault in of_route(type, route).faults(part, at=inner))


@lru_cache(maxsize=1024)
def faults_of_control(id: str) -> tuple[str, ...]:
    control = next(one for one in CONTROLS if one.id == id)
    return tuple(dict.fromkeys(_faults_of_control(control, BY_TYPE[control.on])))


def faults_of_asked(type: ResourceType, asked: Asked) -> Iterator[str]:
    for path in sorted(asked.paths, key=show):
        yield from faults_of_path(type, path)
    for path, value in sorted(asked.values, key=repr):
        yield from faults_of_value(type, path, value)
    for path, text in sorted(asked.compared, key=repr):
        yield from faults_of_value(type, path, text, exact=False)
    for drift in asked.drifts:
        yield from faults_of_path(type, parse(drift.path))
        yield from faults_there(type, drift.path, drift.wanted, sent="PUT")


def _faults_of_control(control: Control, type: ResourceType) -> Iterator[str]:
    yield from faults_of_asked(type, asked_by(control.id))
    for shown, value in control.drift.items():
        yield from faults_of_path(type, parse(shown))
        yield from faults_there(type, shown, value)
    for operation in (*control.triggered_by, *permissions(control)):
        yield from faults_of_operation(operation)
    if control.triggered_by and not any(fold(one).startswith(fold(control.on)) or "providers" in one or _extends(one)
                                        for one in control.triggered_by):
        yield "no trigger names its type, a child or an extension of it"


def _extends(operation: str) -> bool:
    return fold(operation.split("/")[0]) in ("microsoft.insights", "microsoft.security", "microsoft.authorization")


def faults_there(type: ResourceType, path: str, value: Any, sent: str = "") -> Iterator[str]:
    """Errors in a value that stands, or is wanted, at a path; of a whole part without what ARM alone writes."""
    body, rest, route = at(type, parse(path))
    if value is ABSENT or not body.spots(rest):
        return
    value = strip(value, route.readonly) if sent and not rest else value
    readonly_here = all(spot.readonly for spot in body.spots(rest))         # a state that an action changes
    yield from body.faults(value, sent="" if readonly_here else sent, at=rest, exact=bool(sent))


def steps_of(type: ResourceType, document: Document, found: list[Drift]) -> list[plans.Step]:
    """The requests that mend, or isolate, and those of the undo."""
    edits, _ = plans.edits(type, found)
    steps = plans.steps(type, document, edits)
    if any(not edit.path for edit in edits):
        return steps                                                        # a person's command undoes it
    back = Plan(document.id, "", "fix", tuple(edits), ()).inverse()
    return [*steps, *plans.steps(type, proof.predict(document, steps), back.edits)]


@lru_cache(maxsize=1024)
def fix_of(id: str) -> tuple[plans.Step, ...]:
    control = next(one for one in ACTING if one.id == id)
    type, document = BY_TYPE[control.on], recorded.drifted(control).document
    found = list(control.check(document.node(), control.parameters))
    if control.response == "isolate" and type.isolate:
        found = list(type.isolate(document.node(), {}))
    return tuple(steps_of(type, document, found))


@lru_cache(maxsize=1024)
def faults_of_fix(id: str) -> tuple[str, ...]:
    control = next(one for one in ACTING if one.id == id)
    return tuple(dict.fromkeys(fault for step in fix_of(id) for fault in _faults_of_request(BY_TYPE[control.on], step)))


@lru_cache(maxsize=256)
def isolation_of(name: str) -> tuple[Asked, tuple[plans.Step, ...]]:
    """Of the good document, and of each of its drifts."""
    type, steps = BY_TYPE[name], list[plans.Step]()
    with watched() as asked:
        for sample in (recorded.good(name), *(recorded.drifted(control) for control in CONTROLS if control.on == name)):
            found = list(type.isolate(sample.document.node(), {})) if type.isolate and not sample.document.gone else []
            asked.drifts += found
            steps += steps_of(type, sample.document, found)
    return asked, tuple(steps)


@lru_cache(maxsize=256)
def faults_of_isolation(name: str) -> tuple[str, ...]:
    type, (asked, steps) = BY_TYPE[name], isolation_of(name)
    sent = (fault for step in steps for fault in _faults_of_request(type, step))
    return tuple(dict.fromkeys((*faults_of_asked(type, asked), *sent)))


def _faults_of_request(type: ResourceType, step: plans.Step) -> Iterator[str]:
    request = step.request
    if request.method in ("DELETE", "POST"):
        if request.body is not None:
            yield f"{request.method} with a body"
        return
    body = published.published(roles.resource(type, step.route), request.api_version)
    for name in step.route.whole:
        yield from body.faults(get(request.body, parse(name)), sent="PUT", at=name, exact=True)
    yield from body.faults(request.body, sent=request.method, exact=True)
