"""The Functions app: which trigger calls what. GUARDRAIL_PART says which part of it this app is.

front takes events and answers HTTP, and can read nothing in Azure; hands reads and writes, and has no HTTP.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import azure.functions as func

from guardrail import host
from guardrail.errors import GuardrailError

app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)      # keys grant nothing: all but /health asks for a token
settings = host.settings()
METHODS = ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"]


@lru_cache(maxsize=1)
def site() -> Any:
    """The HTTP app as a function; made at the first request: who takes queue messages never pays for it."""
    from console.app import deployed

    return func.AsgiMiddleware(deployed(host.worker()))     # type: ignore[no-untyped-call]


if settings.part in ("front", "all"):

    @app.event_grid_trigger(arg_name="event")
    async def on_resource_change(event: str) -> None:
        """One Event Grid event, in either schema: as `str` it reaches us unparsed and whole."""
        await host.worker().intake(event)
        host.keep_running()

    @app.queue_trigger(arg_name="message", queue_name="events", connection="Work")
    async def on_queued_change(message: func.QueueMessage) -> None:
        """The same events, put into a storage queue by Event Grid's own identity."""
        await host.worker().intake(message.get_body(), queued=True)
        host.keep_running()

    @app.route(route="{*path}", methods=METHODS, trigger_arg_name="request")
    async def http(request: func.HttpRequest) -> func.HttpResponse:
        """The console and its API: who may do what, and by which method, is said there."""
        try:
            answer: func.HttpResponse = await site().handle_async(request)
        except UnicodeDecodeError:          # a path that is no text
            return func.HttpResponse(status_code=400)
        if request.method == "POST":
            host.keep_running()
        return answer


if settings.part in ("hands", "all"):

    @app.queue_trigger(arg_name="message", queue_name="looks", connection="Work")
    async def reconcile(message: func.QueueMessage) -> None:
        """A nudge for one resource: its row says what is to be done."""
        await host.worker().nudged(message.get_body())

    @app.queue_trigger(arg_name="message", queue_name="looks-poison", connection="Work")
    async def on_poison(message: func.QueueMessage) -> None:
        """A look that failed too often. Must not throw: there is no queue behind this one."""
        worker = host.worker()
        try:
            await worker.poisoned(message.get_body(), message.dequeue_count or 0)
        except GuardrailError as error:
            host.unheard(message.get_body(), error)

    @app.timer_trigger(arg_name="timer", schedule="0 * * * * *")
    async def tend(timer: func.TimerRequest) -> None:
        """Each minute: what is due, message or not."""
        await host.worker().tend()
        host.keep_running()

    @app.timer_trigger(arg_name="timer", schedule=settings.sweep)
    async def sweep(timer: func.TimerRequest) -> None:
        """Each hour: what raised no event, or whose event never came."""
        await host.worker().sweep()
