"""Runs a Functions app (Python, programming model v2) on the library that runs it in Azure.

On Python 3.13 and newer the cloud's worker is a thin gRPC proxy around the PyPI package azure-functions-runtime.
This file takes the proxy's place: the real library indexes, loads and invokes the app, in this process, with no
host, no network and no protobuf. What the .NET host does is absent: routing, keys, retries, queue polling, scaling.
Input shapes are those the SDK's own decoders accept; none was captured from a real host.

    with FunctionsApp("path/to/app", env={"SETTING": "value"}) as app:
        app.functions["on_event"].trigger              # {"type": "eventGridTrigger", "name": "event", ...}
        result = app.invoke("on_event", event)         # result.ok, .value, .outputs, .error, .trace, .ms
        result = await app.ainvoke("on_event", event)  # the same from any event loop; await many to overlap them

Input, by trigger: Event Grid one event (dict); queue str, bytes or JSON; timer None or {"IsPastDue": true};
HTTP {"method", "url", "headers", "params", "query", "body"}, all optional; anything else JSON.
Functions run on one event loop in a thread of their own; sync ones on the library's thread pool. One app at a
time. Modules stay imported afterwards, except function_app and those named in `fresh` (package names).

Needs Python 3.13 and azure-functions-runtime (1.3.0; 1.1.1 and 1.2.1 work too), which brings azure-functions.
usage: functions_runtime.py APP_DIR [NAME INPUT ...]   each INPUT a JSON file, or - for none
"""
import asyncio
import json
import logging
import os
import sys
import threading
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import parse_qs, urlsplit

import azure_functions_runtime as library

SUCCESS = 1                                             # StatusResult: Failure 0, Success 1, Cancelled 2
STARTED = "2026-01-01T00:00:00+00:00"
KINDS = {"string": str, "json": str, "bytes": bytes, "int": int, "double": float, "http": object}


class Message(SimpleNamespace):
    """Stands for any protocol message: fields as attributes."""


class TypedData(Message):
    """At most one of KINDS, its type checked as protobuf checks it."""

    def __init__(self, **one):
        self.kind, self.value = next(iter(one.items()), (None, None))
        if self.kind and not isinstance(self.value, KINDS[self.kind]):
            raise TypeError(f"TypedData.{self.kind} cannot hold {type(self.value).__name__}")
        super().__init__(**one)

    def WhichOneof(self, _):  # noqa: N802 (protobuf's name)
        return self.kind


class ParameterBinding(Message):
    def WhichOneof(self, _):  # noqa: N802 (protobuf's name)
        return "data"


def message(name, **constants):
    return type(name, (Message,), constants)


# What the library expects of its caller's protobuf module.
PROTOS = SimpleNamespace(
    TypedData=TypedData, ParameterBinding=ParameterBinding,
    StatusResult=message("StatusResult", Failure=0, Success=SUCCESS, Cancelled=2),
    BindingInfo=message("BindingInfo", **{"in": 0, "out": 1, "inout": 2, "undefined": 0, "string": 1, "binary": 2}),
    RpcHttpCookie=message("RpcHttpCookie", SameSite=SimpleNamespace(
        **{"None": 0, "Lax": 1, "Strict": 2, "ExplicitNone": 3})),
    **{name: message(name) for name in (
        "WorkerInitResponse", "WorkerMetadata", "RpcException", "FunctionMetadataResponse", "FunctionLoadResponse",
        "RpcFunctionMetadata", "RpcRetryOptions", "InvocationResponse", "RpcHttp", "NullableString", "NullableBool",
        "NullableDouble", "NullableTimestamp", "Timestamp")})


@dataclass(frozen=True)
class Function:
    name: str
    id: str
    bindings: list                                      # as function.json would have them
    retry: object                                       # retry policy message, or None

    @property
    def trigger(self):
        return next(one for one in self.bindings if one["type"].lower().endswith("trigger"))


@dataclass(frozen=True)
class Result:
    ok: bool
    value: object = None                                # for HTTP {"status", "headers", "cookies", "body": bytes}
    outputs: dict = field(default_factory=dict)         # binding name to what was set
    error: str = ""                                     # "ValueError: ..." as the host would log it
    trace: str = ""
    ms: float = 0.0


class IndexingError(RuntimeError):
    """The app did not index: what the cloud would show as 'no functions found'."""


class FunctionsApp:
    _open = threading.Lock()

    def __init__(self, app_dir, env=None, fresh=()):
        self.dir = Path(app_dir).resolve()
        self.env = {"AzureWebJobsScriptRoot": str(self.dir), "FUNCTIONS_WORKER_RUNTIME": "python", **(env or {})}
        self.fresh = tuple(fresh)
        self.functions = {}

    def __enter__(self):
        self.script = Path(self.env.get("PYTHON_SCRIPT_FILE_NAME", "function_app.py")).stem
        if not (self.dir / f"{self.script}.py").is_file():
            raise IndexingError(f"no {self.script}.py in {self.dir}")
        if not self._open.acquire(blocking=False):
            raise RuntimeError("another FunctionsApp is open in this process")
        self.before = {name: os.environ[name] for name in self.env if name in os.environ}
        os.environ.update(self.env)
        sys.path.insert(0, str(self.dir))
        self._forget()
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, name="functions-loop", daemon=True)
        self.thread.start()
        try:
            library.start_threadpool_executor()         # reads PYTHON_THREADPOOL_THREAD_COUNT
            self._wait(self._load())
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self._wait(self._cancel_all())
        library.stop_threadpool_executor()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()
        self._forget()
        sys.path.remove(str(self.dir))
        for name in self.env:
            os.environ.pop(name, None)
        os.environ.update(self.before)
        self._open.release()

    def invoke(self, name, data=None, *, timeout=60, **more):
        """Invoke and wait. `more`: trace_parent, retry_count, max_retry_count, dequeue_count, inputs."""
        return self._wait(self._invoke(name, data, **more), timeout)

    async def ainvoke(self, name, data=None, **more):
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._invoke(name, data, **more), self.loop))

    def _wait(self, coroutine, timeout=60):
        future = asyncio.run_coroutine_threadsafe(coroutine, self.loop)
        try:
            return future.result(timeout)
        except TimeoutError:
            future.cancel()
            raise

    def _forget(self):
        for name in list(sys.modules):
            if name.split(".")[0] in (self.script, *self.fresh):
                del sys.modules[name]

    async def _cancel_all(self):
        """Ends what the app left running; an ASGI app gets no lifespan shutdown, as when the cloud stops a worker."""
        logging.getLogger("azure.functions.AsgiMiddleware").addFilter(self._quiet)
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        await self.loop.shutdown_asyncgens()
        logging.getLogger("azure.functions.AsgiMiddleware").removeFilter(self._quiet)

    @staticmethod
    def _quiet(record):
        return False

    async def _ask(self, handler, kind, **fields):
        answer = await handler(Message(
            request=Message(**{kind: Message(**fields)}), properties={"host": "127.0.0.1", "protos": PROTOS}))
        if answer.result.status != SUCCESS and kind != "invocation_request":
            raise IndexingError(f"{answer.result.exception.message}\n{answer.result.exception.stack_trace}")
        return answer

    async def _load(self):
        await self._ask(library.worker_init_request, "worker_init_request",
                        capabilities={}, function_app_directory=str(self.dir))
        listed = await self._ask(library.functions_metadata_request, "functions_metadata_request")
        for one in listed.function_metadata_results or ():
            await self._ask(library.function_load_request, "function_load_request", function_id=one.function_id)
            bindings = [json.loads(raw) for raw in one.raw_bindings]
            self.functions[one.name] = Function(one.name, one.function_id, bindings, one.retry_options)

    async def _invoke(self, name, data, *, inputs=None, dequeue_count=1, trace_parent="", retry_count=0,
                      max_retry_count=0):
        function = self.functions[name]
        typed, metadata = encode(function.trigger["type"].lower(), data, dequeue_count)
        given = [ParameterBinding(name=function.trigger["name"], data=typed)]
        given += [ParameterBinding(name=key, data=plain_typed(value)) for key, value in (inputs or {}).items()]
        began = time.perf_counter()
        answer = await self._ask(
            library.invocation_request, "invocation_request", invocation_id=str(uuid.uuid4()),
            function_id=function.id, input_data=given, trigger_metadata=metadata,
            trace_context=Message(trace_parent=trace_parent, trace_state="", attributes={}),
            retry_context=Message(retry_count=retry_count, max_retry_count=max_retry_count, exception=None))
        ms = (time.perf_counter() - began) * 1000
        if answer.result.status != SUCCESS:
            failure = answer.result.exception
            return Result(False, error=failure.message, trace=failure.stack_trace, ms=ms)
        outputs = {one.name: decode(one.data) for one in answer.output_data}
        return Result(True, decode(answer.return_value), outputs, ms=ms)


def plain_typed(value):
    if isinstance(value, (str, bytes)):
        return TypedData(**{"string" if isinstance(value, str) else "bytes": value})
    return TypedData(json=json.dumps(value))


def encode(trigger, data, dequeue_count):
    """The trigger's data and metadata, shaped as the host sends them to the worker."""
    if trigger == "httptrigger":
        return TypedData(http=request(**(data or {}))), {}
    if trigger == "timertrigger":
        schedule = {"Schedule": {"AdjustForDST": True}, "ScheduleStatus": {
            "Last": STARTED, "Next": STARTED, "LastUpdated": STARTED}, "IsPastDue": False}
        return TypedData(json=json.dumps(schedule | (data or {}))), {}
    if trigger == "queuetrigger":
        data = data if isinstance(data, (str, bytes)) else json.dumps(data)
        return plain_typed(data), {
            "Id": TypedData(string=str(uuid.uuid4())), "DequeueCount": TypedData(json=str(dequeue_count)),
            "PopReceipt": TypedData(string="receipt"),
            **dict.fromkeys(("InsertionTime", "ExpirationTime", "NextVisibleTime"), TypedData(json=f'"{STARTED}"'))}
    return TypedData(json=json.dumps(data)), {}


def request(method="GET", url="http://localhost:7071/api", headers=None, params=None, query=None, body=b""):
    """Header names in lower case and repeated query values joined by commas, as the host does."""
    if not isinstance(body, (str, bytes)):
        body = json.dumps(body)
    body = body.encode() if isinstance(body, str) else body
    asked = {key: ",".join(values) for key, values in parse_qs(urlsplit(url).query).items()}
    return PROTOS.RpcHttp(method=method, url=url, params=params or {}, query=asked if query is None else query,
                          headers={key.lower(): value for key, value in (headers or {}).items()},
                          body=TypedData(bytes=body) if body else TypedData())


def decode(typed):
    if typed is None or typed.kind is None:
        return None
    if typed.kind == "http":
        http, body = typed.value, typed.value.body.value if typed.value.body else b""
        return {"status": int(http.status_code), "headers": http.headers, "cookies": http.cookies or [],
                "body": body.encode() if isinstance(body, str) else body or b""}
    return json.loads(typed.value) if typed.kind == "json" else typed.value


def main(app_dir, name=None, *paths):
    ok = True
    with FunctionsApp(app_dir) as app:
        for one in app.functions.values():
            print(json.dumps({"function": one.name, "bindings": one.bindings}))
        for path in paths:
            result = app.invoke(name, None if path == "-" else json.loads(Path(path).read_text()))
            ok = ok and result.ok
            print(json.dumps(vars(result), default=str))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
