"""Long-running operations: Azure-AsyncOperation, Location, or nothing but provisioningState.

By default a write is done when it is answered: the answer still says `Creating` and names its operation, whose first
poll says `Succeeded`. With `sim.operations.polls = n` it takes n polls; a GET of the resource counts as one.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from simulator.ids import fold, split, subscription_of
from simulator.types import Answer
from simulator.wire import Request, Response, error
from simulator.world import iso

if TYPE_CHECKING:
    from simulator import Simulator

Effect = Literal["accept", "end", "half", "never"]
Style = Literal["async", "location", "state", "none"]


@dataclass(frozen=True, slots=True)
class Plan:
    """How one write runs. `kind` None: as the type does it.

    `effect`: when the world changes: at acceptance, at the end, half of it at the end, or never.
    """

    polls: int | None = 0
    """None: it never ends."""
    end: Literal["Succeeded", "Failed", "Canceled"] = "Succeeded"
    effect: Effect = "accept"
    kind: Style | None = None
    url: str | None = None
    """Another URL for Azure-AsyncOperation and Location (foreign, lost)."""


@dataclass(slots=True)
class Operation:
    """One write under way, or over (`status` is then terminal)."""

    resource: str
    plan: Plan
    finish: Callable[[Operation], None]
    """Called once, when the operation ends."""
    left: int | None = 0
    status: str = "InProgress"
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    started: float = 0.0
    result: Callable[[], Any] = lambda: None
    """What a finished Location shows: the resource, or None."""


class Operations:
    """All operations of one simulator. `polls`: how many polls every long write takes; `retry_after`: seconds sent."""

    def __init__(self, sim: Simulator) -> None:
        self._sim = sim
        self._all: dict[str, Operation] = {}
        self.polls = 0
        self.retry_after = 1.0
        """Azure often sends none, and then its clients wait 30 s for the first poll."""

    def plan(self, effect: Effect = "accept") -> Plan:
        """How a write runs where no fault says otherwise."""
        return Plan(polls=self.polls, effect=effect)

    def start(self, resource: str, plan: Plan, finish: Callable[[Operation], None], result: Callable[[], Any]) -> Operation:
        """Begins an operation; with no polls to wait for it has ended when this returns."""
        operation = Operation(resource, plan, finish, plan.polls, started=self._sim.clock(), result=result)
        self._all[operation.id] = operation
        if operation.left == 0:
            self._end(operation)
        return operation

    def running(self, resource: str) -> Operation | None:
        """The operation that holds this resource, if any."""
        here = fold(resource)
        return next((it for it in self._all.values() if it.status == "InProgress" and fold(it.resource) == here), None)

    def seen(self, resource: str) -> None:
        """A GET of the resource: time passes for its operation."""
        if operation := self.running(resource):
            self._tick(operation)

    def headers(self, request: Request, operation: Operation, answer: Answer) -> dict[str, str]:
        """The headers of the first answer, by the type's style or the plan's."""
        style = operation.plan.kind
        names = {"async": "aao", "location": "loc", "state": "", "none": ""}[style] if style else answer.how
        if not names:
            return {}
        subscription, (_, namespace, _) = subscription_of(operation.resource), split(operation.resource)
        where = f"/subscriptions/{subscription}/providers/{namespace}/locations/eastus"
        version = request.version
        headers = {"Retry-After": f"{self.retry_after:g}"}
        if "aao" in names:
            url = f"{request.base}{where}/operationStatuses/{operation.id}?api-version={version}"
            headers["Azure-AsyncOperation"] = operation.plan.url or url
        if "loc" in names:
            url = f"{request.base}{where}/operationResults/{operation.id}?api-version={version}"
            headers["Location"] = operation.plan.url or url
        return headers

    def route(self, request: Request) -> Response | None:
        """GET of an operation's URL; None for every other path."""
        *_, kind, id = request.path.split("/") if request.path.count("/") > 1 else ("", "", "")
        if kind.lower() not in ("operationstatuses", "operationresults") or request.method != "GET":
            return None
        operation = self._all.get(id)
        if operation is None:
            return error(404, "NotFound", f"The operation '{id}' was not found.")
        self._tick(operation)
        more = {"Retry-After": f"{self.retry_after:g}"} if operation.status == "InProgress" else {}
        if kind.lower() == "operationstatuses":
            return Response(200, self._status(request, operation), more)
        if operation.status == "InProgress":
            return Response(202, None, {**more, "Location": f"{request.base}{request.path}?api-version={request.version}"})
        if operation.status != "Succeeded":
            return error(409, "OperationFailed", "The operation failed.")
        shown = operation.result()
        return Response(200, shown) if shown is not None else Response(204)

    def _status(self, request: Request, operation: Operation) -> dict[str, Any]:
        body: dict[str, Any] = {
            "id": request.path,
            "name": operation.id,
            "status": operation.status,
            "startTime": iso(operation.started),
        }
        if operation.status != "InProgress":
            body["endTime"] = iso(self._sim.clock())
        if operation.status in ("Failed", "Canceled"):
            code = "OperationFailed" if operation.status == "Failed" else "OperationCanceled"
            body["error"] = {"code": code, "message": f"The operation ended as {operation.status}."}
        return body

    def _tick(self, operation: Operation) -> None:
        if operation.status != "InProgress" or operation.left is None:
            return
        operation.left -= 1
        if operation.left <= 0:
            self._end(operation)

    def _end(self, operation: Operation) -> None:
        operation.status = operation.plan.end
        operation.finish(operation)
