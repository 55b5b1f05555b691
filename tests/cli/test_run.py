"""The embedded run as a process: the story to its end, Ctrl+C, busy ports, going on; and the simulator alone."""

from __future__ import annotations

import json
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cli import story, world
from cli.run import free
from guardrail import ids
from tests.cli.conftest import PROD, STORAGE, Guardrail
from tests.cli.test_scan import line

ROOT = Path(__file__).parent.parent.parent
SPEED = "35"


@contextmanager
def process(*words: str, store: Path) -> Iterator[subprocess.Popen[str]]:
    """A `guardrail` of its own, ended by its id whatever happens."""
    environment = {"GUARDRAIL_STORE": str(store), "PATH": "/usr/bin:/bin", "PYTHONUNBUFFERED": "1"}
    running = subprocess.Popen([sys.executable, "-m", "cli", *words], cwd=ROOT, env=environment, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        yield running
    finally:
        if running.poll() is None:
            running.kill()
        running.communicate()


def until(running: subprocess.Popen[str], pattern: str) -> str:
    """The lines up to the first that fits."""
    seen = list[str]()
    assert running.stdout is not None
    for told in running.stdout:
        seen.append(told)
        if re.search(pattern, told):
            return "".join(seen)
    raise AssertionError(f"{pattern!r} never came:\n{''.join(seen)}")


def ends(running: subprocess.Popen[str]) -> tuple[int, str]:
    out, _ = running.communicate(timeout=15)
    return running.returncode, out


def fetch(url: str) -> tuple[int, str]:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return answer.status, answer.read().decode()


def url_of(text: str, name: str) -> str:
    found = re.search(rf"{name} +(http://[\d.:]+)", text)
    assert found, text
    return found[1]


def test_the_story_ends_as_told(tmp_path: Path, guardrail: Guardrail, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven acts against the simulator, each judged by the world it left and by the records."""
    store = tmp_path / "guardrail.db"
    with process("run", "--story", "--exit", "--speed", SPEED, store=store) as running:
        code, out = ends_late(running)
    assert code == 0, out
    assert "NOT as told" not in out
    assert "7 actions: 4 verified, 1 quarantined, 1 waiting for you, 1 held." in out and "5 writes." in out
    assert "Chain intact." in out
    assert re.search(r"6/7 noise.*\n.* 0 actions, \d records\n", out), "noise acts on nothing, and is on record"
    assert "0 writes, 3 findings on record" in out, "report-only writes nothing"
    monkeypatch.setenv("GUARDRAIL_STORE", str(store))
    rows = json.loads(guardrail("actions", "list", "-o", "json").out)
    assert sorted(row["state"] for row in rows) == ["held", "proposed", "quarantined", *["verified"] * 4]
    assert guardrail("audit", "verify").code == 0
    with closing(sqlite3.connect(store)) as db:
        told = [json.loads(body)["event"] for (body,) in db.execute("SELECT body FROM records")]
    assert [told.count(name) for name in ("probe.sent", "probe.received", "own.changed", "path.broken")] == [1, 1, 0, 0]
    kept = {entry["id"]: entry["document"] for entry in json.loads(store.with_suffix(".world.json").read_bytes())}
    policy = kept[f"{PROD}Microsoft.CognitiveServices/accounts/aoai-chat-prod/raiPolicies/strict"]
    assert any(one.get("blocking") is False for one in policy["properties"]["contentFilters"] if one["name"] == "Jailbreak"), \
        "production waits: nothing was written"
    assert kept[STORAGE]["properties"]["publicNetworkAccess"] == "Enabled", "after report-only it stays as it was opened"
    assert not store.with_suffix(".run.json").exists()


def ends_late(running: subprocess.Popen[str]) -> tuple[int, str]:
    out, _ = running.communicate(timeout=90)
    return running.returncode, out


def test_an_act_that_does_not_end_as_told_is_exit_1(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, guardrail: Guardrail) -> None:
    """The story cannot pass by itself: an act that waits for what never comes, and one whose world is another."""
    common = {"says": "", "then_s": 0}
    acts = [{"who": "ml-engineer", "tells": "does nothing", "steps": [], "on": STORAGE, "ends": "action.verified", **common},
            {"who": "oncall", "tells": "switches", "steps": [{"switch": "report", "reason": "x"}], "on": "",
             "ends": "mode.switched", **common}]
    bad = msgspec.convert({"name": "a bad story", "acts": acts}, story.Story)
    wrong = msgspec.structs.replace(bad.acts[1], world={"properties.publicNetworkAccess": "Nonsense"}, look_at=STORAGE)
    monkeypatch.setattr(story, "load", lambda: msgspec.structs.replace(bad, acts=(bad.acts[0], wrong)))
    monkeypatch.setattr(story, "WITHIN_S", 1)
    monkeypatch.setenv("GUARDRAIL_STORE", str(tmp_path / "guardrail.db"))
    monkeypatch.setenv("IDENTITY_ENDPOINT", "")
    answer = guardrail("run", "--story", "--exit", "--speed", "100", "--port", "0")
    assert answer.code == 1
    assert "NOT as told: action.verified never came" in answer.out
    assert 'is "Disabled", not "Nonsense"' in answer.out
    assert "2 of 2 acts did not end as told" in answer.err


def test_it_stays_up_stops_at_ctrl_c_and_goes_on(tmp_path: Path) -> None:
    store = tmp_path / "guardrail.db"
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        with process("run", "--port", str(port), "--speed", SPEED, store=store) as running:
            told = until(running, "console +http")
            console, simulator = url_of(told, "console"), url_of(told, "simulator")
            assert console != f"http://127.0.0.1:{port}"
            assert f"({port} was busy)" in told
            assert json.loads(fetch(f"{console}/health")[1])["status"] == "ok"
            wait_for(console, lambda status: status["sweep"]["read"] == 14)
            with process("run", store=store) as second:
                assert "another run has the store" in ends(second)[1]
            write(simulator, STORAGE, {"properties": {"publicNetworkAccess": "Enabled"}}, "2026-04-01")
            wait_for(console, lambda status: status["counts"]["verified"] == 1)
            assert "verified" in fetch(console)[1]
            assert [post(console, "/mode", who) for who in ("", "ml-engineer", "oncall")] == [401, 403, 200]
            assert json.loads(fetch(f"{console}/modes")[1])["mode"] == "approve"
            events = str(ROOT / "recorded/events/subscription-write-eventgrid.json")
            with process("replay", events, "--to", console, store=store) as sender:
                assert ends(sender)[0] == 0
            running.send_signal(signal.SIGINT)
            code, out = ends(running)
            assert code == 0, out
            assert f"stopped. store kept in {store}" in out
    assert not store.with_suffix(".run.json").exists()
    with process("run", "--keep", "--port", "0", store=store) as running:
        told = until(running, "console +http")
        assert "from the last run" in told
        wait_for(url_of(told, "console"), lambda status: status["counts"]["verified"] == 1)
        running.send_signal(signal.SIGTERM)
        assert ends(running)[0] == 0
    with process("run", "--port", "0", store=store) as running:
        told = until(running, "console +http")
        assert "SQLite, new" in told
        wait_for(url_of(told, "console"), lambda status: status["counts"]["verified"] == 0)
        running.send_signal(signal.SIGINT)
        assert ends(running)[0] == 0


def post(console: str, path: str, who: str) -> int:
    headers = {"content-type": "application/json", **({"authorization": f"Bearer {who}"} if who else {})}
    request = urllib.request.Request(f"{console}{path}", b'{"mode": "approve", "reason": "a test"}', headers)
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def wait_for(console: str, fits: Any) -> None:
    for _ in range(400):
        status: Mapping[str, Any] = json.loads(fetch(f"{console}/index.json")[1])
        if fits(status):
            return
        time.sleep(0.02)
    raise AssertionError(status["counts"])


def write(simulator: str, id: str, body: Any, version: str) -> None:
    request = urllib.request.Request(f"{simulator}{id}?api-version={version}", json.dumps(body).encode(), method="PATCH",
                                     headers={"content-type": "application/json", "authorization": "Bearer x"})
    with urllib.request.urlopen(request, timeout=5) as answer:
        assert answer.status == 200


def test_the_simulator_alone_says_how_az_signs_in(tmp_path: Path) -> None:
    words = ("--port", "0", "--tls-port", "0", "--resources", "recorded/resources")
    with process("simulate", *words, store=tmp_path / "none") as running:
        told = until(running, "az login")
        url = url_of(told, "simulator")
        assert "az cloud register" in told
        ca = re.search(r"CA: (\S+)", told)
        assert ca
        assert (ROOT / ca[1]).read_text().startswith("-----BEGIN CERTIFICATE")
        with pytest.raises(urllib.error.HTTPError) as refused:
            fetch(f"{url}{STORAGE}?api-version=2026-04-01")
        refused.value.close()
        assert refused.value.code == 401
        running.send_signal(signal.SIGINT)
        assert ends(running)[0] == 130


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.com", "127.0.0.1.example.com"])
def test_others_cannot_reach_it(guardrail: Guardrail, host: str) -> None:
    for command in ("run", "simulate"):
        answer = guardrail(command, "--host", host)
        assert (answer.code, "is not 127.0.0.1" in answer.err) == (4, True)


def test_the_story_s_world_is_clean(guardrail: Guardrail) -> None:
    """Made from the good documents by name: nothing of the original is left in them, and no control speaks."""
    found = list(world.samples(world.STORY / "world.json"))
    assert len(found) == len({one.id for one in found}) == 14
    raw = b"\n".join(map(line, found))
    policy = str(ROOT / "guardrail.story.yaml")
    assert guardrail("scan", "-", "--policy", policy, stdin=raw).code == 0
    for one in found:
        assert one.body["id"] == one.id
        assert one.body["name"] == ids.name_of(one.id)
        if "/rg-ai-prod/" in one.id:
            assert "rg-ai-dev/" not in msgspec.json.encode(one.body).decode()


def test_a_busy_port_gives_the_next() -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        assert port < free(port) < port + 50
    assert free(0) == 0
