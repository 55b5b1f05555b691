"""What can go wrong: the injection points S1-S17 as plain calls, and as JSON for the admin route.

Hooks called by app.py: `before` (S1, S3), `allowed` (S11, S12), `after` (S2, S4, S17); by reads.py: `seen` (S5),
`habits` (S9, S10); by writes.py: `plan` (S6), `writing` and `written` (S7). S13-S16 live with their parts and are
reached from here.

`match` is `[METHOD[,METHOD] ]where`: `where` beginning with `/` is that path alone, one with `*` a glob over the path,
else a piece of the path; all without case: `PATCH storageAccounts`, `GET /subscriptions/…/accounts/a`, `PUT`, `*`.
`times`: for how many requests it holds (None: until `clear`).
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Literal

from simulator import merge, others
from simulator.access import Access, operation
from simulator.ids import fold, parent_of, type_of
from simulator.operations import Plan
from simulator.types import Habits, habits_of
from simulator.wire import Request, Response, error

if TYPE_CHECKING:
    from simulator import Simulator

Match = str | Callable[[Request], bool]
Change = Callable[[], Any] | Mapping[str, Any]
"""What someone else does at that instant: a call, or a merge patch of the resource."""

METHODS = {"GET", "HEAD", "PUT", "PATCH", "DELETE", "POST"}
NEVER_S = 600.0
"""How long an answer that never comes is held."""
NEVER_SHOWN = "~"
"""As the first api-version that shows a property: later than every one."""


def matches(match: Match, request: Request) -> bool:
    """Whether a request is meant; see the module's text for the form."""
    if callable(match):
        return match(request)
    methods, _, where = match.strip().rpartition(" ")
    if not methods and set(where.upper().split(",")) <= METHODS:
        methods, where = where, "*"
    if methods and request.method not in methods.upper().split(","):
        return False
    path, where = fold(request.path), fold(where)
    if "*" in where:
        return fnmatchcase(path, where)
    return path == where.rstrip("/") if where.startswith("/") else where in path


@dataclass(slots=True)
class Fault:
    """One fault that waits for its request."""

    kind: str
    match: Match
    times: int | None
    how: Mapping[str, Any]

    def takes(self, request: Request) -> bool:
        """Uses the fault up by one, if it is meant."""
        if self.times == 0 or not matches(self.match, request):
            return False
        if self.times is not None:
            self.times -= 1
        return True


@dataclass(slots=True)
class Lag:
    """S5: how long reads of `where` stay behind each of its writes."""

    where: Match
    reads: int
    ms: float
    before: dict[str, list[Any]] = field(default_factory=dict)
    """Folded path → the document before its last write (None: none), when that was, how many reads since."""


class Faults:
    """All faults of one simulator; `clear` ends every one of them."""

    def __init__(self, sim: Simulator) -> None:
        self._sim = sim
        self.access = Access(sim)
        self.rbac, self.revoke = self.access.rbac, self.access.revoke
        self.lock, self.deny_assignment, self.policy = self.access.lock, self.access.deny_assignment, self.access.policy
        self._waiting: list[Fault] = []
        self._lags: list[Lag] = []
        self._habits: dict[str, dict[str, Any]] = {}
        self._plans: list[tuple[str, Plan, list[int | None]]] = []

    def clear(self) -> None:
        """No fault any more, of any kind; held events and full buckets are given back."""
        for kept in (self._waiting, self._lags, self._habits, self._plans):
            kept.clear()
        self.access.clear()
        self._sim.identity.clear()
        self._sim.throttle.reset()
        self._sim.events.calm()
        self._sim.graph.clear()
        self._sim.surface.clear()

    def _add(self, kind: str, match: Match, times: int | None, **how: Any) -> None:
        self._waiting.append(Fault(kind, match, times, how))

    def _take(self, kind: str, request: Request) -> Mapping[str, Any] | None:
        return next((fault.how for fault in self._waiting if fault.kind == kind and fault.takes(request)), None)

    # S1-S4: the answer

    def answer(
        self,
        match: Match,
        status: int,
        code: str = "SimulatedFault",
        message: str = "A simulated fault.",
        *,
        headers: Mapping[str, str] | None = None,
        body: Any = None,
        times: int | None = None,
    ) -> None:
        """S1. This answer instead of the work; nothing takes effect. `body`: a JSON value, or text sent as HTML."""
        self._add("answer", match, times, status=status, code=code, message=message, headers=headers or {}, body=body)

    def lose_answer(self, match: Match, how: Literal["drop", "500", "timeout"] = "drop", times: int | None = 1) -> None:
        """S2. It takes effect (and raises its event), and the caller does not learn it: the connection is cut, 500
        is answered, or nothing at all for ten minutes."""
        if how not in ("drop", "500", "timeout"):
            raise ValueError(f"no such way to lose an answer: {how}")
        self._add("lose_answer", match, times, how=how)

    def drop_request(self, match: Match, times: int | None = 1) -> None:
        """S3. Nothing takes effect and the connection is cut."""
        self._add("drop_request", match, times)

    def slow(self, match: Match, ms: float = 0.0, drip_ms: float = 0.0, times: int | None = None) -> None:
        """S4. What was read or done at once is answered `ms` later, or byte by byte every `drip_ms`."""
        self._add("slow", match, times, ms=ms, drip_ms=drip_ms)

    def before(self, request: Request) -> Response | None:
        """Hook: the answer that stands for the whole work, if any."""
        if self._take("drop_request", request) is not None:
            return Response(0, drop=True)
        how = self._take("answer", request)
        if how is None:
            return None
        response = error(how["status"], how["code"], how["message"])
        if isinstance(how["body"], str):
            response.body, response.headers["content-type"] = how["body"].encode(), "text/html"
        elif how["body"] is not None:
            response.body = how["body"]
        response.headers |= how["headers"]
        return response

    def after(self, request: Request, response: Response) -> Response:
        """Hook: what becomes of the answer once the work is done."""
        if request.method == "GET" and self._take("duplicate_key", request) is not None:
            text = json.dumps(response.body)
            response.body = f'{{"id": "/simulated/other", {text[1:]}'.encode()
            response.headers["content-type"] = "application/json; charset=utf-8"
        if how := self._take("slow", request):
            response.delay_s, response.drip_s = how["ms"] / 1000, how["drip_ms"] / 1000
        if how := self._take("lose_answer", request):
            if how["how"] == "500":
                return error(500, "InternalServerError", "Encountered internal server error.")
            return Response(0, drop=True, delay_s=NEVER_S if how["how"] == "timeout" else 0.0)
        return response

    def allowed(self, request: Request) -> Response | None:
        """Hook: roles, deny assignments, locks and policies."""
        return self.access.refuse(request)

    # S5: stale reads

    def stale(self, match: Match, reads: int = 0, ms: float = 0.0) -> None:
        """S5. After each write from now on the next `reads` GETs of a matching path (or those of the next `ms`) show
        what was before: the older document, 404 after a creation, the document after a deletion. A parent that shows
        the written child inside itself (NSG, virtual network) lags as well."""
        self._lags.append(Lag(match, reads, ms))

    def _remember(self, request: Request) -> None:
        id = operation(request.method, request.path).id
        for lag in self._lags:
            for path in (id, parent_of(id)):
                if matches(lag.where, Request("GET", path)):
                    lag.before[fold(path)] = [self._sim.document(path), self._sim.clock(), 0]

    def seen(self, request: Request, document: dict[str, Any] | None) -> dict[str, Any] | None:
        """Hook: the document as this GET sees it; the one given, if no fault says otherwise."""
        for lag in self._lags:
            if (old := lag.before.get(fold(request.path))) is None:
                continue
            old[2] += 1
            if old[2] <= lag.reads or self._sim.clock() - old[1] < lag.ms / 1000:
                habits = self.habits(type_of(request.path), habits_of(type_of(request.path)))
                return None if old[0] is None else merge.shown(habits, old[0], request.version)
        return document

    # S6: long-running operations

    def lro(
        self,
        type: str,
        kind: Literal["async", "location", "state", "none"] = "async",
        polls: int = 1,
        end: Literal["Succeeded", "Failed", "Canceled", "never"] = "Succeeded",
        effect: Literal["accept", "end", "half", "never"] = "accept",
        url: str | None = None,
        times: int | None = None,
    ) -> None:
        """S6. Writes of `type` ("" any) run as long operations; `url` is shown instead of the operation's own."""
        never = end == "never"
        plan = Plan(None if never else polls, "Succeeded" if end == "never" else end, effect, kind, url)
        self._plans.append((fold(type), plan, [times]))

    def plan(self, type: str) -> Plan | None:
        """Hook: how this write, delete or action runs, None for the type's own way. Uses one of the fault's `times`."""
        for wanted, plan, left in self._plans:
            if wanted in ("", fold(type)) and left[0] != 0:
                left[0] = None if left[0] is None else left[0] - 1
                return plan
        return None

    # S7, S8: someone else

    def before_write(self, match: Match, change: Change, times: int | None = 1) -> None:
        """S7. After a matching write's rights were checked and before the document is read for it."""
        self._add("before_write", match, times, change=change)

    def after_write(self, match: Match, change: Change, times: int | None = 1) -> None:
        """S7. Just after a matching write took effect, before its answer goes out."""
        self._add("after_write", match, times, change=change)

    def writing(self, request: Request) -> None:
        """Hook: a write is about to read the document and change it."""
        self._run("before_write", request)
        self._remember(request)

    def written(self, request: Request) -> None:
        """Hook: a write has changed the document."""
        self._run("after_write", request)

    def _run(self, kind: str, request: Request) -> None:
        how = self._take(kind, request)
        if how is None:
            return
        if callable(how["change"]):
            how["change"]()
        else:
            self._sim.mutate(operation(request.method, request.path).id, lambda body: merge.merged(body, how["change"]))

    def delete(self, id: str, by: str = "ml-engineer", quiet: bool = False) -> None:
        """S8. `by` deletes it, past all locks and roles; its event is raised unless `quiet`."""
        others.delete(self._sim, id, by, quiet)

    def recreate(self, id: str, by: str = "ml-engineer", quiet: bool = False) -> None:
        """S8. Deleted and made again with the same document and children: a new incarnation under the old name."""
        others.recreate(self._sim, id, by, quiet)

    def move(self, id: str, group: str, by: str = "ml-engineer", quiet: bool = False) -> str:
        """S8. Moved to another resource group (name or id), the same incarnation; its new id."""
        return others.move(self._sim, id, group, by, quiet)

    # S9, S10: other habits

    def etag(self, type: str, mode: Literal["honour", "ignore", "absent"]) -> None:
        """S9. Whether resources of this type show an ETag and heed If-Match; `ignore` shows it and does not heed it."""
        self._override(type, etag="" if mode == "absent" else "both", if_match=mode == "honour")

    def put(
        self,
        type: str,
        mode: Literal["replace", "merge"] | None = None,
        write_only: Sequence[str] = (),
        hidden: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """S10. How PUT treats what it does not name; `write_only` paths are never shown (and a replacing PUT without
        them erases them); `hidden`: api-version → paths that it and older ones do not show."""
        since = {**self.habits(type, habits_of(type)).since, **dict.fromkeys(write_only, NEVER_SHOWN)}
        for version, hiding in (hidden or {}).items():
            since |= dict.fromkeys(hiding, f"{version[:10]}~")  # `~` sorts after every digit: what comes after that day
        change: dict[str, Any] = {"since": since}
        if mode:
            change["put"] = mode
        if mode == "replace":
            change["keep"] = ()
        self._override(type, **change)

    def _override(self, type: str, **change: Any) -> None:
        self._habits.setdefault(fold(type), {}).update(change)

    def habits(self, type: str, known: Habits) -> Habits:
        """Hook: the type's known habits with what S9 and S10 changed."""
        change = self._habits.get(fold(type))
        return dataclasses.replace(known, **change) if change else known

    # S13-S16 stand with their parts

    def throttle(
        self, buckets: Mapping[str, tuple[float, float]] | None = None, retry_after: str | float | None = "seconds"
    ) -> None:
        """S13, see Throttle.set."""
        self._sim.throttle.set(buckets, retry_after)

    def token(self, mode: str, times: int | None = None, seconds: float = 5.0) -> None:
        """S14, see Identity.trouble."""
        self._sim.identity.trouble(mode, times=times, seconds=seconds)

    def events(self, **how: Any) -> None:
        """S15, see events.Disturbance: drop, duplicate, delay_s, reorder, early, batch, schema, strip_claims, forge."""
        self._sim.events.disturb(**how)

    def graph(self, **how: Any) -> None:
        """S16, see graph.Trouble: lag_s, omit, truncate, bad_skip_token."""
        self._sim.graph.trouble(**how)

    def activity_log(self, lag_s: float) -> None:
        """S16. The activity log shows what happened only `lag_s` seconds later."""
        self._sim.surface.activity_lag_s = lag_s

    # S17: odd documents

    def mutate(self, id: str, kind: str, path: str = "properties.publicNetworkAccess", size_mb: float = 3) -> None:
        """S17. Behind everyone's back: `unknown` (a property nobody knows), `null`, `case` and `type` (of the value at
        `path`), `big` (`size_mb` of text), `surrogate` (a lone one), `duplicate_key` (in every answer to a GET)."""
        if kind == "duplicate_key":
            self._add("duplicate_key", id, None)
            return
        if kind not in others.ODD:
            raise ValueError(f"no such odd document: {kind}")
        self._sim.mutate(id, lambda body: others.ODD[kind](body, path, size_mb))

    # JSON

    def from_json(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """`{"name": "answer", "match": "PATCH storageAccounts", "status": 503}`: a call by its name; raises ValueError
        for an unknown name and TypeError for arguments that do not fit."""
        name = body.get("name")
        if name not in NAMES:
            raise ValueError(f"no such fault: {name}; there are {', '.join(NAMES)}")
        made = getattr(self, str(name))(**{key: value for key, value in body.items() if key != "name"})
        return {"name": name, "id": made} if made else {"name": name}


NAMES = (
    "answer",
    "lose_answer",
    "drop_request",
    "slow",
    "stale",
    "lro",
    "before_write",
    "after_write",
    "delete",
    "recreate",
    "move",
    "etag",
    "put",
    "lock",
    "deny_assignment",
    "policy",
    "rbac",
    "revoke",
    "throttle",
    "token",
    "events",
    "graph",
    "activity_log",
    "mutate",
)
"""Every fault, by the name it has here and over HTTP."""
