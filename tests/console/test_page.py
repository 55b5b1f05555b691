"""The status page and the web hook: what anyone may send, what everyone gets back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import Any

import pytest
from starlette.applications import Starlette

from console.app import HEADERS, HOOK, Console, build
from guardrail.authorize import Person
from guardrail.errors import StoreDown
from guardrail.ids import parse
from guardrail.stores.sqlite import SqliteStore
from guardrail.values import Action, Case, Edit, Plan, Record

pytestmark = pytest.mark.anyio
NOW = datetime(2026, 11, 24, 19, 2, 4, tzinfo=UTC)
ACCOUNT = parse("/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/rg/providers/Microsoft.Storage/"
                "storageAccounts/stmltrain")
HOOKED = f"{HOOK}?functionName=on_resource_change"


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()


async def call(app: Starlette, method: str, path: str, body: bytes = b"", **headers: str) -> Answer:
    """One request without a socket."""
    path, _, query = path.partition("?")
    sent = {"host": "127.0.0.1:8800", **{name.replace("_", "-"): value for name, value in headers.items()}}
    scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "path": path,
             "raw_path": path.encode(), "root_path": "", "scheme": "http",
             "query_string": query.encode(), "server": ("127.0.0.1", 8800),
             "client": ("127.0.0.1", 1), "headers": [(name.encode(), value.encode()) for name, value in sent.items()]}
    chunks = [{"type": "http.request", "body": body[at:at + 65536], "more_body": True} for at in range(0, len(body), 65536)]
    chunks.append({"type": "http.request", "body": b"", "more_body": False})
    told = list[Any]()

    async def receive() -> Any:
        if not chunks:
            await asyncio.Event().wait()        # as a server: until the client goes, which it never does here
        return chunks.pop(0)

    async def send(message: Any) -> None:
        told.append(message)

    await app(scope, receive, send)
    found = {name.decode(): value.decode() for name, value in told[0]["headers"]}
    return Answer(told[0]["status"], found, b"".join(one.get("body", b"") for one in told[1:]))


@pytest.fixture
async def store() -> AsyncIterator[SqliteStore]:
    one = SqliteStore(":memory:", lambda: NOW, durable=False)
    yield one
    one.close()


def console(store: SqliteStore, **more: Any) -> Console:
    return Console(store, "enforce", "guardrail.yaml 7f3a9c21", anyone, **more)


async def anyone(request: Any) -> Person:
    return Person("somebody", frozenset({"Reader"}))


async def filled(store: SqliteStore, text: str) -> None:
    """A case with a finding, an action and records, where every string that is anybody's is `text`."""
    from guardrail import names

    path = "properties.publicNetworkAccess"
    plan = Plan(ACCOUNT, text, "fix", (Edit(path, text, text),), (text,))
    action = Action("act-123456789abc", plan, "proposed", "approve", NOW, (text,), why=text)
    case = Case(ACCOUNT, incarnation=text, findings=frozenset({(text, path), (text, "?")}), asked=action, stuck=text)

    def record(event: str, **detail: Any) -> Record:
        return Record(event, NOW, text, text, "approve", text, detail)

    ids = [names.finding_id(ACCOUNT, text, text, one) for one in (path, "?")]
    await store.commit(
        case, record("change.seen", operations=[text], event_ids=[text], actors=[text]),
        record("finding.raised", finding_id=ids[0], control=text, path=path, severity="high", why=text, observed={text: text},
               wanted=[text]),
        record("finding.raised", finding_id=ids[1], control=text, path="", severity=text, why=text),
        record("decision.made", finding_ids=ids, controls=[text], rule=text, why=text, plan_hash=text, edits=[]),
        record("action.proposed", action_id="act-123456789abc", kind="fix", why=text, plan_hash=text, controls=[text]))
    detail = {"was": text, "now": text, "reason": text}
    await store.set_rules(await store.rules(), Record("mode.switched", NOW, text, "", "report", "", detail))


class Skeleton(HTMLParser):
    """Elements and attribute names of a page, in order: what markup there is, whatever the text says."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, tuple[str, ...]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, tuple(name for name, _ in attrs)))


def skeleton(page: str) -> list[tuple[str, tuple[str, ...]]]:
    parser = Skeleton()
    parser.feed(page)
    return parser.seen


PAYLOADS = ("<script>alert(1)</script>", "<img src=x onerror=alert(1)>", '"><svg onload=alert(1)>', "' onmouseover='alert(1)",
            "</title><script>", "{{7*7}}{% raw %}", "javascript:alert(1)", "\x1b[31m\u202e\x00", "&lt;b&gt;", "--><!--")


@pytest.mark.threat("E1")
@pytest.mark.parametrize("payload", PAYLOADS)
async def test_hostile_text_adds_no_markup(payload: str) -> None:
    """The same page as with a plain word: not one element or attribute more."""
    pages = []
    for text in ("plain", payload):
        store = SqliteStore(":memory:", lambda: NOW, durable=False)
        await filled(store, text)
        app = build(console(store, simulator="http://127.0.0.1:1", people={text: text}))
        pages.append((await call(app, "GET", "/")).text)
        store.close()
    assert skeleton(pages[0]) == skeleton(pages[1])
    assert [one for one in pages[1] if one not in "\n\t" and not one.isprintable()] == []
    assert "<script" not in pages[1]


@pytest.mark.threat("E1")
async def test_the_page_shows_what_is_there(store: SqliteStore) -> None:
    await filled(store, "plain")
    app = build(console(store, simulator="http://127.0.0.1:8801", people={"plain": "ml-engineer"}))
    page = (await call(app, "GET", "/")).text
    for text in ("REPORT-ONLY", "SIMULATOR", "stmltrain", "waiting for approval", "ml-engineer", "act-123456789abc", "intact",
                 "(2) Guardrail: needs you", "unreadable: plain"):
        assert text in page


async def test_silence_is_not_called_compliance(store: SqliteStore) -> None:
    page = (await call(build(console(store)), "GET", "/")).text
    assert "silence is not compliance" in page
    assert "SIMULATOR" not in page


async def test_a_broken_chain_is_shown(store: SqliteStore) -> None:
    await filled(store, "plain")
    store._db.execute("UPDATE records SET body = replace(CAST(body AS TEXT), 'high', 'low') WHERE seq = 2")
    page = (await call(build(console(store)), "GET", "/")).text
    assert "BROKEN" in page
    assert "record 2" in page


class Down(SqliteStore):
    """A store that answers nothing."""

    error: Exception = StoreDown("no store")

    def chains(self) -> Any:
        raise self.error


@pytest.mark.threat("D7")
@pytest.mark.parametrize(("method", "path", "status"), [
    ("GET", "/", 200), ("GET", "/index.json", 200), ("GET", "/health", 200), ("GET", "/style.css", 200), ("HEAD", "/", 200),
    ("GET", "/nothing", 404), ("POST", "/", 405), ("GET", HOOK, 405), ("POST", HOOK, 404), ("POST", HOOKED, 202)])
async def test_every_answer_carries_the_headers(store: SqliteStore, method: str, path: str, status: int) -> None:
    async def taken(raw: bytes) -> None:
        """Stored."""

    answer = await call(build(console(store, intake=taken)), method, path)
    assert answer.status == status
    assert {name: answer.headers[name] for name in HEADERS} == HEADERS
    assert "script-src 'self'" in answer.headers["content-security-policy"]
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]


@pytest.mark.threat("D7")
@pytest.mark.parametrize(("error", "status"), [(StoreDown("no store"), 503), (ValueError("no store: a bug"), 500)])
async def test_a_page_that_fails_carries_them_too(error: Exception, status: int) -> None:
    store = Down(":memory:", lambda: NOW, durable=False)
    store.error = error
    answer = await call(build(console(store)), "GET", "/")
    store.close()
    assert answer.status == status
    assert {name: answer.headers[name] for name in HEADERS} == HEADERS
    assert "no store" not in answer.text


@pytest.mark.threat("D7")
async def test_another_name_is_not_answered(store: SqliteStore) -> None:
    """A foreign page whose name was pointed at us (DNS rebinding) reads nothing."""
    app = build(console(store))
    answer = await call(app, "GET", "/index.json", host="evil.example")
    assert (answer.status, "findings" in answer.text) == (400, False)
    assert {name: answer.headers[name] for name in HEADERS} == HEADERS
    assert (await call(app, "GET", "/index.json", host="localhost:8800")).status == 200


async def test_json_says_what_the_page_says(store: SqliteStore) -> None:
    await filled(store, "plain")
    status = json.loads((await call(build(console(store)), "GET", "/index.json")).body)
    assert status["counts"] | {"findings": 2, "waiting": 1, "stuck": 1} == status["counts"]
    assert status["chain"]["intact"] is True
    assert status["mode"]["switch"] == "report"


# the web hook

class Intake:
    def __init__(self, error: Exception | None = None) -> None:
        self.seen: list[bytes] = []
        self.error = error

    async def __call__(self, raw: bytes) -> None:
        if self.error:
            raise self.error
        self.seen.append(raw)


async def test_events_are_taken_as_they_came(store: SqliteStore) -> None:
    intake = Intake()
    answer = await call(build(console(store, intake=intake)), "POST", HOOKED, b'[{"a": 1}]', aeg_event_type="Notification")
    assert (answer.status, intake.seen) == (202, [b'[{"a": 1}]'])


@pytest.mark.parametrize("error", [StoreDown("x"), ValueError("a bug")])
async def test_what_was_not_stored_is_not_acknowledged(store: SqliteStore, error: Exception) -> None:
    answer = await call(build(console(store, intake=Intake(error))), "POST", HOOKED, b"[]")
    assert answer.status == 500
    assert "a bug" not in answer.text


async def test_more_than_a_mebibyte_is_refused(store: SqliteStore) -> None:
    intake = Intake()
    app = build(console(store, intake=intake))
    assert (await call(app, "POST", HOOKED, b"x" * (1024 * 1024 + 1))).status == 413
    assert intake.seen == []
    assert (await call(app, "POST", HOOKED, b"x" * 1024 * 1024)).status == 202


async def test_the_handshake_is_answered_with_its_code_alone(store: SqliteStore) -> None:
    intake = Intake()
    sent = [{"id": "1", "eventType": "Microsoft.EventGrid.SubscriptionValidationEvent",
             "data": {"validationCode": "code-1", "validationUrl": "https://evil.example/"}}]
    answer = await call(build(console(store, intake=intake)), "POST", HOOKED, json.dumps(sent).encode(),
                        aeg_event_type="SubscriptionValidation")
    assert (answer.status, json.loads(answer.body), intake.seen) == (200, {"validationResponse": "code-1"}, [])


@pytest.mark.parametrize("body", [b"{", b"[]", b"[{}]", b'[{"data": []}]', b'[{"data": {"validationCode": 1}}]'])
async def test_an_odd_handshake_is_an_event_like_any_other(store: SqliteStore, body: bytes) -> None:
    intake = Intake()
    answer = await call(build(console(store, intake=intake)), "POST", HOOKED, body, aeg_event_type="SubscriptionValidation")
    assert (answer.status, intake.seen) == (202, [body])


async def test_deployed_there_is_no_web_hook(store: SqliteStore) -> None:
    """The host has its own; this one is the embedded run's."""
    assert (await call(build(console(store)), "POST", HOOKED, b"[]")).status == 404


def test_the_stylesheet_is_small() -> None:
    from pathlib import Path

    import console as package

    folder = Path(str(package.__file__)).parent / "templates"
    assert (folder / "style.css").stat().st_size < 15 * 1024
    assert "style=" not in (folder / "index.html").read_text()
