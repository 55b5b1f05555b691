"""The Functions app: which trigger calls what. GUARDRAIL_PART says which part of it this app is.

front takes events and answers HTTP, and can read nothing in Azure; hands reads and writes, and has no HTTP.
"""

from __future__ import annotations

import azure.functions as func

from guardrail import host
from guardrail.errors import GuardrailError

app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)      # keys grant nothing: later routes ask for a token
settings = host.settings()

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

    @app.route(route="{*path}", methods=["GET"], trigger_arg_name="request")
    async def http(request: func.HttpRequest) -> func.HttpResponse:
        """Health. The console and its API come here."""
        if request.route_params.get("path", "") == "health":
            return func.HttpResponse(host.health(), mimetype="application/json")
        return func.HttpResponse(host.not_found(), status_code=404, mimetype="application/json")


if settings.part in ("hands", "all"):

    @app.queue_trigger(arg_name="message", queue_name="looks", connection="Work")
    async def reconcile(message: func.QueueMessage) -> None:
        """A nudge for one resource: its row says what is to be done."""
        worker = host.worker()
        await worker.answer(await worker.nudge(message.get_body()))

    @app.queue_trigger(arg_name="message", queue_name="looks-poison", connection="Work")
    async def on_poison(message: func.QueueMessage) -> None:
        """A look that failed too often. Must not throw: there is no queue behind this one."""
        worker = host.worker()
        try:
            resource = await worker.nudge(message.get_body())
            await worker.stick(resource, "the look failed too often", message.dequeue_count or 0)
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
