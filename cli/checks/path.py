"""How events come: what Event Grid sends, where to, and whether the probe comes back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cli.checks.line import PROVISION, Line, answer, few
from cli.seen import NotSeen, Seen, at, of
from guardrail.paths import fold


def filters(seen: Seen) -> Iterator[Line]:
    wanted, cure = of(seen, "here", "filters"), f"{PROVISION}, or guardrail filters show --as az"
    for guarded in of(seen, "guarded"):
        try:
            found = _subscription(seen, guarded)
        except NotSeen as why:
            yield Line("failed" if why.is_gone else "skipped", f"{guarded}: {why}", PROVISION if why.is_gone else "")
            continue
        wrong = list(_narrowed(at(found, "properties", "filter"), wanted))
        state = at(found, "properties", "provisioningState") or "Succeeded"
        if state != "Succeeded":
            wrong.append(f"it is {state}")
        if wrong:
            yield Line("failed", f"{guarded}: event subscription {found['name']}: {few(wrong)}", cure)
            continue
        surplus = sorted(set(_values(found)) - set(wanted["operations"]))
        if surplus:
            yield Line("warning", f"{guarded}: Event Grid sends what no control needs: {few(surplus)}", cure)
        else:
            yield Line("done", f"{guarded}: Event Grid sends {len(wanted['events'])} event types, "
                       f"{len(wanted['operations'])} of 25 values of operations")


def _subscription(seen: Seen, guarded: str) -> Any:
    """Ours on the topic of a guarded subscription, by its name."""
    name = f"guardrail-{at(of(seen, 'sites', 'hands'), 'tags', 'azd-env-name')}"
    found = next((one for one in of(seen, "events", guarded) if at(one, "name") in (name, f"{name}-direct")), None)
    if found is None:
        raise NotSeen(f"there is no event subscription {name}", is_gone=True)
    return found


def _values(found: Any) -> list[str]:
    listed = at(found, "properties", "filter", "advancedFilters")
    return [value for one in listed or () for value in at(one, "values") or ()]


def _narrowed(filter: Any, wanted: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """What it does not let through. No list of event types is every type."""
    heard = at(filter, "includedEventTypes")
    if heard is not None and (deaf := [one for one in wanted["events"] if fold(one) not in map(fold, heard)]):
        yield f"not sent: {few(deaf)}"
    ours, others = list[Any](), list[str]()
    for one in at(filter, "advancedFilters") or ():
        if (at(one, "key"), fold(str(at(one, "operatorType")))) == ("data.operationName", "stringbeginswith"):
            ours.append(at(one, "values") or ())
        else:
            others.append(str(at(one, "key")))
    for values in ours:
        if deaf := [one for one in wanted["operations"] if not fold(one).startswith(tuple(map(fold, values)))]:
            yield f"not sent: {few(deaf)}"
    yield from (f"narrowed by {one}" for one in others)
    yield from (f"narrowed by {name}" for name in ("subjectBeginsWith", "subjectEndsWith") if at(filter, name))


def delivery(seen: Seen) -> Iterator[Line]:
    records, app = of(seen, "records")["id"], of(seen, "sites", "front")["id"]
    for guarded in of(seen, "guarded"):
        properties = at(_subscription(seen, guarded), "properties")
        by_identity = at(properties, "deliveryWithResourceIdentity")
        to = at(by_identity, "destination") or at(properties, "destination")
        where, kind = fold(str(at(to, "properties", "resourceId"))), at(to, "endpointType")
        if kind == "StorageQueue" and where == fold(records) and at(to, "properties", "queueName") == "events" and by_identity:
            yield Line("done", f"{guarded}: events go into our queue, by the identity of the topic")
        elif kind == "AzureFunction" and where.startswith(f"{fold(app)}/"):
            yield Line("done", f"{guarded}: events go to front itself")
        else:
            yield Line("failed", f"{guarded}: events go elsewhere: {kind} {at(to, 'properties', 'resourceId')}", PROVISION)


def dead_letters(seen: Seen) -> Iterator[Line]:
    records = of(seen, "records")["id"]
    for guarded in of(seen, "guarded"):
        properties = at(_subscription(seen, guarded), "properties")
        keeping = at(properties, "deadLetterWithResourceIdentity") or properties
        to = at(keeping, "deadLetterDestination")
        kept = fold(str(at(to, "properties", "resourceId"))), at(to, "properties", "blobContainerName")
        if kept == (fold(records), "dead-letters"):
            yield Line("done", f"{guarded}: what cannot be delivered is kept")
        else:
            yield Line("failed", f"{guarded}: what cannot be delivered is lost, or goes elsewhere", PROVISION)


def probe(seen: Seen) -> Iterator[Line]:
    """`waited`: doctor waited for it, or for the app to answer at all."""
    if at(seen, "settings", "hands", "GUARDRAIL_PROBE") == "off":
        yield Line("skipped", "the probe is off: the event path is unproven")
        return
    cure = "docs/runbooks/event-path-broken.md; guardrail doctor --probe waits for the next one"
    try:
        found = answer(seen, "/event-path")
    except NotSeen as silence:
        if not at(seen, "here", "waited"):
            raise
        yield Line("failed", f"event path: not known: {silence}", cure)
        return
    state, said = at(found, "state"), f"event path: {at(found, 'said') or at(found, 'state')}"
    if state == "proven":
        yield Line("done", said)
    else:
        is_bad = state == "broken" or bool(at(seen, "here", "waited"))
        why = at(found, "probe", "why")
        yield Line("failed" if is_bad else "warning", f"{said}{f'; Azure did not take the tag: {why}' if why else ''}",
                   cure)
