"""guardrail replay: recorded events through the engine, and on to a host."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import msgspec
import pytest

import recorded
from detectors import CONTROLS
from tests.cli.conftest import Guardrail

ROOT = Path(__file__).parent.parent.parent
EVENTS = ROOT / "recorded/events"
WRITE = str(EVENTS / "subscription-write-eventgrid.json")


def documents(folder: Path, *controls: str) -> Path:
    """Resources that these controls speak about, as files."""
    folder.mkdir(exist_ok=True)
    for number, control in enumerate(one for one in CONTROLS if one.id in controls):
        sample = recorded.drifted(control)
        whole = {"id": sample.id, "api_version": sample.api_version, "document": sample.body}
        (folder / f"{number}.json").write_bytes(msgspec.json.encode(whole))
    return folder


def test_every_recorded_event_goes_through(guardrail: Guardrail) -> None:
    answer = guardrail("replay", str(EVENTS), "-o", "json")
    rows = json.loads(answer.out)
    contents = [json.loads(file.read_bytes()) for file in EVENTS.glob("*.json")]
    many = sum(len(one) if isinstance(one, list) else 1 for one in contents)
    assert answer.code == 0, answer.err
    assert len(rows) == many
    assert {row["verdict"] for row in rows} == {"no control", "compliant", "duplicate", "malformed"}
    assert f"{many} events" in answer.err
    told = guardrail("replay", str(EVENTS))
    assert len(told.out.splitlines()) == many + 1


def test_drift_is_reported_and_nothing_is_written(guardrail: Guardrail, tmp_path: Path) -> None:
    folder = documents(tmp_path / "docs", "storage-public-network-access")
    answer = guardrail("replay", WRITE, "--documents", str(folder), "-o", "json")
    [row] = json.loads(answer.out)
    assert answer.code == 2
    assert (row["verdict"], row["resource"], row["findings"]) == ("drift", "stmltrain", ["1 high"])
    assert "plan" in row["decision"]


def test_apply_writes_to_its_own_simulator(guardrail: Guardrail, tmp_path: Path) -> None:
    folder = documents(tmp_path / "docs", "storage-public-network-access")
    policy = tmp_path / "p.yaml"
    policy.write_text("version: 1\nenvironments: {dev: [/subscriptions/00000000-0000-0000-0000-000000000001]}\n"
                      "default: {production: report, other: enforce}\n")
    answer = guardrail("replay", WRITE, "--documents", str(folder), "--apply", "--policy", str(policy), "-o", "json")
    [row] = json.loads(answer.out)
    assert row["decision"].startswith("verified act-")


def test_a_resource_without_a_document_is_unknown(guardrail: Guardrail, tmp_path: Path) -> None:
    folder = documents(tmp_path / "docs", "keyvault-purge-protection")
    answer = guardrail("replay", WRITE, "--documents", str(folder), "-o", "json")
    assert [row["verdict"] for row in json.loads(answer.out)] == ["unknown"]


def test_stdin_and_noise(guardrail: Guardrail) -> None:
    raw = (EVENTS / "foreign-single-eventgrid.json").read_bytes()
    assert json.loads(guardrail("replay", "-", "-o", "json", stdin=raw).out)[0]["verdict"] == "no control"
    assert json.loads(guardrail("replay", "-", "-o", "json", stdin=b"{no").out)[0]["verdict"] == "malformed"


class Host(BaseHTTPRequestHandler):
    """A Functions host's web hook that answers what it is told to."""

    status = 202
    seen: list[tuple[str, str, bytes]] = []

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers["Content-Length"]))
        self.seen.append((self.path, self.headers["aeg-event-type"], raw))
        self.send_response(self.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Not to stderr."""


@pytest.fixture
def host() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Host)
    Host.seen, Host.status = [], 202
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_events_are_sent_on_as_they_are(guardrail: Guardrail, host: str) -> None:
    answer = guardrail("replay", str(EVENTS), "--to", host)
    assert answer.code == 0
    assert {raw for _, _, raw in Host.seen} == {file.read_bytes() for file in EVENTS.glob("*.json")}
    assert {(path, kind) for path, kind, _ in Host.seen} == {
        ("/runtime/webhooks/EventGrid?functionName=on_resource_change", "Notification")}


def test_what_a_host_does_not_take_is_told(guardrail: Guardrail, host: str) -> None:
    Host.status = 500
    answer = guardrail("replay", WRITE, "--to", host)
    assert (answer.code, answer.out.startswith("500  ")) == (1, True)


@pytest.mark.parametrize(("words", "code"), [
    ((str(EVENTS / "none.json"),), 64), ((WRITE, "--to", "ftp://x"), 64), ((WRITE, "--to", "http://127.0.0.1:1"), 1),
    ((WRITE, "--to", "http://127.0.0.1:1", "--apply"), 64), ((WRITE, "--policy", "/nowhere.yaml"), 5), ((), 64)])
def test_exit_codes(guardrail: Guardrail, words: tuple[str, ...], code: int) -> None:
    assert guardrail("replay", *words).code == code
