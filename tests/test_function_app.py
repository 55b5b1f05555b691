"""Every function on the library that runs it in Azure: bindings, payloads, and what they leave in the store."""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import recorded
from guardrail import audit, host
from guardrail.ids import ResourceId
from guardrail.settings import LOCAL_GROUP
from guardrail.stores import HOME
from guardrail.stores.sqlite import SqliteStore
from simulator import Simulator

pytest.importorskip("azure_functions_runtime", reason="the Functions runtime is a package from Python 3.13 on")
from tests.flow.world import ENFORCE, type_of
from tests.functions_runtime import FunctionsApp, IndexingError

ROOT = Path(__file__).resolve().parent.parent
STORAGE = "Microsoft.Storage/storageAccounts"
HANDS = {"reconcile", "on_poison", "tend", "sweep"}
FRONT = {"on_resource_change", "on_queued_change", "http"}


@pytest.fixture
def sim() -> Iterator[Simulator]:
    with Simulator() as sim:
        sim.throttle.off()
        yield sim


def environment(sim: Simulator, folder: Path, **more: str) -> dict[str, str]:
    policy = folder / "policy.yaml"
    policy.write_text(ENFORCE)
    return {
        "GUARDRAIL_SUBSCRIPTIONS": "00000000-0000-0000-0000-000000000001", "GUARDRAIL_CLOUD": sim.url,
        "GUARDRAIL_CEILING": "report", "GUARDRAIL_STORE": str(folder / "guardrail.db"), "GUARDRAIL_POLICY": str(policy),
        "GUARDRAIL_PROBE": "off",
        "IDENTITY_ENDPOINT": f"{sim.url}/msi/token", "IDENTITY_HEADER": "guardrail", "Work": "UseDevelopmentStorage=true",
        "AzureWebJobsStorage": "UseDevelopmentStorage=true", **more}


def opened(sim: Simulator) -> tuple[ResourceId, list[Any]]:
    """A storage account that somebody has opened, and the event of it."""
    sample = recorded.good(STORAGE)
    for id, version, body in recorded.resources(sample, type_of(STORAGE)):
        sim.seed(id, body, version)
    events: list[Any] = []
    sim.events.to(events.extend)
    sim.request("PATCH", sample.id, {"properties": {"publicNetworkAccess": "Enabled"}}, api_version=sample.api_version)
    sim.events.drain()
    return sample.id, events


@contextmanager
def running(sim: Simulator, folder: Path, **settings: str) -> Iterator[FunctionsApp]:
    """The app, freshly imported; afterwards what the cloud would end with the process is closed."""
    forget()
    with FunctionsApp(ROOT, environment(sim, folder, **settings)) as app:
        yield app
        app._wait(closed())
    forget()


def forget() -> None:
    host.settings.cache_clear()
    host.worker.cache_clear()


async def closed() -> None:
    for task in list(host._loops):
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    if host.worker.cache_info().currsize:
        await host.worker().close()


def load(folder: Path, id: ResourceId) -> Any:
    store = SqliteStore(folder / "guardrail.db", lambda: datetime.now(UTC))
    try:
        return asyncio.run(store.load(id))
    finally:
        store.close()


def wait_for(folder: Path, id: ResourceId) -> None:
    """Until the resource has a finding: the app's own loop may be the one that answers."""
    until = time.monotonic() + 10
    while not load(folder, id)[0].findings:
        assert time.monotonic() < until, "nobody looked"
        time.sleep(0.01)


@pytest.mark.parametrize(("part", "names"), [("front", FRONT), ("hands", HANDS), ("all", FRONT | HANDS)])
def test_a_part_registers_its_functions_and_no_other(part: str, names: set[str], sim: Simulator, tmp_path: Path) -> None:
    with running(sim, tmp_path, GUARDRAIL_PART=part) as app:
        assert set(app.functions) == names
        for name in names:
            bindings = app.functions[name].bindings
            assert not [one for one in bindings if one.get("authLevel", "anonymous").lower() != "anonymous"]


def test_the_bindings_are_what_the_host_and_infra_expect(sim: Simulator, tmp_path: Path) -> None:
    with running(sim, tmp_path, GUARDRAIL_SWEEP="0 5 * * * *") as app:
        trigger = {name: function.trigger for name, function in app.functions.items()}
        assert trigger["on_resource_change"]["type"] == "eventGridTrigger"
        for name, queue in {"on_queued_change": "events", "reconcile": "looks", "on_poison": "looks-poison"}.items():
            assert (trigger[name]["queueName"], trigger[name]["connection"]) == (queue, "Work")
        assert trigger["sweep"]["schedule"] == "0 5 * * * *"


@pytest.mark.parametrize("schema", ["EventGridSchema", "CloudEventSchemaV1_0"])
def test_an_event_is_in_the_store_when_the_trigger_returns(schema: str, sim: Simulator, tmp_path: Path) -> None:
    """In report mode: read, judged and recorded by the loop that stands for the queue; nothing is written to Azure."""
    id, events = opened(sim)
    if schema != "EventGridSchema":
        from simulator.sinks import cloud_event
        events = [cloud_event(event) for event in events]
    with running(sim, tmp_path) as app:
        result = app.invoke("on_resource_change", events[0])
        assert result.ok, result.trace
        case, look = load(tmp_path, id)
        assert look is not None or case.findings
        wait_for(tmp_path, id)
        assert ("storage-public-network-access", "properties.publicNetworkAccess") in load(tmp_path, id)[0].findings
    assert [line for line in sim.writes() if line.actor == "guardrail"] == []


@pytest.mark.parametrize("wrap", [lambda text: text, lambda text: base64.b64encode(text.encode()).decode()],
                         ids=["plain", "base64"])
def test_a_queued_event_and_its_look(wrap: Any, sim: Simulator, tmp_path: Path) -> None:
    id, events = opened(sim)
    with running(sim, tmp_path) as app:
        assert app.invoke("on_queued_change", wrap(json.dumps(events[0]))).ok
        nudged = app.invoke("reconcile", json.dumps({"v": 1, "resource": id}))
        assert nudged.ok, nudged.trace
        wait_for(tmp_path, id)


@pytest.mark.threat("B3", "B8")
def test_crafted_messages_change_nothing(sim: Simulator, tmp_path: Path) -> None:
    foreign = ("/subscriptions/00000000-0000-0000-0000-0000000000ff/resourceGroups/g/providers/Microsoft.Storage/"
               "storageAccounts/x")
    messages = ["", "null", "[]", '{"v": 2, "resource": "/subscriptions/x"}', '{"v":1}', "x" * 9000,
                '{"v":1,"resource":"/subscriptions/../x"}', json.dumps({"v": 1, "resource": foreign, "plan": {"edits": []}})]
    with running(sim, tmp_path, GUARDRAIL_CEILING="enforce") as app:
        before = len(sim.log)
        for message in messages:
            app.invoke("reconcile", message)
            assert app.invoke("on_poison", message).ok, "the poison function has no queue behind it"
            assert app.invoke("on_queued_change", message).ok
        assert len(sim.log) == before


@pytest.mark.threat("R30")
def test_a_look_that_failed_too_often_is_stuck_and_seen(sim: Simulator, tmp_path: Path) -> None:
    id, _ = opened(sim)
    with running(sim, tmp_path) as app:
        for stuck in (False, True):         # put back once
            assert app.invoke("on_poison", json.dumps({"v": 1, "resource": id}), dequeue_count=5).ok
            assert bool(load(tmp_path, id)[0].stuck) == stuck


def test_timers_and_health(sim: Simulator, tmp_path: Path) -> None:
    id, _ = opened(sim)
    with running(sim, tmp_path) as app:
        for name in ("sweep", "tend"):
            result = app.invoke(name)
            assert result.ok, result.trace
        answer = app.invoke("http", {"url": "http://localhost/health", "params": {"path": "health"}}).value
        assert (answer["status"], json.loads(answer["body"])["status"]) == (200, "ok")
        for path, status in (("x", 404), ("", 401), ("actions", 401), ("%ff", 400), ("runtime/webhooks/EventGrid", 404)):
            assert app.invoke("http", {"url": f"http://localhost/{path}"}).value["status"] == status, path
    case, look = load(tmp_path, id)
    assert case.findings or look is not None, "the sweep found what no event told"
    assert load(tmp_path, HOME)[0].seq > 0


@pytest.mark.threat("A15", "I7")
def test_the_timer_sends_a_probe_and_the_trigger_sees_it(sim: Simulator, tmp_path: Path) -> None:
    """Hands tag our group and front takes the event: the one write under a ceiling that only reports."""
    sim.seed(LOCAL_GROUP, {"location": "westeurope"})
    events: list[Any] = []
    sim.events.to(events.extend)
    with running(sim, tmp_path, GUARDRAIL_PART="hands", GUARDRAIL_PROBE="on") as app:
        assert app.invoke("tend").ok
    sim.events.drain()
    [raised] = events
    with running(sim, tmp_path, GUARDRAIL_PART="front") as app:
        assert app.invoke("on_resource_change", raised).ok
    assert [line.path for line in sim.writes() if line.actor == "guardrail"] == [
        f"{LOCAL_GROUP}/providers/Microsoft.Resources/tags/default"]
    store = SqliteStore(tmp_path / "guardrail.db", lambda: datetime.now(UTC))
    told = [json.loads(one.body)["event"] for one in asyncio.run(store.records(HOME))]
    store.close()
    assert [one for one in told if one.startswith("probe.")] == ["probe.sent", "probe.received"]


@pytest.mark.threat("D4", "D5")
@pytest.mark.parametrize("part", ["all", "front"])
def test_people_come_in_by_a_verified_token_alone(
        part: str, sim: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The switch set by an operator, over the very adapter that the cloud uses; the front reads nothing of Azure."""
    from guardrail import tokens
    from tests.test_tokens import AUDIENCE, TENANT, keys, signed

    async def fetch(url: str) -> bytes:
        assert url == f"{sim.url}/{TENANT}/discovery/v2.0/keys"
        return keys()

    monkeypatch.setattr(tokens.Verifier.__init__, "__defaults__", (fetch,))
    at = int(time.time())
    times = {"iat": at, "nbf": at, "exp": at + 3600}
    operator, robot = signed(roles=["Operator"], **times), signed(roles=["Operator"], idtyp="app", **times)
    body = json.dumps({"mode": "report", "reason": "stop"})
    with running(sim, tmp_path, GUARDRAIL_PART=part, GUARDRAIL_TENANT=TENANT, GUARDRAIL_AUDIENCE=AUDIENCE) as app:

        def post(path: str, body: str, method: str = "POST", **headers: str) -> tuple[int, Any]:
            sent = {"content-type": "application/json", **headers}
            asked = {"method": method, "url": f"https://localhost/{path}", "headers": sent, "body": body}
            found = app.invoke("http", asked).value
            assert found["headers"]["content-security-policy"].startswith("default-src 'none'")
            return found["status"], json.loads(found["body"])

        assert post("mode", body)[0] == 401
        assert post("mode", body, **{"x-ms-client-principal": "eyJ", "x-ms-client-principal-id": "an-approver"})[0] == 401
        assert post("mode", body, authorization=f"Bearer {robot}")[1]["error"]["code"] == "app-only"
        assert post("mode", "x" * 70_000, authorization=f"Bearer {operator}")[0] == 400
        status, told = post("mode", body, authorization=f"Bearer {operator}")
        assert (status, told["mode"], told["by"], told["reason"]) == (200, "report", "an-approver", "stop")
        assert post("mode", json.dumps({"mode": "policy", "reason": "go"}), authorization=f"Bearer {operator}")[0] == 403
        for method in ("PUT", "DELETE", "PATCH", "OPTIONS"):
            assert post("mode", body, method, authorization=f"Bearer {operator}")[0] == 405
        assert app.invoke("http", {"url": "https://localhost/audit/export"}).value["status"] == 401
        asked = {"method": "GET", "url": "https://localhost/audit/export", "headers": {"authorization": f"Bearer {robot}"}}
        exported = app.invoke("http", asked).value
        assert exported["status"] == 200
        assert audit.verify(bytes(exported["body"]).splitlines()).ok
    assert part == "all" or [line for line in sim.log if line.actor == "guardrail"] == []


@pytest.mark.parametrize("wrong", [
    {"GUARDRAIL_CEILING": "everything"}, {"GUARDRAIL_CELING": "report"}, {"GUARDRAIL_SUBSCRIPTIONS": ""}])
def test_bad_settings_leave_an_app_without_functions(wrong: dict[str, str], sim: Simulator, tmp_path: Path) -> None:
    """Fails closed, with the setting and the cure in the host's log."""
    forget()
    app = FunctionsApp(ROOT, environment(sim, tmp_path, **wrong))
    with pytest.raises(IndexingError, match="cure"), app:
        pass


def test_every_recorded_event_goes_through(sim: Simulator, tmp_path: Path) -> None:
    paths = sorted((ROOT / "recorded" / "events").glob("*.json"))
    assert len(paths) > 20
    with running(sim, tmp_path) as app:
        for path in paths:
            result = app.invoke("on_queued_change", path.read_text())
            assert result.ok, f"{path.name}: {result.trace}"


def test_a_cold_start_imports_little() -> None:
    """At most 1.5 times `import azure.functions, azure.core`; benchmarks/ measures it, here is what must stay out."""
    code = "import sys, guardrail.host; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    heavy = {"aiohttp", "azure.identity", "azure.mgmt.storage", "azure.mgmt.network", "azure.storage.blob", "starlette", "rich",
             "cryptography", "sqlite3", "ruamel.yaml", "jinja2", "detectors", "remediators"}
    assert heavy & set(loaded) == set()
