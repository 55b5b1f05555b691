"""What a plan would do beyond setting values, and what of it only a person may let through. Pure.

In the engine and not in the policy: whoever can make a control speak must not have the fix do the damage (A9).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from guardrail.documents import Document
from guardrail.paths import ABSENT, fold, get, parse, same, under, walk
from guardrail.plans import Step
from guardrail.policy import Place, Rules, lower
from guardrail.values import Edit, Mode, Plan, ResourceType

EDITS_AT_MOST = 50                      # a larger plan is a person's decision everywhere

Class = Literal["sets", "creates", "overwrites", "detaches", "stops", "acts", "rotates", "deletes"]
CUTS: frozenset[Class] = frozenset({"detaches", "stops", "acts", "rotates", "deletes"})


def class_of(type: ResourceType, step: Step) -> Class:
    """What one request does, by its method and by what the type's table says of the values that it writes.

    `stops`: work or live traffic ends (`stops` of the type), by whatever method. `detaches`: one of those that lean on
    the resource is taken out of the list of them. `acts`: any other POST, for what an action does is not known.
    """
    if step.deletes:
        return "deletes"
    if step.rotates:
        return "rotates"
    if any(_stops(type, edit) for edit in step.edits):
        return "stops"
    if step.request.method == "POST":
        return "acts"
    if any(_detaches(type, edit) for edit in step.edits):
        return "detaches"
    if step.creates:
        return "creates"
    return "overwrites" if step.overwrites else "sets"


def _stops(type: ResourceType, edit: Edit) -> bool:
    """Whether the edit brings a value that ends work, at the place itself or inside what it writes whole."""
    path = parse(edit.path)
    for inner, after in walk(edit.after):
        if edit.before is not ABSENT and not same(get(edit.before, inner), after) and any(
                under((*path, *inner), parse(place)) and any(same(after, value) for value in (*values, ABSENT))
                for place, values in type.stops.items()):
            return True
    return False


def _detaches(type: ResourceType, edit: Edit) -> bool:
    """Whether an item of a list of dependants goes, or the list."""
    path = parse(edit.path)
    lists = [parse(name) for name in type.dependants]
    return edit.after is ABSENT and any(under(path, one) and len(path) <= len(one) + 1 for one in lists)


def dependants(type: ResourceType, document: Document) -> int | None:
    """How many others lean on the resource; None if a part that tells it was not read, or could not be."""
    parts = {name for name in type.dependants if name.startswith("+")}
    if parts - document.parts or document.unreadable.keys() & {"", *parts}:
        return None
    lists = [document.get(path) for path in type.dependants]
    return sum(len(found) for found in lists if isinstance(found, list))


def cap(mode: Mode, plan: Plan, steps: Sequence[Step], type: ResourceType, document: Document, place: Place,
        rules: Rules) -> tuple[Mode, str]:
    """The mode under what the plan would do, and why it was lowered ("" if not).

    Everywhere an ask: undo, more than 50 edits, a PUT over what stands that nothing proves to be lossless. In
    production also an isolation, whoever caused it, what cuts somebody off, and any write where several lean on it.
    """
    for reason in _reasons_to_ask(plan, steps, type, document, place, rules):
        if lower(mode, "approve") != mode:
            return "approve", reason
    return mode, ""


def _reasons_to_ask(plan: Plan, steps: Sequence[Step], type: ResourceType, document: Document, place: Place,
                    rules: Rules) -> Iterable[str]:
    if plan.kind == "undo":
        yield "an undo loosens: people decide"
    if len(plan.edits) > EDITS_AT_MOST:
        yield f"{len(plan.edits)} edits at once: more than {EDITS_AT_MOST} always ask"
    proven = {fold(name) for name in rules.proven}
    if any(step.overwrites and not step.route.round_trip for step in steps) and fold(type.name) not in proven:
        yield "a PUT of this type is not yet proven to lose nothing"
    if not place.is_production:
        return
    if plan.kind == "isolate":
        yield "production: an isolation cuts others off"
    for step in steps:
        if (done := class_of(type, step)) in CUTS:
            yield f"production: it {done}"
    count = dependants(type, document)
    if count is None:
        yield "production: how many depend on it could not be read"
    elif count > 1:
        yield f"production: {count} others depend on it"
