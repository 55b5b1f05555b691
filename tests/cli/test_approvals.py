"""What people decide, typed: beside an embedded run whose engine is this test, each yes and no until the world has it."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import shlex
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest
from starlette.requests import Request

from cli import identities, target, world
from cli.identities import identify
from console.api import Api
from console.app import Console, build
from guardrail import app, ids
from guardrail.app import Guardrail as Engine
from guardrail.errors import Refused
from guardrail.values import Look, Record
from simulator import Simulator
from tests.cli.conftest import ASKED, DEV, STORAGE, Guardrail
from tests.cli.test_pages import EXAMPLE, ROOT, blocks
from tests.console.test_page import call

pytestmark = pytest.mark.anyio
T = TypeVar("T")
STORY = "guardrail.story.yaml"
VERSION = "2026-04-01"
HOW_TO = ("approve-and-reject", "undo-an-action", "switch-to-report-only", "exempt-something", "quarantine-and-release")
VAULT = DEV + "Microsoft.KeyVault/vaults/kv-ai-dev"
OPEN = {"properties": {"publicNetworkAccess": "Enabled"}}


class Evening:
    """A small Azure, a store that its engine filled, and the mark that an embedded run leaves."""

    def __init__(self, simulator: Simulator) -> None:
        self.simulator = simulator
        self.events: list[Any] = []
        simulator.events.to(self.events.extend)

    def engine(self, work: Callable[[Engine], Awaitable[T]]) -> T:
        async def run() -> T:
            one = app.build(target.settings(self.simulator.url, self.simulator.subscriptions, STORY))
            try:
                return await work(one)
            finally:
                await one.close()

        os.environ.update(IDENTITY_ENDPOINT=f"{self.simulator.url}/msi/token", IDENTITY_HEADER="embedded")
        return asyncio.run(run())

    def settle(self) -> None:
        """What is due now is done: events, looks."""
        async def work(one: Engine) -> None:
            self.simulator.events.drain()
            while self.events or [look async for look in one.store.looks()]:
                if self.events:
                    await one.intake(json.dumps([self.events.pop(0)]))
                await one.settle()
                self.simulator.events.drain()

        self.engine(work)

    def drift(self, id: str) -> None:
        """An ml-engineer opens it; it is looked at at once, however soon after the last event."""
        self.simulator.request("PATCH", id, OPEN, as_="ml-engineer", api_version=VERSION)
        self.settle()
        self.look(id)

    def look(self, id: str) -> None:
        self.engine(lambda one: one.store.send(Look(ids.parse(id), "person")))
        self.settle()

    def shown(self, id: str) -> Any:
        return self.simulator.document(id, VERSION)["properties"]


@pytest.fixture
def evening(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, guardrail: Guardrail) -> Iterator[Evening]:
    """Production's stmlprod was opened by an ml-engineer, and its fix waits."""
    monkeypatch.setenv("GUARDRAIL_STORE", str(tmp_path / "guardrail.db"))
    monkeypatch.chdir(ROOT)
    found = list(world.samples(world.STORY / "world.json"))
    with Simulator(world.subscriptions(found), folder=tmp_path) as simulator:
        world.seed(simulator, found)
        one = Evening(simulator)
        one.engine(_switched)
        run = target.Running(os.getpid(), simulator.url, "http://127.0.0.1:8800", simulator.subscriptions, STORY)
        target.mark_path().write_bytes(msgspec.json.encode(asdict(run)))
        one.drift(ASKED)
        yield one


async def _switched(one: Engine) -> None:
    detail = {"was": "report", "now": "policy", "reason": "a test"}
    record = Record("mode.switched", app.now(), "embedded run", "", "policy", "", detail)
    await one.engine.set_rules(replace(await one.store.rules(), switch="policy"), record)


def rows(guardrail: Guardrail, *words: str) -> list[Any]:
    answer = guardrail(*words, "-o", "json")
    assert answer.code == 0, answer.err
    found: list[Any] = json.loads(answer.out)
    return found


def test_what_waits_is_listed_for_all_and_for_whoever_may(evening: Evening, guardrail: Guardrail) -> None:
    [row] = rows(guardrail, "approvals", "list")
    assert (row["resource_id"], row["state"], row["needs"]) == (ASKED, "proposed", 1)
    table = guardrail("approvals", "list").out
    assert all(word in table for word in (row["id"], "stmlprod", "ml-engineer", "0 of 1", row["plan_hash"][:8]))
    for who, many in (("approver", 1), ("oncall", 1), ("ml-engineer", 0), ("deploy-pipeline", 0)):
        assert len(rows(guardrail, "approvals", "list", "--mine", "--as", who)) == many, who
    assert guardrail("approvals", "list", "--mine").code == 64


@pytest.mark.threat("D1", "D2", "D4")
def test_each_refusal_says_why_and_who_can(evening: Evening, guardrail: Guardrail) -> None:
    [row] = rows(guardrail, "approvals", "list")
    words = ("approvals", "approve", row["id"], "--reason", "yes", "--plan")
    for who, plan, why in (
            ("ml-engineer", row["plan_hash"], "you made the change"), ("deploy-pipeline", row["plan_hash"], "an application"),
            ("approver", "0" * 8, "the plan has changed")):
        answer = guardrail(*words, plan, "--as", who)
        assert answer.code == 4
        assert answer.out.startswith(f"plan {row['plan_hash'][:8]}   fix: 1 edit, 1 control\n"), "the plan is shown first"
        assert '~ properties.publicNetworkAccess:  "Enabled" => "Disabled"' in answer.out
        lines = answer.err.splitlines()
        assert lines[1].startswith(f"refused: {why}")
        assert re.fullmatch(r"  who can: approver, oncall   Expires: \d\d:\d\d UTC, in 7 h \d+ min\.", lines[2])
        assert lines[-1] == "exit 4: refused by a safety rule."
    assert rows(guardrail, "approvals", "list") == [row]


@pytest.mark.parametrize("words", [
    ("approve", "ID", "--reason", "x"), ("approve", "ID", "--as", "approver"),
    ("approve", "ID", "--reason", " ", "--as", "approver"), ("approve", "ID", "--reason", "x", "--as", "aprover"),
    ("approve", "ID", "--reason", "x", "--as", "approver", "--plan", "zz"),
    ("approve", "ID", "--reason", "x", "--as", "approver", "--plan", ""),
    ("approve", "act-zzz", "--reason", "x", "--as", "approver"),
    ("reject", "ID", "--as", "approver"), ("reject", "act-zzz", "--reason", "x", "--as", "approver")])
def test_wrong_usage_decides_nothing(words: tuple[str, ...], evening: Evening, guardrail: Guardrail) -> None:
    before = rows(guardrail, "approvals", "list")
    answer = guardrail("approvals", *(before[0]["id"] if word == "ID" else word for word in words))
    assert answer.code == (4 if "" in words else 64)
    assert rows(guardrail, "approvals", "list") == before


def test_a_script_names_the_hash_and_the_yes_acts(
        evening: Evening, guardrail: Guardrail, monkeypatch: pytest.MonkeyPatch) -> None:
    [row] = rows(guardrail, "approvals", "list")
    monkeypatch.setenv("GUARDRAIL_AS", "approver")
    answer = guardrail("approvals", "approve", row["id"][:8], "--reason", "matches policy", "--plan", row["plan_hash"][:8])
    assert (answer.code, "carried out now" in answer.out) == (0, True)
    evening.settle()
    assert evening.shown(ASKED)["publicNetworkAccess"] == "Disabled"
    assert "action.verified" in guardrail("actions", "show", row["id"]).out
    again = guardrail("approvals", "approve", row["id"], "--reason", "again", "--plan", row["plan_hash"])
    assert again.code == 64, "it does not wait any more"


def test_a_person_is_shown_the_plan_and_asked(evening: Evening, guardrail: Guardrail) -> None:
    """At a terminal of its own: no, then yes."""
    [row] = rows(guardrail, "approvals", "list")
    words = [sys.executable, "-m", "cli", "approvals", "approve", row["id"], "--reason", "x", "--as", "approver"]
    for typed, code in ((b"n\n", 4), (b"y\n", 0)):
        ours, theirs = pty.openpty()
        os.write(ours, typed)
        done = subprocess.run(words, cwd=ROOT, stdin=theirs, capture_output=True, text=True, timeout=20, check=False)
        os.close(theirs)
        os.close(ours)
        assert done.returncode == code, done.stderr
        assert "Approve the fix?" in done.stderr and done.stdout.startswith("plan ")
    assert rows(guardrail, "approvals", "list") == []


def test_a_no_leaves_the_drift(evening: Evening, guardrail: Guardrail) -> None:
    [row] = rows(guardrail, "approvals", "list")
    answer = guardrail("approvals", "reject", row["id"], "--reason", "wanted", "--as", "ml-engineer")
    assert answer.code == 0, "whoever made it may leave it"
    evening.settle()
    assert evening.shown(ASKED)["publicNetworkAccess"] == "Enabled"
    [action] = rows(guardrail, "actions", "list")
    assert (action["state"], action["why"]) == ("rejected", "wanted")


def test_a_no_asks_for_an_exemption(evening: Evening, guardrail: Guardrail) -> None:
    [row] = rows(guardrail, "approvals", "list")
    words = ("approvals", "reject", row["id"], "--reason", "an old client", "--as", "approver", "--exempt-until")
    assert guardrail(*words, "soon").code == 64
    assert guardrail(*words, "91d").code == 4
    assert rows(guardrail, "approvals", "list") == [row], "nothing is rejected for an exemption that cannot be"
    answer = guardrail(*words, "7d")
    assert answer.code == 0
    [exemption] = rows(guardrail, "exemptions", "list")
    assert (exemption["state"], exemption["control"], exemption["scope"]) == ("asked", *row["controls"], ASKED)
    assert f"guardrail exemptions confirm {exemption['id']}" in answer.out
    assert guardrail("exemptions", "confirm", exemption["id"], "--reason", "mine", "--as", "approver").code == 4
    assert guardrail("exemptions", "confirm", exemption["id"], "--reason", "agreed", "--as", "oncall").code == 0


@pytest.mark.threat("D10")
def test_an_intent_is_approved_where_it_is_offered(evening: Evening, guardrail: Guardrail) -> None:
    async def voided(one: Engine) -> None:
        case, _ = await one.store.load(ids.parse(ASKED))
        await one.store.commit(replace(case, voids=(app.now(),) * 3))

    [seen] = rows(guardrail, "approvals", "list")
    words = ("--reason", "enough", "--as", "approver", "--intent")
    assert guardrail("approvals", "approve", seen["id"], *words, "--plan", seen["plan_hash"]).code == 4
    evening.engine(voided)
    tls = {"properties": {"minimumTlsVersion": "TLS1_0"}}
    for version in ("TLS1_0", "TLS1_1"):
        tls["properties"]["minimumTlsVersion"] = version
        evening.simulator.request("PATCH", ASKED, tls, as_="ml-engineer", api_version=VERSION)
        evening.settle()
        evening.look(ASKED)
        if version == "TLS1_0":
            [seen] = rows(guardrail, "approvals", "list")
    [now] = rows(guardrail, "approvals", "list")
    assert (now["intent"], now["id"] != seen["id"]) == (seen["intent"], True)
    answer = guardrail("approvals", "approve", seen["id"], *words, "--plan", seen["intent"][:8])
    assert answer.code == 0, answer.err
    assert f"Intent {seen['intent'][:8]}." in answer.out and "carried out now" in answer.out
    tls["properties"]["minimumTlsVersion"] = "TLS1_0"
    evening.simulator.request("PATCH", ASKED, tls, as_="ml-engineer", api_version=VERSION)
    evening.settle()
    shown = evening.shown(ASKED)
    assert (shown["minimumTlsVersion"], shown["publicNetworkAccess"]) == ("TLS1_2", "Disabled")


@pytest.mark.threat("D1")
def test_what_the_command_refuses_is_on_record(evening: Evening, guardrail: Guardrail) -> None:
    """In the chain of the resource; in the installation's where the sign-in stops it before that."""
    [row] = rows(guardrail, "approvals", "list")
    for who, where, code in (("ml-engineer", "stmlprod", "four-eyes"), ("deploy-pipeline", "guardrail", "app-only")):
        words = ("--reason", "x", "--as", who, "--plan", row["plan_hash"])
        assert guardrail("approvals", "approve", row["id"], *words).code == 4
        records = rows(guardrail, "audit", "show", where)
        assert [one["detail"]["code"] for one in records if one["event"] == "person.refused"] == [code]
    assert "person.refused" in guardrail("actions", "show", row["id"]).out


@pytest.mark.threat("D12")
def test_under_report_only_nobody_approves(evening: Evening, guardrail: Guardrail) -> None:
    [row] = rows(guardrail, "approvals", "list")
    assert guardrail("mode", "set", "report", "--reason", "stop", "--as", "oncall").code == 0
    answer = guardrail("approvals", "approve", row["id"], "--reason", "x", "--plan", row["plan_hash"], "--as", "approver")
    assert (answer.code, "report-only" in answer.err, "who can: nobody now" in answer.err) == (4, True, True)


def test_two_accept_a_baseline(evening: Evening, guardrail: Guardrail) -> None:
    evening.look(VAULT)
    assert guardrail("baselines", "list", "kv-ai-dev").code == 64, "it was never wrong, so it has no record and no short name"
    row = next(row for row in rows(guardrail, "baselines", "list", VAULT) if row["part"] == "+diagnosticSettings")
    words = ("baselines", "accept", VAULT, "--part", row["part"], "--reason", "as designed", "--hash")
    assert guardrail(*words, "0" * 8, "--as", "approver").code == 4
    assert guardrail(*words, "0", "--as", "approver").code == 64
    for who, word in (("approver", "Another person"), ("oncall", "is accepted")):
        answer = guardrail(*words, row["hash"][:8], "--as", who)
        assert (answer.code, word in answer.out) == (0, True)
    assert "accepted" in guardrail("baselines", "list", VAULT).out


def test_without_a_run_nothing_is_decided_but_stopping_works(guardrail: Guardrail, own_store: Path) -> None:
    [row] = rows(guardrail, "approvals", "list")
    answer = guardrail("approvals", "approve", row["id"], "--reason", "x", "--plan", row["plan_hash"], "--as", "approver")
    assert (answer.code, "guardrail run" in answer.err) == (1, True)
    assert guardrail("quarantine", "stmltrain", "--reason", "x", "--as", "oncall").code == 1
    assert guardrail("mode", "set", "report", "--reason", "x", "--as", "oncall").code == 0


# the pages

def ids_now(guardrail: Guardrail) -> dict[str, str]:
    """What the pages' made-up ids stand for at this moment."""
    waiting, actions = rows(guardrail, "approvals", "list"), rows(guardrail, "actions", "list")
    asked = [row["id"] for row in rows(guardrail, "exemptions", "list") if row["owner"] == "data"]

    def first(*states: str) -> str:
        return next((row["id"] for row in actions if row["state"] in states), "act-none")

    waits = waiting[0] if waiting else {"id": "act-none", "plan_hash": "0" * 64}
    return {"act-6a01d3": waits["id"], "act-0b52d8": waits["id"], "6e9b21aa": waits["plan_hash"][:8],
            "act-4f7c21": first("verified"), "act-7c55f0": first("quarantined"),
            "exm-02c1a7": asked[0] if asked else "exm-none"}


def with_keys(body: Any) -> Any:
    return {**body, "properties": {**body["properties"], "allowSharedKeyAccess": True}}


@pytest.mark.parametrize("page", HOW_TO)
def test_every_example_of_a_page_ends_as_told(page: str, evening: Evening, guardrail: Guardrail) -> None:
    """One block after the other, as a reader would type them; what is due in between is done."""
    if page == "undo-an-action":
        [row] = rows(guardrail, "approvals", "list")
        guardrail("approvals", "approve", row["id"], "--plan", row["plan_hash"], "--reason", "x", "--as", "approver")
        evening.settle()
    if page == "quarantine-and-release":
        evening.simulator.mutate(STORAGE, with_keys)
        evening.look(STORAGE)
    if page == "exempt-something":
        evening.drift(STORAGE)
    examples = EXAMPLE.findall(blocks(ROOT / f"docs/how-to/{page}.md", "console"))
    assert len(examples) >= 4
    known = ids_now(guardrail)
    for text, code in examples:
        if "approvals reject" in text:
            evening.drift(ASKED)
        known |= {name: one for name, one in ids_now(guardrail).items() if "none" not in one and one != "0" * 8}
        typed = text
        for name, one in known.items():
            typed = typed.replace(name, one)
        answer = guardrail(*shlex.split(typed))
        assert answer.code == int(code or 0), f"{typed}\n{answer.out}{answer.err}"
        evening.settle()
    if page == "undo-an-action":
        assert evening.shown(ASKED)["publicNetworkAccess"] == "Enabled"
    if page == "quarantine-and-release":
        assert [row["state"] for row in rows(guardrail, "actions", "list")].count("verified") == 1
        assert evening.shown(STORAGE)["allowSharedKeyAccess"] is True
    if page == "exempt-something":
        assert rows(guardrail, "exemptions", "list") == []


def test_the_requests_of_the_http_page_end_as_told(evening: Evening) -> None:
    page = "\n".join(blocks(ROOT / "docs/reference/http-api.md", "http").splitlines())
    requests = [one.splitlines() for one in page.split("\n\n") if one.strip()]
    assert len(requests) >= 5

    async def work(one: Engine) -> None:
        for method, path, headers, body, status in map(parsed, requests):
            console = Console(one.store, "enforce", "x", identify)
            site = build(console, api=Api(one.engine, identify, one.settings.approvers))
            found = await call(site, method, path, body, **headers)
            assert found.status == status, (path, found.text)

    evening.engine(work)


def parsed(lines: list[str]) -> tuple[str, str, dict[str, str], bytes, int]:
    method, _, path = lines[0].partition(" ")
    who = [line.partition(": ")[2] for line in lines if line.startswith("Authorization")]
    headers = {"authorization": who[0]} if who else {}
    body = next((line.encode() for line in lines if line.startswith("{")), b"")
    status = next((int(line) for line in lines if line.isdecimal()), 200)
    return method, path, {"content_type": "application/json", **headers}, body, status


def test_the_http_page_has_every_route() -> None:
    from console.api import CHANGES, READS

    text = (ROOT / "docs/reference/http-api.md").read_text("utf-8")
    told = set(re.findall(r"^\| `(GET|POST) ([^`?]+)`", text, re.MULTILINE))
    real = {("GET", path) for path, _ in READS} | {("POST", path) for path, *_ in CHANGES}
    assert told - {("GET", "/"), ("GET", "/health")} == real


# who is who, in the embedded run

@pytest.mark.threat("D6")
@pytest.mark.parametrize(("method", "header", "name"), [
    ("POST", "Bearer approver", "approver"), ("GET", "Bearer oncall", "oncall"), ("GET", "", ""), ("HEAD", "", ""),
    ("POST", "", None), ("POST", "Bearer root", None),
    ("POST", "approver", None), ("POST", "Basic approver", None), ("GET", "Bearer root", None)])
async def test_a_request_of_this_machine_says_who_it_is(method: str, header: str, name: str | None) -> None:
    sent = [(b"authorization", header.encode()), (b"x-guardrail-as", b"approver"), (b"cookie", b"as=approver")]
    request = Request({"type": "http", "method": method, "path": "/", "query_string": b"as=approver",
                       "headers": sent if header else sent[1:]})
    if name is None:
        with pytest.raises(Refused):
            await identify(request)
        return
    who = await identify(request)
    assert who == (identities.person(name) if name else who)
    assert name or (who.roles == {"Reader"} and not who.is_person)

