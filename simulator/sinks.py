"""Where events go: one worker thread a sink keeps their order, tries again, and gives up as Event Grid does.

A target is a callable (it gets a list of events), a web hook (POST), or a storage queue (`…/{queue}/messages?{sas}`,
one base64 event a message). Waits between tries are shortened from Event Grid's 10 s, 30 s … to hundredths.
"""

from __future__ import annotations

import base64
import heapq
import itertools
import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

Event = dict[str, Any]
Target = str | Callable[[list[Event]], Any]

EVENT_GRID, CLOUD_EVENTS = "EventGridSchema", "CloudEventSchemaV1_0"
RETRY_WAITS_S = (0.05, 0.2, 0.5)
FINAL = (400, 401, 403, 413)
"""Answers after which Event Grid does not try a web hook again (it goes to the dead letters)."""


def cloud_event(event: Mapping[str, Any]) -> Event:
    """The same event in CloudEvents 1.0: source is the topic, the data object stays as it is."""
    return {
        "id": event["id"],
        "source": event["topic"],
        "specversion": "1.0",
        "type": event["eventType"],
        "subject": event["subject"],
        "time": event["eventTime"],
        "data": event["data"],
    }


class Sink:
    """One event subscription. `scope` (a group's id) narrows it and is its topic; `dead`: what was given up."""

    def __init__(self, target: Target, schema: str, scope: str, name: str) -> None:
        if isinstance(target, str) and not target.startswith(("http://", "https://")):
            raise ValueError(f"an event goes to a callable or an http(s) URL, not to {target}")
        if schema not in (EVENT_GRID, CLOUD_EVENTS):
            raise ValueError(f"no such delivery schema: {schema}")
        self.target, self.schema, self.scope, self.name = target, schema, scope.rstrip("/"), name
        self.dead: list[tuple[Event, str]] = []
        self.delivered = 0
        self._heap: list[tuple[float, int, list[Event], str, bool]] = []
        self._count = itertools.count()
        self._change = threading.Condition()
        self._sending = False
        self._closed = False
        self._thread: threading.Thread | None = None

    def wants(self, event: Mapping[str, Any]) -> bool:
        """The topic of a group carries what happens in the group, compared without case."""
        return not self.scope or f"{event['subject']}/".lower().startswith(f"{self.scope}/".lower())

    def put(self, events: Sequence[Event], *, delay_s: float = 0.0, schema: str = "", batched: bool = False) -> None:
        """Queues one delivery of these events."""
        with self._change:
            if self._closed:
                return
            due = time.monotonic() + delay_s
            heapq.heappush(self._heap, (due, next(self._count), list(events), schema or self.schema, batched))
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name=f"sink {self.name}", daemon=True)
                self._thread.start()
            self._change.notify_all()

    def hurry(self) -> None:
        """Everything waiting is due now, in the order it was queued."""
        with self._change:
            self._heap = [(0.0, *rest) for _, *rest in self._heap]  # type: ignore[misc]
            heapq.heapify(self._heap)
            self._change.notify_all()

    def drain(self, timeout_s: float) -> bool:
        """Waits until nothing is waiting or under way; False when the time was up first."""
        with self._change:
            return self._change.wait_for(lambda: not self._heap and not self._sending, timeout_s)

    def close(self) -> None:
        with self._change:
            self._closed = True
            self._heap.clear()
            self._change.notify_all()

    def _work(self) -> None:
        while True:
            with self._change:
                while not self._closed and (not self._heap or self._heap[0][0] > time.monotonic()):
                    self._change.wait(max(0.0, self._heap[0][0] - time.monotonic()) if self._heap else None)
                if self._closed:
                    return
                _, _, events, schema, batched = heapq.heappop(self._heap)
                self._sending = True
            try:
                self._deliver(events, schema, batched)
            finally:
                with self._change:
                    self._sending = False
                    self._change.notify_all()

    def _deliver(self, events: list[Event], schema: str, batched: bool) -> None:
        if self.scope:
            events = [{**event, "topic": self.scope} for event in events]
        shown = [cloud_event(event) for event in events] if schema == CLOUD_EVENTS else events
        why = ""
        for attempt, wait_s in enumerate((*RETRY_WAITS_S, 0.0)):
            try:
                why = self._send(shown, schema, batched, attempt)
            except Exception as error:  # noqa: BLE001  the sink's own failure: it is recorded and tried again
                why = f"{type(error).__name__}: {error}"
            if not why:
                self.delivered += len(events)
                return
            if why in {str(status) for status in FINAL} or self._closed:
                break
            time.sleep(wait_s)
        self.dead += [(event, why) for event in events]

    def _send(self, events: list[Event], schema: str, batched: bool, attempt: int) -> str:
        """Delivers once; the status or the reason when that was refused, else the empty text."""
        if callable(self.target):
            self.target(json.loads(json.dumps(events)))
            return ""
        if urlsplit(self.target).path.endswith("/messages"):
            for event in events:
                text = base64.b64encode(json.dumps(event).encode()).decode()
                body = f"<QueueMessage><MessageText>{text}</MessageText></QueueMessage>".encode()
                if why := post(self.target, body, {"content-type": "application/xml", "x-ms-version": "2021-12-02"}):
                    return why
            return ""
        headers = {
            "aeg-event-type": "Notification",
            "aeg-subscription-name": self.name.upper(),
            "aeg-delivery-count": str(attempt),
            "aeg-data-version": "2",
            "aeg-metadata-version": "1",
        }
        if schema == EVENT_GRID:
            kind, content = "application/json; charset=utf-8", json.dumps(events)
        elif batched:
            kind, content = "application/cloudevents-batch+json; charset=utf-8", json.dumps(events)
        else:
            kind, content = "application/cloudevents+json; charset=utf-8", json.dumps(events[0])
        return post(self.target, content.encode(), headers | {"content-type": kind})


def post(url: str, body: bytes, headers: Mapping[str, str]) -> str:
    """POSTs without a proxy; the empty text when it was taken (200 to 204), else the status."""
    request = urllib.request.Request(url, data=body, headers=dict(headers), method="POST")  # noqa: S310  http only
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=30) as answer:
            return "" if 200 <= answer.status <= 204 else str(answer.status)
    except urllib.error.HTTPError as refused:
        refused.close()
        return str(refused.code)
