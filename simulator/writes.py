"""Writes of any resource: PUT, PATCH, POST of an action, DELETE, each by its type's habits."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from simulator import ids, merge, paths
from simulator.ids import fold, parent_of, type_of
from simulator.operations import Operation
from simulator.reads import habits_for, not_found, quoted, show, view
from simulator.types import Answer, Body, Habits, habits_of
from simulator.wire import Effect, Request, Response, error
from simulator.world import Resource

if TYPE_CHECKING:
    from simulator import Simulator


def put(sim: Simulator, request: Request) -> Response:
    """PUT: makes or replaces (or merges, where the type does)."""
    if habits_of(type_of(request.path)).on_parent:
        return on_parent(sim, request)
    return write(sim, request, merge.put)


def patch(sim: Simulator, request: Request) -> Response:
    """PATCH, where the type has one."""
    if habits_for(sim, type_of(request.path)).patch is None:
        return Response(405, {"Message": "The requested resource does not support http method 'PATCH'."})
    return write(sim, request, merge.patch)


def write(sim: Simulator, request: Request, merging: Callable[[Habits, Body | None, Body], Body]) -> Response:
    """The common way of PUT and PATCH: checks, the new document, the operation, the answer."""
    sim.faults.writing(request)
    id, habits, world = request.path, habits_for(sim, type_of(request.path)), sim.world
    resource = world.get(id)
    if resource is None and request.method == "PATCH":
        return not_found(sim, id)
    effect = effect_of(request, "Write", id, show(sim, id, request.version))
    refusal = missing_above(sim, id) or precondition(habits, request, resource) or busy(sim, id)
    if refusal:
        refusal.effects.append(effect)
        return refusal
    sent = sent_document(request)
    if isinstance(sent, Response):
        return sent
    if clash := taken_already(sim, habits, id, sent):
        clash.effects.append(effect)
        return clash
    if habits.refuse and (why := habits.refuse(resource.body if resource else None, sent)):
        return Response(why[0], error(*why).body, effects=[effect])
    answer = answer_for(habits, request, is_new=resource is None)
    if habits.soft and resource is None and fold(id) in world.deleted:
        return restored(sim, request, habits, effect, sent)
    before = copy.deepcopy(resource.body) if resource else None
    after = merging(habits, before, sent)
    if habits.at_once and (status := habits.at_once(before, after, sent)):
        answer = Answer(status)
    return carry(sim, request, habits, answer, effect, sent, before, after)


def answer_for(habits: Habits, request: Request, is_new: bool) -> Answer:
    """How the type answers this write at this api-version."""
    if request.method == "PATCH":
        return habits.patch or Answer(405)
    new, existing = habits.new, habits.existing
    if habits.answers_from and request.version >= habits.answers_from[0]:
        _, new, existing = habits.answers_from
    return new if is_new else existing


def restored(sim: Simulator, request: Request, habits: Habits, effect: Effect, sent: Body) -> Response:
    """PUT over a softly deleted resource: it comes back with its old settings, whatever else was sent, or 409."""
    if habits.soft is None or not habits.soft(sent):
        why = "An existing resource has been soft-deleted. To restore it, you must specify 'restore' to be 'true'."
        return Response(409, error(409, "FlagMustBeSetForRestore", why).body, effects=[effect])
    resource = sim.world.restore(request.path, who=request.actor)
    effect.after, effect.created = view(sim, resource, request.version), True
    headers = {"ETag": quoted(habits, resource.etag)} if habits.etag in ("header", "both") else {}
    return Response(habits.new.status, effect.after, headers, [effect])


def carry(
    sim: Simulator,
    request: Request,
    habits: Habits,
    answer: Answer,
    effect: Effect,
    sent: Body,
    before: Body | None,
    after: Body,
) -> Response:
    """Stores the new document at once or when its operation ends, and answers as the type does."""
    id, world, version = request.path, sim.world, request.version
    is_late = before is None and answer == Answer(202, "loc", body="")  # a storage account is 404 until it is made
    plan = sim.faults.plan(type_of(id)) or sim.operations.plan("end" if is_late else "accept")
    is_long = bool(answer.how or answer.state) if plan.kind is None else plan.kind != "none"

    def store(document: Body) -> None:
        world.put(id, document, who=request.actor, method=request.method, api_version=version).state = ""
        spread(sim, request, sent)

    def finish(operation: Operation) -> None:
        resource = world.get(id)
        if plan.effect in ("end", "half"):
            store(after if plan.effect == "end" else halfway(before, after))
            resource = world.get(id)
        if resource is not None:
            resource.state = "" if operation.status == "Succeeded" else operation.status
            world.touch(resource)

    shown_first: Body | None = None
    headers: dict[str, str] = {}
    if plan.effect == "accept" or not is_long:
        store(after)
    if is_long:
        if (resource := world.get(id)) is not None:
            resource.state = answer.state or ("Creating" if before is None else "Updating")
        shown_first = show(sim, id, version)
        operation = sim.operations.start(id, plan, finish, lambda: show(sim, id, version))
        headers = sim.operations.headers(request, operation, answer)
    sim.faults.written(request)
    shown_first = shown_first or show(sim, id, version)
    body: Any = {
        "resource": shown_first,
        "echo": echo(habits, shown_first, after, sent),
        "deleted": shown_first,
        "": None,
    }[answer.body]
    if (resource := world.get(id)) is not None and body is not None and habits.etag in ("header", "both"):
        headers["ETag"] = quoted(habits, resource.etag)
    effect.after, effect.created = show(sim, id, version), before is None
    return Response(answer.status, body, headers, [effect])


def echo(habits: Habits, document: Body | None, after: Body, sent: Body) -> Body | None:
    """What child services of storage answer: of the properties only those that were sent, without defaults."""
    if document is None or not sent.get("properties"):
        head = ("id", "name", "type") if habits.echoed else ("name",)
        return {key: document[key] for key in head} if document else None
    kept = {key: value for key, value in after.get("properties", {}).items() if key in sent["properties"]}
    return {
        **{key: document[key] for key in ("id", "name", "type")},
        "properties": {**habits.echoed, **copy.deepcopy(kept)},
    }


def halfway(before: Body | None, after: Body) -> Body:
    """Every second changed property has arrived: where an operation died in the middle."""
    half = copy.deepcopy(before or {})
    properties, old = after.get("properties", {}), half.setdefault("properties", {})
    changed = [key for key in properties if old.get(key) != properties[key]]
    for key in changed[::2]:
        old[key] = properties[key]
    return half


def spread(sim: Simulator, request: Request, sent: Body) -> None:
    """The parts that a PUT of the parent writes: a list left out removes them, unless the version keeps them."""
    if request.method != "PUT":
        return
    for path, part in habits_of(type_of(request.path)).parts.items():
        kept = request.version and merge.dated(request.version) >= part.kept_from
        if part.written and (paths.has(sent, path) or not kept):
            listed = paths.read(sent, path)
            items = [item for item in listed if isinstance(item, dict)] if isinstance(listed, list) else []
            sim.world.spread(request.path, part.type, items, who=request.actor, method="PUT", api_version=request.version)


def on_parent(sim: Simulator, request: Request) -> Response:
    """PUT on a child that is no resource but a way to change its parent (accessPolicies/add)."""
    sim.faults.writing(request)
    parent, habits = parent_of(request.path), habits_of(type_of(request.path))
    resource = sim.world.get(parent)
    if resource is None or habits.on_parent is None:
        return not_found(sim, parent)
    sent = sent_document(request)
    if isinstance(sent, Response):
        return sent
    before, body = show(sim, parent, request.version), copy.deepcopy(resource.body)
    answer = habits.on_parent(body, ids.name_of(request.path), sent)
    sim.world.put(parent, body, who=request.actor, method="PUT", api_version=request.version)
    effect = effect_of(request, "Write", request.path, before, show(sim, parent, request.version))
    sim.faults.written(request)
    return Response(200, {"id": parent + "/accessPolicies/", "type": habits.type, **answer}, {}, [effect])


def act(sim: Simulator, request: Request) -> Response:
    """POST {id}/{action}: a change of state that takes time, or a read that is a POST."""
    id, _, action = request.path.rpartition("/")
    resource, habits = sim.world.get(id), habits_for(sim, type_of(id))
    if resource is None:
        return not_found(sim, id)
    if fold(action) in map(fold, habits.reads):
        effect = Effect(id, resource.type, "Action", f"{resource.type}/{action}/action")
        return Response(200, {"key1": "0" * 32, "key2": "1" * 32}, effects=[effect])
    if habits.tells and fold(action) == fold(habits.tells):
        effect = Effect(id, resource.type, "Action", f"{resource.type}/{action}/action")
        return Response(200, show(sim, id, request.version), effects=[effect])
    if setting := next((name for name in habits.settings if fold(name) == fold(action)), ""):
        return set_by_action(sim, request, resource, setting)
    known = next((name for name in habits.actions if fold(name) == fold(action)), None)
    if known is None:
        return error(404, "InvalidResourceType", f"The action '{action}' is not known on '{resource.type}'.")
    sim.faults.writing(request)
    if refusal := busy(sim, id):
        return refusal
    path, value = habits.actions[known]
    effect = Effect(id, resource.type, "Action", f"{resource.type}/{known}/action", show(sim, id, request.version))
    plan = sim.faults.plan(resource.type) or sim.operations.plan()
    after = copy.deepcopy(resource.body)
    paths.write(after, path, value)

    def finish(operation: Operation) -> None:
        if operation.status == "Succeeded" and plan.effect != "never":
            sim.world.put(id, after, who=request.actor, method="POST", api_version=request.version)
        elif (now := sim.world.get(id)) is not None:
            paths.write(now.body, path, paths.read(after, path) if plan.effect == "accept" else was)

    was = paths.read(resource.body, path)
    paths.write(resource.body, path, habits.passing.get(known, value))
    operation = sim.operations.start(id, plan, finish, lambda: show(sim, id, request.version))
    effect.after = show(sim, id, request.version)
    sim.faults.written(request)
    return Response(202, None, sim.operations.headers(request, operation, Answer(202, "aao loc")), [effect])


def set_by_action(sim: Simulator, request: Request, resource: Resource, action: str) -> Response:
    """POST of an action that sets one value, which its body names."""
    name, path = habits_for(sim, resource.type).settings[action]
    sent = sent_document(request)
    if isinstance(sent, Response) or name not in sent:
        return sent if isinstance(sent, Response) else error(400, "BadArgument", f"{name} is missing.")
    sim.faults.writing(request)
    if refusal := busy(sim, resource.id):
        return refusal
    before, after = show(sim, resource.id, request.version), copy.deepcopy(resource.body)
    paths.write(after, path, sent[name])
    sim.world.put(resource.id, after, who=request.actor, method="POST", api_version=request.version)
    sim.faults.written(request)
    now = show(sim, resource.id, request.version)
    told = f"{resource.type}/{action}/action"
    return Response(200, effects=[Effect(resource.id, resource.type, "Action", told, before, now)])


def delete(sim: Simulator, request: Request) -> Response:
    """DELETE, children and extensions included."""
    sim.faults.writing(request)
    id, habits = request.path, habits_for(sim, type_of(request.path))
    if not habits.can_delete:
        return Response(405, {"Message": "The requested resource does not support http method 'DELETE'."})
    resource = sim.world.get(id)
    if resource is None:
        lost = not_found(sim, id)
        is_alone = lost.body.get("error", lost.body)["code"] == habits.missing
        return Response(204) if is_alone else lost
    effect = effect_of(request, "Delete", resource.id, show(sim, id, request.version))
    if refusal := precondition(habits, request, resource) or busy(sim, id):
        refusal.effects.append(effect)
        return refusal
    plan = sim.faults.plan(resource.type) or sim.operations.plan("end")  # until then it is seen as Deleting

    def take_away() -> None:
        sim.world.delete(id, who=request.actor)

    def finish(operation: Operation) -> None:
        if plan.effect == "end":
            take_away()
        elif (left := sim.world.get(id)) is not None:
            left.state = operation.status

    headers: dict[str, str] = {}
    if habits.delete.how or plan.kind not in (None, "none"):
        if plan.effect == "accept":
            take_away()
        else:
            resource.state = "Deleting"
        operation = sim.operations.start(id, plan, finish, lambda: None)
        headers = sim.operations.headers(request, operation, habits.delete)
    else:
        take_away()
    sim.faults.written(request)
    body: Body | None = None
    if habits.delete.body == "deleted" and effect.before:
        body = copy.deepcopy(effect.before)
        for path, value in habits.deleted.items():
            paths.write(body, path, value)
    return Response(habits.delete.status, body, headers, [effect])


# what refuses a write


def missing_above(sim: Simulator, id: str) -> Response | None:
    """404 where the subscription, the group or the parent is not there."""
    parent = parent_of(id)
    if not parent or sim.world.get(parent) is not None:
        return None
    lost = not_found(sim, id)
    if lost.body["error"]["code"] == habits_of(type_of(id)).orphan:
        lost.body["error"]["code"] = "ParentResourceNotFound"
    return lost


def precondition(habits: Habits, request: Request, resource: Resource | None) -> Response | None:
    """412 for an If-Match that is not the ETag, and If-None-Match: * on what exists. Without ETags neither counts."""
    if not habits.etag or not habits.if_match:
        return None
    wanted, unwanted = request.headers.get("if-match"), request.headers.get("if-none-match")
    is_stale = wanted and (resource is None or (wanted != "*" and resource.etag not in wanted))
    if is_stale or (unwanted == "*" and resource is not None):
        return error(412, "PreconditionFailed", "The condition specified by the ETag is not satisfied.")
    return None


def taken_already(sim: Simulator, habits: Habits, id: str, sent: Body) -> Response | None:
    """409 where another of the type at this scope says the same."""
    if not habits.unique:
        return None
    wanted = [fold(str(paths.read(sent, path))) for path in habits.unique]
    for other in sim.world.children(parent_of(id), type_of(id)):
        if fold(other.id) != fold(id) and [fold(str(paths.read(other.body, path))) for path in habits.unique] == wanted:
            return error(409, "RoleAssignmentExists", "The role assignment already exists.")
    return None


def busy(sim: Simulator, id: str) -> Response | None:
    """409 while another write runs on the resource. It has no Retry-After."""
    if operation := sim.operations.running(id):
        return error(409, "AnotherOperationInProgress", f"Another operation on this resource is in progress: {operation.id}.")
    return None


def sent_document(request: Request) -> Body | Response:
    """The request's body as an object; 400 for anything else."""
    try:
        sent = json.loads(request.body or b"{}")
    except ValueError as cause:
        return error(400, "InvalidRequestContent", f"The request content was invalid and could not be deserialized: '{cause}'.")
    if not isinstance(sent, dict):
        return error(400, "InvalidRequestContent", "The request content was invalid: an object was expected.")
    for key in ("properties", "tags", "identity", "sku"):
        if not isinstance(sent.get(key, {}), dict | None):
            return error(400, "InvalidRequestContent", f"The request content was invalid: '{key}' must be an object.")
    return sent


def effect_of(request: Request, kind: Any, id: str, before: Any, after: Any = None) -> Effect:
    return Effect(id, type_of(id), kind, f"{type_of(id)}/{kind.lower()}", before, after)
