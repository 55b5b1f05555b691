"""A log line is one line of JSON with the same keys, whatever stands in it, and holds no secret."""

from __future__ import annotations

import io
import json
import logging
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail import ids, logs
from guardrail.values import Record

ID = ids.parse("/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/rg")
AT = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
KEYS = {"event", "at", "severity", *logs.ALWAYS}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    yield
    logs.configure()


def written(**fields: Any) -> dict[str, Any]:
    stream = io.StringIO()
    logs.configure("debug", stream)
    logs.line("action.failed", **fields)
    assert stream.getvalue().count("\n") == 1
    assert len(stream.getvalue().splitlines()) == 1
    found: dict[str, Any] = json.loads(stream.getvalue())
    return found


def test_a_record_becomes_a_line_with_all_the_keys() -> None:
    stream = io.StringIO()
    logs.configure("info", stream)
    record = Record(
        "action.verified",
        AT,
        "guardrail",
        "corr",
        "enforce",
        "hash",
        {
            "action_id": "act-1",
            "control": "storage-x",
            "from": "applied",
            "duration_ms": 12,
            "event": "forged",
            "at": "forged",
        },
    )
    logs.told(record, ID)
    assert json.loads(stream.getvalue()) == {
        "event": "action.verified",
        "at": "2026-11-24T12:00:00Z",
        "severity": "info",
        "resource_id": ID,
        "action_id": "act-1",
        "controls": ["storage-x"],
        "mode": "enforce",
        "correlation_id": "corr",
        "actor": "guardrail",
        "outcome": "verified",
        "attempt": 0,
        "duration_ms": 12,
        "control": "storage-x",
        "from": "applied",
    }


@pytest.mark.parametrize(
    ("event", "severity"),
    [
        ("request.sent", "info"),
        ("action.proposed", "warning"),
        ("breaker.tripped", "error"),
        ("no.such_event", "warning"),
    ],
)
def test_the_name_says_how_severe_it_is(event: str, severity: str) -> None:
    stream = io.StringIO()
    logs.configure("info", stream)
    logs.line(event)
    assert json.loads(stream.getvalue())["severity"] == severity


def test_lines_below_the_level_are_not_written() -> None:
    stream = io.StringIO()
    logs.configure("warning", stream)
    logs.line("request.sent")
    assert stream.getvalue() == ""


def test_in_the_worker_the_message_is_the_whole_line(caplog: pytest.LogCaptureFixture) -> None:
    logs.configure("info")
    with caplog.at_level(logging.INFO, "guardrail"):
        logs.line("request.sent", url="/x 100% %s")
    assert json.loads(caplog.messages[0])["url"] == "/x 100% %s"
    assert caplog.records[0].levelname == "INFO"


@pytest.mark.threat("E2")
@pytest.mark.parametrize(
    "hostile",
    [
        "a\nb",
        'x"}{"event":"action.verified"',
        "\x1b[2J\x1b]0;owned\x07",
        "\r\n",
        "\x85\u2028\u2029",
        "\x9b31m",
        "\u202egnp.exe",
        "\ud800",
        "\u200b\u2066",
        "\x00",
        "\x7f",
    ],
)
def test_a_hostile_value_stays_in_its_place(hostile: str) -> None:
    found = written(resource_id=hostile, detail={hostile: [hostile]}, **{"odd" + hostile: 1})
    assert set(found) - {*KEYS, "detail"} in ({"odd" + logs.visible(hostile)}, {r"odd\ud800"})
    assert found["event"] == "action.failed"
    assert all(one.isprintable() for one in json.dumps(found, ensure_ascii=False))
    stream = Terminal()
    logs.configure("info", stream)
    logs.line("action.failed", resource_id=hostile)
    assert stream.getvalue().count("\n") == 1
    assert stream.getvalue().rstrip("\n").isprintable()


@pytest.mark.threat("E2")
@given(st.text(st.characters(exclude_categories=())))
def test_visible_text_can_be_printed_and_keeps_what_could(text: str) -> None:
    shown = logs.visible(text)
    assert shown.isprintable()
    assert logs.visible(shown) == shown
    if text.isprintable():
        assert shown == text
    shown.encode()


@pytest.mark.threat("E2")
def test_long_values_are_cut() -> None:
    found = written(long="x" * 5000, deep=["y" * 30] * 5000)
    assert found["long"] == "x" * 4096 + " ... 904 more"
    assert len(found["deep"]) < 4200


CANARY = "c4narYc4narYc4narYc4narYc4narY=="


@pytest.mark.threat("E10")
@pytest.mark.parametrize(
    "fields",
    [
        {"headers": {"Authorization": f"Bearer {CANARY}"}},
        {"error": f"sent with Authorization: Bearer {CANARY}"},
        {"url": f"https://x.blob.core.windows.net/c?sv=2024&sig={CANARY}&api-version=2024-01-01"},
        {"url": f"https://x/y?anything={CANARY}"},
        {"error": f"GET /a?api-version=2024-01-01&token={CANARY} failed"},
        {"body": {"primaryKey": CANARY, "nested": [{"clientSecret": CANARY}]}},
        {"error": json.dumps({"error": {"primaryKey": CANARY}})},
        {"error": f"DefaultEndpointsProtocol=https;AccountName=x;AccountKey={CANARY};EndpointSuffix=y"},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_a_secret_is_not_in_a_line(fields: dict[str, Any]) -> None:
    assert "c4narY" not in json.dumps(written(**fields))


@pytest.mark.threat("E10")
@pytest.mark.parametrize("is_terminal", [False, True])
def test_a_secret_in_an_exception_chain_is_not_in_a_line(is_terminal: bool) -> None:
    stream = Terminal() if is_terminal else io.StringIO()
    logs.configure("info", stream)
    try:
        try:
            raise ValueError("AccountKey=" + "".join(CANARY))
        except ValueError as error:
            raise RuntimeError("https://x/y?" + "&".join(["a=1", "b=" + "".join(CANARY)])) from error
    except RuntimeError as error:
        assert "c4narY" in traceback.format_exc()
        logs.line("look.poisoned", exc_info=error)
    assert "RuntimeError" in stream.getvalue()
    assert "c4narY" not in stream.getvalue()


def test_the_api_version_of_a_query_stays() -> None:
    assert written(url="/a/b?api-version=2024-01-01&x=1")["url"] == "/a/b?api-version=2024-01-01"
    assert written(why="why? because")["why"] == "why? because"


@given(
    st.dictionaries(
        st.text(min_size=1, max_size=8),
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers()
            | st.floats()
            | st.text(max_size=20)
            | st.binary(max_size=5)
            | st.just(object()),
            lambda inner: (
                st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3) | st.tuples(inner)
            ),
        ),
        max_size=4,
    )
)
def test_no_value_makes_a_line_fail(fields: dict[str, Any]) -> None:
    reserved = ("event", "exc_info", "at", "severity", "stack_info", "level")
    found = written(**{name: value for name, value in fields.items() if name not in reserved})
    assert set(found) >= KEYS
