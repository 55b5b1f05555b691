"""From a document to what must be written: findings, edits, and the requests that carry them out. Pure.

A plan is edits. Requests are derived from edits and the document just read, each time, by the type's table of routes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

from guardrail.documents import Document
from guardrail.errors import Unsafe
from guardrail.ids import ResourceId, name_is_sound, url_path
from guardrail.paths import ABSENT, Item, Path, agrees, fold, get, parse, put, same, show, under
from guardrail.values import Control, Drift, Edit, Finding, Parameters, Request, ResourceType, Route

FINAL_STATES = ("succeeded", "failed", "canceled", "cancelled")
# In the names of actions: regenerateKey, regenerateKeys, regenerateAdminKey, regenerateCredential, regeneratePrimaryKey,
# rotateKey, resyncKeys (operations of the resource providers; catalogue, triggered_by)
ROTATES = ("regenerate", "rotate", "resync")


def judge(controls: Iterable[Control], document: Document,
          parameters: Callable[[Control], Parameters]) -> list[Finding]:
    """What the controls find; a gone document speaks to `judges_gone` only.

    What a check touched and could not read is one finding without a drift, and its drifts below that place are dropped.
    """
    found = list[Finding]()
    for control in controls:
        if document.gone and not control.judges_gone:
            continue
        node = document.node()
        try:
            drifts = list(control.check(node, parameters(control)))
        except Exception as error:  # noqa: BLE001  the edge of one item: a broken check must not silence the others
            node.troubles[""] = f"the check failed: {type(error).__name__}: {error}"
            drifts = []
        drifts = _learned(control, document, parameters, drifts)
        odd = [parse(path) for path in node.troubles]
        for drift in drifts:
            if not any(under(parse(drift.path), path) for path in odd):
                found.append(Finding(control.id, document.id, control.severity, drift.note or control.why, drift))
        if odd:
            why = "; ".join(sorted(set(node.troubles.values())))
            found.append(Finding(control.id, document.id, control.severity, why, None))
    return found


def _learned(control: Control, document: Document, parameters: Callable[[Control], Parameters],
             drifts: list[Drift]) -> list[Drift]:
    """The drifts, with those marked that want something else, or speak at all, only because of what was seen before."""
    if not (control.learns and document.good and any(drift.learned is None for drift in drifts)):
        return drifts
    bare = list(control.check(replace(document, good={}).node(), parameters(control)))
    said = [(drift.path, drift.wanted) for drift in bare if drift.decided]
    return [drift if drift.learned is not None else replace(drift, learned=(drift.path, drift.wanted) not in said)
            for drift in drifts]


def key(finding: Finding) -> tuple[str, str]:
    """What makes two findings one: control and path; "?" for unreadable."""
    return finding.control, finding.path if finding.drift else "?"


def route_of(type: ResourceType, path: Path) -> Route | None:
    """The innermost part of the document that holds `path`; what it does not allow is not tried further out."""
    mounted = bool(path) and isinstance(path[0], str) and path[0].startswith("+")
    fitting = [route for route in type.routes if under(path, parse(route.path)) and (route.path or not mounted)]
    return max(fitting, key=lambda route: len(parse(route.path)), default=None)


def strip(value: Any, readonly: Sequence[str]) -> Any:
    """A part without what only ARM writes."""
    for name in readonly if isinstance(value, Mapping) else ():
        if get(value, parse(name)) is not ABSENT:
            value = put(value, parse(name), ABSENT)
    return value


def edits(type: ResourceType, drifts: Iterable[Drift]) -> tuple[tuple[Edit, ...], list[tuple[Drift, str]]]:
    """The drifts as edits, merged over all controls, and those refused with the reason.

    Removing an item wins over edits inside it. Contradictions, and paths that nothing writes, hold up no other.
    """
    chosen = dict[Path, Edit]()
    refused = list[tuple[Drift, str]]()
    for drift in drifts:
        path = parse(drift.path)
        why = _why_not(type, drift, path)
        if not why:
            after, rest = _written(type, path, drift)
            other = chosen.get(path)
            if other is None:
                chosen[path] = Edit(drift.path, rest, after)
            elif not same(other.after, after):
                why = f"another control wants {other.after!r} at {drift.path}"
        if why:
            refused.append((drift, why))
    removed = [path for path, edit in chosen.items() if edit.after is ABSENT]
    kept = {
        path: edit for path, edit in chosen.items()
        if not any(under(path, gone) and path != gone for gone in removed)
    }
    for path in list(kept):
        outer = next((one for one in kept if one != path and under(path, one)), None)
        if outer is not None:
            edit = kept.pop(path)
            if not agrees(get(kept[outer].after, path[len(outer):]), edit.after):
                drift = Drift(edit.path, edit.before, edit.after)
                refused.append((drift, f"another control writes all of {show(outer)}"))
    return tuple(sorted(kept.values(), key=lambda edit: edit.path)), refused


def _why_not(type: ResourceType, drift: Drift, path: Path) -> str:
    if not drift.decided:
        return drift.note or "only a person knows what is right"
    route = route_of(type, path)
    if route is None:
        return f"nothing writes {drift.path or 'the resource'}"
    part, inner = _split(route, path)
    if not inner and drift.wanted is ABSENT:
        return "" if route.delete else f"{drift.path or 'the resource'} is never deleted"
    if not inner and drift.observed is ABSENT:
        return "" if route.create else f"{drift.path or 'the resource'} is never created"
    if not route.update and route.write is None:
        return f"nothing writes {drift.path}"
    if any(under(inner, parse(name)) for name in route.readonly) and inner:
        return f"{drift.path} is written by ARM alone"
    if route.update == "PUT" and route.write_only:
        return f"a PUT of {show(part) or 'the resource'} would erase {', '.join(route.write_only)}"
    if route.update == "POST" and drift.wanted not in route.actions:
        return f"no action makes {drift.path} {drift.wanted!r}"
    return ""


def _written(type: ResourceType, path: Path, drift: Drift) -> tuple[Any, Any]:
    """(after, before) as a plan shows them: of a whole part, without what only ARM writes."""
    route = route_of(type, path)
    if route is None or _split(route, path)[1]:
        return drift.wanted, drift.observed
    return strip(drift.wanted, route.readonly), strip(drift.observed, route.readonly)


def _split(route: Route, path: Path) -> tuple[Path, Path]:
    """(the part's own place, the rest of the path below it)."""
    depth = len(parse(route.path))
    return path[:depth], path[depth:]


@dataclass(frozen=True, slots=True)
class Step:
    """One request, with the part that it writes and the edits that it carries."""

    route: Route
    part: Path
    edits: tuple[Edit, ...]
    request: Request

    @property
    def creates(self) -> bool:
        return len(self.edits) == 1 and parse(self.edits[0].path) == self.part and self.edits[0].before is ABSENT

    @property
    def deletes(self) -> bool:
        return self.request.method == "DELETE"

    @property
    def rotates(self) -> bool:
        """An action that makes new keys or secrets: whoever holds the old ones is cut off, and nothing brings them back."""
        action = fold(self.request.url.partition("?")[0].rsplit("/", 1)[-1])
        return self.request.method == "POST" and any(word in action for word in ROTATES)

    @property
    def overwrites(self) -> bool:
        """A PUT over what stands: it loses whatever we do not know of."""
        return self.request.method == "PUT" and not self.creates


def steps(type: ResourceType, document: Document, edits: Sequence[Edit]) -> list[Step]:
    """One step a part; updates, then creations, deletions last. Errors: Unsafe for an edit that no route allows."""
    parts = dict[tuple[int, str], tuple[Route, Path, list[Edit]]]()
    for edit in edits:
        path = parse(edit.path)
        why = _why_not(type, Drift(edit.path, edit.before, edit.after), path)
        route = route_of(type, path)
        if why or route is None:
            raise Unsafe(why or f"nothing writes {edit.path}")
        part, inner = _split(route, path)
        order = 0 if inner or ABSENT not in (edit.before, edit.after) else 2 if edit.after is ABSENT else 1
        where = edit.path if route.update == "POST" else show(part)
        parts.setdefault((order, where), (route, part, []))[2].append(edit)
    ordered = sorted(parts.items(), key=lambda entry: entry[0])
    return [Step(route, part, tuple(of_part), _request(type, route, document, part, of_part))
            for _, (route, part, of_part) in ordered]


def _request(type: ResourceType, route: Route, document: Document, part: Path, of_part: Sequence[Edit]) -> Request:
    if route.write is not None:
        return route.write(document, of_part)
    url = part_url(route, document.id, part)
    version = route.api_version or type.api_version
    now = get(document.body, part)
    etag = get(now, ("etag",)) if route.etag else ABSENT
    match = etag if isinstance(etag, str) else None
    first = of_part[0]
    if parse(first.path) == part and first.after is ABSENT:
        return Request("DELETE", url, version, None, match)
    if parse(first.path) == part and first.before is ABSENT:
        return Request("PUT", url, version, first.after)
    if route.update == "POST":
        return Request("POST", url.replace("{action}", route.actions[first.after]), version)
    wanted = now
    for edit in of_part:
        wanted = put(wanted, parse(edit.path)[len(part):], edit.after)
    put_whole = route.update == "PUT"
    own = wanted if part else _own(wanted)
    body = _without_null(strip(own, route.readonly)) if put_whole else _smallest(wanted, len(part), of_part, route)
    return Request(route.update, url, version, body, match)


def part_url(route: Route, id: ResourceId, part: Path) -> str:
    """The encoded path of a part: {id}, and its items' keys by name; {action} is left standing. Errors: Unsafe."""
    names = {key: value for segment in part if isinstance(segment, Item) for key, value in segment.keys}
    url = route.url.replace("{id}", url_path(id))
    for name, value in names.items():
        if not name_is_sound(str(value)):
            raise Unsafe(f"{value!r} is no name to put into a URL")
        url = url.replace("{" + name + "}", quote(str(value), safe=""))
    return url


def list_url(route: Route, id: ResourceId) -> str:
    """Where a mounted list is read: the part's own URL without the item's name."""
    return route.url.replace("{id}", url_path(id)).rsplit("/", 1)[0]


def _smallest(wanted: Any, depth: int, of_part: Iterable[Edit], route: Route) -> Any:
    """A merge patch that says the edits and nothing else, but for lists, tags and `whole` objects: sent complete."""
    body: Any = {}
    for edit in of_part:
        inner = parse(edit.path)[depth:]
        path = _cut(inner, ("tags", *route.whole))
        value = get(wanted, path)
        body = put(body, path, _Null if value is ABSENT else value)
    for edit in of_part:        # an object sent whole may be merged all the same: say what is gone
        inner = parse(edit.path)[depth:]
        if edit.after is ABSENT and inner[:1] != ("tags",) and all(isinstance(one, str) for one in inner):
            body = put(body, inner, _Null)
    return _with_null(body)


def _without_null(value: Any) -> Any:
    """GET tells some absent values as null; a PUT does not send them back."""
    if isinstance(value, Mapping):
        return {name: _without_null(inner) for name, inner in value.items() if inner is not None}
    return value


def _own(body: Any) -> Any:
    """A document without what is mounted in it: that has URLs of its own."""
    return {name: value for name, value in body.items() if not name.startswith("+")} if isinstance(body, Mapping) else body


class _Null:
    """Stands for JSON null while `put` would still read it as a removal."""


def _with_null(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _with_null(inner) for name, inner in value.items()}
    return None if value is _Null else value


def _cut(path: Path, whole: Sequence[str]) -> Path:
    """The path up to where a patch must be complete: the first list, or an object that ARM replaces."""
    for depth, segment in enumerate(path):
        if isinstance(segment, Item) or any(path[:depth] == parse(name) for name in whole):
            return path[:depth]
    return path


def holds(document: Document, edits: Iterable[Edit]) -> bool:
    """Whether every edit is done."""
    return all(is_done(document, edit) for edit in edits)


def is_blind(document: Document, edits: Iterable[Edit]) -> bool:
    """Whether a part that an edit lies in could not be read: nothing is known of it then, least of all that it is gone."""
    return any(under(parse(edit.path), parse(part)) for part in document.unreadable for edit in edits)


def is_done(document: Document, edit: Edit) -> bool:
    if is_blind(document, (edit,)):
        return False
    now = get(document.body, parse(edit.path))
    return now is ABSENT if edit.after is ABSENT else agrees(now, edit.after)


def is_busy(type: ResourceType, document: Document) -> bool:
    """Whether ARM is at work on the resource: a state that is not final, or one that the type lists as passing."""
    state = document.get("properties.provisioningState")
    if isinstance(state, str) and state.lower() not in FINAL_STATES:
        return True
    return any(
        any(same(document.get(path), value) for value in values) for path, values in type.busy.items()
    )


def incarnation(type: ResourceType, document: Document) -> str:
    """What tells one life of an id from the next; "" where the type shows nothing."""
    born = document.get(type.born)
    return born if isinstance(born, str) else ""
