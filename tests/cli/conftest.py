"""Commands run in this process as `guardrail` would run them; a store that a real engine filled."""

from __future__ import annotations

import asyncio
import io
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

import cli
from cli import world
from guardrail import app, logs
from guardrail.settings import read
from guardrail.values import Record, to_json
from simulator import Simulator
from tests.bicep import SUBSCRIPTION
from tests.cli.deployed import Deployed
from tests.infra import OTHER

DEV = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/rg-ai-dev/providers/"
PROD = "/subscriptions/00000000-0000-0000-0000-000000000002/resourceGroups/rg-ai-prod/providers/"
STORAGE = DEV + "Microsoft.Storage/storageAccounts/stmltrain"
ASKED = PROD + "Microsoft.Storage/storageAccounts/stmlprod"


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str


Guardrail = Callable[..., Answer]


@pytest.fixture
def guardrail(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Guardrail]:
    """guardrail("scan", "-", stdin=b"...") -> its exit code and what it printed."""
    for name in ("IDENTITY_ENDPOINT", "IDENTITY_HEADER"):
        monkeypatch.setenv(name, "")        # a command sets them for its own simulator; put back afterwards

    def call(*words: str, stdin: bytes = b"") -> Answer:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        capsys.readouterr()
        code = cli.main(words)
        out, err = capsys.readouterr()
        return Answer(code, out, err)

    yield call
    logs.configure()


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with one verified action (stmltrain) and one that waits (stmlprod), made by the engine at a simulator."""
    path = tmp_path_factory.mktemp("store") / "guardrail.db"
    before = {name: os.environ.get(name) for name in ("IDENTITY_ENDPOINT", "IDENTITY_HEADER")}
    asyncio.run(_fill(path))
    for name, value in before.items():
        os.environ.pop(name, None) if value is None else os.environ.update({name: value})
    return path


async def _fill(path: Path) -> None:
    found = list(world.samples(world.STORY / "world.json"))
    with Simulator(world.subscriptions(found), folder=path.parent) as simulator:
        world.seed(simulator, found)
        endpoint = f"{simulator.url}/msi/token"
        os.environ.update(IDENTITY_ENDPOINT=endpoint, IDENTITY_HEADER="test")
        settings = read({
            "GUARDRAIL_SUBSCRIPTIONS": ",".join(simulator.subscriptions), "GUARDRAIL_CLOUD": simulator.url,
            "IDENTITY_ENDPOINT": endpoint, "GUARDRAIL_CEILING": "enforce", "GUARDRAIL_POLICY": "guardrail.story.yaml",
            "GUARDRAIL_STORE": str(path)})
        one = app.build(settings)
        rules = await one.store.rules()
        detail = {"was": "report", "now": "policy", "reason": "a test"}
        record = Record("mode.switched", app.now(), "oncall", "", "policy", "", detail)
        await one.engine.set_rules(replace(rules, switch="policy"), record)
        simulator.request("PATCH", STORAGE, {"properties": {"publicNetworkAccess": "Enabled"}}, api_version="2026-04-01")
        simulator.request("PATCH", ASKED, {"properties": {"publicNetworkAccess": "Enabled"}}, api_version="2026-04-01")
        await one.intake(to_json(simulator.events.record))
        await one.intake(b"{no event")
        while await one.settle():
            pass
        await one.close()


@pytest.fixture
def store(filled: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Commands of this test work on the filled store."""
    monkeypatch.setenv("GUARDRAIL_STORE", str(filled))
    return filled


@pytest.fixture
def own_store(filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the filled store, for a test that changes it."""
    copy = tmp_path / "own.db"
    copy.write_bytes(filled.read_bytes())
    copy.with_suffix(".key").write_bytes(filled.with_suffix(".key").read_bytes())
    monkeypatch.setenv("GUARDRAIL_STORE", str(copy))
    return copy


@pytest.fixture
def deployed(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Deployed]:
    name = getattr(request, "param", "as it comes")
    with Simulator((SUBSCRIPTION, OTHER), folder=tmp_path) as simulator:
        yield Deployed(simulator, name)
