"""A deployed guardrail, asked by its command line: the real API with verified tokens, an `az` that hands one out."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import shlex
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from starlette.requests import Request

from cli import identities, mode, remote, target
from console.api import Api
from console.app import Console, build
from guardrail import app, ids
from guardrail.app import Guardrail as Engine
from guardrail.authorize import Person
from guardrail.tokens import Verifier
from simulator.identity import actor
from simulator.tls import Certificates, certificates
from tests.cli.conftest import ASKED, STORAGE, Answer, Guardrail
from tests.cli.test_approvals import STORY, VAULT, Evening, evening, ids_now, with_keys  # noqa: F401  a fixture
from tests.cli.test_pages import EXAMPLE, ROOT, blocks
from tests.test_tokens import AUDIENCE, SETTINGS, WITHOUT, answer, signed

AZ = """#!/bin/sh
echo "$@" >> "$0.calls"
cat "$0.token"
"""


class Az:
    """The Azure CLI, as far as a token is asked of it."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.path, self.told, self.calls = folder / "az", folder / "az.token", folder / "az.calls"
        self.path.write_text(AZ)
        self.path.chmod(0o755)

    def signed_in(self, name: str, *roles: str, age: timedelta = timedelta(minutes=1), **claims: Any) -> str:
        now = datetime.now(UTC)
        issued, ends = int((now - age).timestamp()), int((now + timedelta(minutes=30)).timestamp())
        token = signed(**{
            "oid": actor(name).oid, "sub": f"pairwise {name}", "groups": [identities.GROUP],
            "roles": list(roles or ("Approver", "Operator", "Administrator")),
            "iat": issued, "nbf": issued, "exp": ends, **claims})
        self.told.write_text(json.dumps({"accessToken": token, "expires_on": ends, "expiresOn": "2027-01-01 00:00:00.000000"}))
        return token

    def asked(self) -> list[str]:
        return self.calls.read_text().splitlines() if self.calls.exists() else []


@pytest.fixture
def tls(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Certificates:
    """A certificate for localhost, of an authority that commands of this test trust."""
    made = certificates(tmp_path_factory.getbasetemp() / "remote-tls")
    monkeypatch.setenv("SSL_CERT_FILE", str(made.ca))
    return made


@pytest.fixture
def az(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Az:
    one = Az(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{one.path.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("GUARDRAIL_AUDIENCE", AUDIENCE)
    one.signed_in("approver")
    return one


class Deployed:
    """The API as the cloud has it, on loopback, beside the evening's small Azure."""

    def __init__(self, evening: Evening, az: Az, guardrail: Guardrail, tls: Certificates | None) -> None:  # noqa: F811
        self.evening, self.az, self.guardrail, self.tls = evening, az, guardrail, tls
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"{'https' if tls else 'http'}://localhost:{self.listener.getsockname()[1]}"
        self.verifier, self.is_up = Verifier(SETTINGS, app.now, answer), threading.Event()
        self.thread = threading.Thread(target=lambda: asyncio.run(self.serve()))

    async def verified(self, request: Request) -> Person:
        return await self.verifier.person(request.headers.get("authorization", ""))

    async def serve(self) -> None:
        one = app.build(target.settings(self.evening.simulator.url, self.evening.simulator.subscriptions, STORY))
        self.api = Api(one.engine, self.verified if self.tls else identities.identify, one.settings.approvers)
        console = Console(one.store, one.engine.ceiling, "test", self.api.identify)
        keys = {"ssl_certfile": self.tls.certificate, "ssl_keyfile": self.tls.key} if self.tls else {}
        config = uvicorn.Config(build(console, api=self.api), log_level="critical", lifespan="off", **keys)
        self.server = uvicorn.Server(config)
        self.is_up.set()
        await self.server.serve(sockets=[self.listener])
        await one.close()

    def __call__(self, *words: str) -> Answer:
        return self.guardrail(*words, "--url", self.url)

    def rows(self, *words: str) -> Any:
        found = self(*words, "-o", "json")
        assert found.code == 0, found.err
        return json.loads(found.out)

    def done(self, *words: str) -> str:
        """A change, without a question; what it printed."""
        found = self(*words, "--reason", "a test", "--yes")
        assert found.code == 0, found.err
        assert found.err.splitlines()[0] == f"target: {self.url}"
        return found.out


@contextmanager
def served(one: Deployed) -> Iterator[Deployed]:
    one.thread.start()
    assert one.is_up.wait(20)
    yield one
    one.server.should_exit = True
    one.thread.join()


@pytest.fixture
def deployed(evening: Evening, az: Az, guardrail: Guardrail, tls: Certificates) -> Iterator[Deployed]:  # noqa: F811
    with served(Deployed(evening, az, guardrail, tls)) as one:
        yield one


@pytest.fixture
def embedded(evening: Evening, az: Az, guardrail: Guardrail) -> Iterator[Deployed]:  # noqa: F811
    with served(Deployed(evening, az, guardrail, None)) as one:
        yield one


# reading

READING = (("findings", "list"), ("approvals", "list"), ("actions", "list"), ("exemptions", "list"), ("baselines", "list"),
           ("baselines", "list", VAULT), ("mode", "show"), ("audit", "show", "stmlprod"), ("audit", "show", "guardrail"),
           ("audit", "verify"))


def test_what_is_read_is_the_same_wherever_it_is_asked(deployed: Deployed, tmp_path: Path) -> None:
    """Every list here and there, byte for byte; only the target differs, and is said first."""
    deployed.evening.look(VAULT)
    [row] = deployed.rows("approvals", "list")
    for words in (*READING, ("actions", "show", row["id"])):
        there, here = deployed(*words, "-o", "json"), deployed.guardrail(*words, "-o", "json", "--local")
        assert (there.code, there.out) == (0, here.out), there.err
        assert there.out.strip() not in ("", "[]") or words[0] == "exemptions", words
        assert there.err.splitlines()[0] == f"target: {deployed.url}"
        assert here.err.splitlines()[0].startswith("target: store ")
        assert deployed(*words).code == 0, "and as people read it"
    for words in (("explain", "stmlprod"), ("explain", row["id"]), ("findings", "list", "-o", "ocsf")):
        there = deployed(*words)
        assert (there.code, there.out) == (0, deployed.guardrail(*words, "--local").out)
    assert set(deployed.az.asked()) == {f"account get-access-token --output json --resource {AUDIENCE}"}
    export = tmp_path / "export.jsonl"
    assert deployed("audit", "export", "--out", str(export)).code == 0
    assert deployed.guardrail("audit", "verify", str(export)).code == 0
    assert deployed("audit", "verify", "--anchors", str(export)).code == 0
    kinds = [json.loads(line)["class_uid"] for line in
             deployed("audit", "export", "-o", "ocsf", "--ocsf-class", "2003", "--since", "1h").out.splitlines()]
    assert 2003 in kinds and 2004 not in kinds
    for words in (("actions", "show", "act-zzz"), ("explain", "stmlprdo"), ("audit", "show", "nothing")):
        assert deployed(*words).code == 64


def test_whoever_reads_sees_what_they_may_approve(deployed: Deployed) -> None:
    for who, many in (("approver", 1), ("ml-engineer", 0)):
        deployed.az.signed_in(who)
        assert len(deployed.rows("approvals", "list", "--mine")) == many


# changing

def test_a_yes_there_acts_and_is_taken_back_by_two(deployed: Deployed) -> None:
    [row] = deployed.rows("approvals", "list")
    seen = row["plan_hash"][:8]
    out = deployed.done("approvals", "approve", row["id"][:10], "--plan", seen)
    assert out.startswith(f"plan {seen}   fix: 1 edit, 1 control\n") and "carried out now" in out
    deployed.evening.settle()
    assert deployed.evening.shown(ASKED)["publicNetworkAccess"] == "Disabled"
    assert "asked for as act-" in deployed.done("actions", "rollback", row["id"])
    [undo] = deployed.rows("approvals", "list")
    assert undo["kind"] == "undo"
    deployed.az.signed_in("oncall")
    assert "Asked for by:" in deployed.done("approvals", "approve", undo["id"], "--plan", undo["plan_hash"])
    deployed.evening.settle()
    assert deployed.evening.shown(ASKED)["publicNetworkAccess"] == "Enabled"


def test_a_no_there_asks_for_an_exemption_that_another_confirms(deployed: Deployed) -> None:
    [row] = deployed.rows("approvals", "list")
    out = deployed.done("approvals", "reject", row["id"], "--exempt-until", "7d")
    [asked] = deployed.rows("exemptions", "list")
    assert f"guardrail exemptions confirm {asked['id']}" in out
    deployed.az.signed_in("oncall")
    assert "is in force" in deployed.done("exemptions", "confirm", asked["id"])
    assert "is gone" in deployed.done("exemptions", "remove", asked["id"])
    words = ("--control", row["controls"][0], "--scope", "stmlprod", "--until", "7d", "--owner", "o")
    out = deployed.done("exemptions", "add", *words)
    assert deployed.rows("exemptions", "list")[0]["id"] in out


def test_the_switch_there_is_loosened_by_two(deployed: Deployed) -> None:
    assert "now: REPORT-ONLY" in deployed.done("mode", "set", "report")
    assert "another administrator" in deployed.done("mode", "set", "policy")
    assert deployed("mode", "confirm", "--reason", "me too", "--yes").code == 4
    deployed.az.signed_in("oncall")
    assert "now: POLICY" in deployed.done("mode", "confirm")
    assert "everything asks" in deployed.done("freeze", "add", "the night", "--until", "8h")
    assert "another administrator" in deployed.done("freeze", "end", "the night")
    deployed.az.signed_in("approver")
    assert "has ended" in deployed.done("freeze", "end", "the night")


def test_one_scope_there_is_stopped_and_let_go_again(deployed: Deployed) -> None:
    group = STORAGE.partition("/providers/")[0]
    assert f"now: REPORT-ONLY below {group}" in deployed.done("mode", "set", "report", "--scope", group)
    shown = deployed.rows("mode", "show")
    assert (shown["mode"], shown["scopes"]) == ("policy", [{"scope": group.lower(), "mode": "report"}])
    assert f"REPORT-ONLY below {group.lower()}" in deployed("mode", "show").out
    assert "now: POLICY" in deployed.done("mode", "set", "policy", "--scope", group), "development: one is enough"
    asked = deployed.rows("approvals", "list")[0]
    production = f"/subscriptions/{ids.subscription(ids.ResourceId(asked['resource_id']))}"
    deployed.done("mode", "set", "approve", "--scope", production)
    assert f"guardrail mode confirm --scope {production}" in deployed.done("mode", "set", "policy", "--scope", production)
    deployed.az.signed_in("oncall")
    assert f"now: POLICY below {production}" in deployed.done("mode", "confirm", "--scope", production)


def test_a_look_and_a_sweep_there_are_left_to_hands(deployed: Deployed) -> None:
    deployed.evening.simulator.mutate(STORAGE, with_keys)
    assert "within seconds" in deployed.done("look", STORAGE)
    deployed.evening.settle()
    assert any(row["control"] == "storage-shared-key-access" for row in deployed.rows("findings", "list"))
    assert "within a minute" in deployed.done("look", "--all")
    assert deployed("look", "--reason", "x").code == deployed("look", "stmltrain", "--all", "--reason", "x").code == 64


def test_two_accept_a_baseline_there(deployed: Deployed) -> None:
    deployed.evening.look(VAULT)
    row = next(row for row in deployed.rows("baselines", "list", VAULT) if row["part"] == "+diagnosticSettings")
    words = ("baselines", "accept", VAULT, "--part", row["part"], "--hash", row["hash"][:8])
    assert "Another person" in deployed.done(*words)
    deployed.az.signed_in("oncall")
    assert "is accepted" in deployed.done(*words)


def test_a_quarantine_there_is_asked_for_and_ended(deployed: Deployed) -> None:
    deployed.evening.simulator.mutate(STORAGE, with_keys)
    deployed.evening.look(STORAGE)
    assert "carried out now" in deployed.done("quarantine", "stmltrain")
    deployed.evening.settle()
    held = next(row for row in deployed.rows("actions", "list") if row["state"] == "quarantined")
    deployed.done("release", held["id"])
    deployed.evening.settle()
    assert next(row for row in deployed.rows("actions", "list") if row["id"] == held["id"])["state"] == "released"
    for words, why in ((("retry", held["id"]), "failed"), (("settle", held["id"], "--ended", "failed"), "unknown")):
        found = deployed("actions", *words, "--reason", "x", "--yes")
        assert (found.code, found.err.splitlines()[1].startswith("refused: ")) == (4, True), why


def test_a_front_leaves_it_to_hands(deployed: Deployed) -> None:
    deployed.api.reads_azure = False
    assert "left to hands" in deployed.done("quarantine", "stmlprod")


def test_a_change_elsewhere_is_asked_about_with_the_name_of_the_target(deployed: Deployed) -> None:
    """No terminal: nothing. At one: the question names the target; no, then yes."""
    words = ("freeze", "add", "tonight", "--until", "8h", "--reason", "x")
    found = deployed(*words)
    assert (found.code, deployed.url in found.err.splitlines()[-1], "--yes" in found.err) == (4, True, True)
    for typed, code in ((b"n\n", 4), (b"y\n", 0)):
        assert deployed.rows("mode", "show")["freezes"] == []
        ours, theirs = pty.openpty()
        os.write(ours, typed)
        done = subprocess.run([sys.executable, "-m", "cli", *words, "--url", deployed.url], cwd=ROOT, stdin=theirs,
                              capture_output=True, text=True, timeout=20, check=False)
        os.close(theirs)
        os.close(ours)
        assert done.returncode == code, done.stderr
        assert f"On {deployed.url}? [y/N]" in done.stderr
    assert [one["name"] for one in deployed.rows("mode", "show")["freezes"]] == ["tonight"]


@pytest.mark.threat("D1", "D3", "D4", "D9", "D14")
def test_each_refusal_is_told_with_what_helps(deployed: Deployed) -> None:
    def expiring(one: Engine) -> Any:
        async def work() -> None:
            case, _ = await one.store.load(ids.parse(ASKED))
            assert case.asked
            await one.store.commit(replace(case, asked=replace(case.asked, expires=app.now() + timedelta(seconds=20))))
        return work()

    [row] = deployed.rows("approvals", "list")
    good, wrong = row["plan_hash"], "0" * 64
    hour = timedelta(minutes=61)
    table: tuple[tuple[str, dict[str, Any], tuple[str, ...], str, str, str], ...] = (
        ("ml-engineer", {}, (), good, "you made the change", "another person decides"),
        ("approver", {}, ("Operator",), good, "approve needs the app role Approver", "ask for the app role"),
        ("approver", {"groups": []}, (), good, "approvals here belong to", "a member of that group decides"),
        ("deploy-pipeline", {"idtyp": "app", "scp": WITHOUT, "acct": WITHOUT}, (), good, "an application", "sign in as a"),
        ("approver", {"acct": 1}, (), good, "a guest", "a member of the tenant decides"),
        ("approver", {"age": hour}, (), good, "this sign-in is older than an hour", "sign in again"),
        ("approver", {"aud": "api://another"}, (), good, "", "sign in, and send the access token"),
        ("approver", {}, (), wrong, "the plan has changed", "look at it again"))
    for who, claims, roles, plan, why, cure in table:
        deployed.az.signed_in(who, *roles, **claims)
        found = deployed("approvals", "approve", row["id"], "--reason", "yes", "--plan", plan)
        assert found.code == 4, found.err
        told = [line for line in found.err.splitlines() if line.startswith(("refused: ", "  cure: "))]
        assert told[0].startswith(f"refused: {why}"), found.err
        assert told[1].startswith(f"  cure: {cure}"), found.err
    deployed.az.signed_in("approver")
    deployed.evening.engine(expiring)
    found = deployed("approvals", "approve", row["id"], "--reason", "yes", "--plan", good)
    assert (found.code, "refused: nobody decided in time" in found.err, "louder" in found.err) == (4, True, True)


def test_waiting_ends_with_the_first_decision_under_the_switch(deployed: Deployed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mode.time, "sleep", lambda seconds: deployed.evening.drift(STORAGE))
    out = deployed.done("mode", "set", "report", "--wait")
    generation = deployed.rows("mode", "show")["generation"]
    assert f"decided under generation {generation}: 1 decisions and 0 writes" in out
    monkeypatch.setattr(mode, "WAIT_S", -1.0)
    late = deployed("mode", "set", "report", "--reason", "x", "--wait")
    assert (late.code, "no probe here" in late.err, "generation 3" in late.out) == (1, True, True)


@pytest.mark.threat("G4")
def test_the_embedded_run_is_asked_by_its_address_too(embedded: Deployed) -> None:
    """It takes names for tokens, and az is not asked, whatever the environment says."""
    [row] = embedded.rows("approvals", "list")
    words = ("approvals", "approve", row["id"], "--reason", "x", "--plan", row["plan_hash"])
    found = embedded(*words, "--as", "ml-engineer")
    assert (found.code, "who can: approver, oncall" in found.err) == (4, True)
    assert embedded(*words).code == 64
    assert embedded(*words, "--as", "approver").code == 0
    assert embedded.az.asked() == []


def test_who_you_are_there_is_not_yours_to_say(deployed: Deployed, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("freeze", "add", "tonight", "--until", "8h", "--reason", "x", "--yes")
    assert deployed(*words, "--as", "oncall").code == 64
    assert deployed.rows("mode", "show")["freezes"] == []
    monkeypatch.setenv("GUARDRAIL_AS", "oncall")
    assert deployed(*words).code == 0
    record = deployed.rows("audit", "show", "guardrail")[-1]
    assert (record["event"], record["actor"]) == ("freeze.set", actor("approver").oid)


def test_every_example_of_the_page_ends_as_told(deployed: Deployed, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the page's two settings, and nothing on the line that says where."""
    monkeypatch.setenv("GUARDRAIL_URL", deployed.url)
    known = ids_now(deployed.guardrail)
    examples = EXAMPLE.findall(blocks(ROOT / "docs/how-to/ask-a-deployed-guardrail.md", "console"))
    assert len(examples) >= 10
    for typed, code in examples:
        for name in ("act-6a01d3", "6e9b21aa"):
            typed = typed.replace(name, known[name])
        found = deployed.guardrail(*shlex.split(typed))
        assert found.code == int(code or 0), f"{typed}\n{found.out}{found.err}"
        assert found.err.startswith("target: store " if "--local" in typed else f"target: {deployed.url}"), typed
        deployed.evening.settle()


# where a token goes

Answering = Callable[[BaseHTTPRequestHandler], None]


class Stranger:
    """Any server of the network: answers as it likes, and keeps what it was sent."""

    def __init__(self, does: Answering, tls: Certificates) -> None:
        seen = self.seen = list[tuple[str, str, str]]()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                seen.append((self.command, self.path, self.headers.get("authorization", "")))
                self.rfile.read(int(self.headers.get("content-length", 0)))
                does(self)

            do_POST = do_GET    # noqa: N815

            def log_message(self, format: str, *args: Any) -> None:
                """Nothing: its lines would stand among ours."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls.certificate, tls.key)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.url = f"https://localhost:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()


@pytest.fixture
def stranger(tls: Certificates) -> Iterator[Callable[[Answering], Stranger]]:
    made = list[Stranger]()

    def start(does: Answering) -> Stranger:
        made.append(Stranger(does, tls))
        return made[-1]

    yield start
    for one in made:
        one.server.shutdown()
        one.server.server_close()
        one.thread.join()


def says(status: int, body: bytes, **headers: str) -> Answering:
    def does(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("content-length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return does


@pytest.mark.threat("E5")
def test_a_redirect_gets_no_token(az: Az, guardrail: Guardrail, stranger: Callable[[Answering], Stranger]) -> None:
    elsewhere = stranger(says(200, b"[]"))
    for status in (301, 302, 303, 307, 308):
        here = stranger(says(status, b"", location=f"{elsewhere.url}/findings"))
        for words in (("findings", "list"), ("mode", "set", "report", "--reason", "x", "--yes")):
            found = guardrail(*words, "--url", here.url)
            assert (found.code, "redirect" in found.err) == (1, True)
        assert here.seen[0] == ("GET", "/findings", f"Bearer {json.loads(az.told.read_text())['accessToken']}")
    assert elsewhere.seen == []


@pytest.mark.parametrize("url", [
    "http://guardrail.example", "ftp://guardrail.example", "guardrail.example", "https://", "https://guardrail.example/api",
    "https://me@guardrail.example", "https://guardrail.example?x=1", "https://guardrail.example#x", "https://guard rail",
    "http://127.0.0.1.example", "http://localhost@guardrail.example", "https://guardrail.example:port", "//127.0.0.1",
    "https://guardrail\u0456.example"])
def test_an_address_that_is_none_gets_no_token(url: str, az: Az, guardrail: Guardrail, monkeypatch: pytest.MonkeyPatch) -> None:
    for given in ((), ("--url", url)):
        monkeypatch.setenv("GUARDRAIL_URL", "" if given else url)
        found = guardrail("findings", "list", *given)
        assert (found.code, "cure: write https://" in found.err) == (5, True)
    assert az.asked() == []


def test_what_the_token_is_for_is_never_asked_of_the_server(
        az: Az, guardrail: Guardrail, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GUARDRAIL_AUDIENCE")
    found = guardrail("findings", "list", "--url", "https://guardrail.example")
    assert (found.code, "GUARDRAIL_AUDIENCE" in found.err, az.asked()) == (5, True, [])
    for audience in ("api://x; touch evil", "api://$(id)"):
        monkeypatch.setenv("GUARDRAIL_AUDIENCE", audience)
        found = guardrail("findings", "list", "--url", "https://guardrail.example")
        assert (found.code, "application id URI" in found.err, az.asked()) == (5, True, [])


def test_azd_s_environment_is_read_beside_the_code_and_nowhere_else(
        deployed: Deployed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that somebody else filled must not say where a token goes."""
    monkeypatch.delenv("GUARDRAIL_AUDIENCE")

    def filled(folder: Path) -> None:
        for name, url in (("prod", deployed.url), ("test", "https://guardrail.example")):
            (folder / name).mkdir(parents=True)
            (folder / name / ".env").write_text(
                f'AZURE_ENV_NAME="{name}"\nGUARDRAIL_URL="{url}"\nGUARDRAIL_AUDIENCE={AUDIENCE}\n')
        (folder / "config.json").write_text('{"version":1,"defaultEnvironment":"prod"}')

    filled(tmp_path / "mine" / ".azure")
    monkeypatch.chdir(tmp_path / "mine")
    assert deployed.guardrail("findings", "list").err.startswith("target: store ")
    monkeypatch.setattr(remote, "BESIDE", tmp_path / "mine" / ".azure")
    assert deployed.guardrail("findings", "list").err.startswith(f"target: {deployed.url}\n")
    assert deployed.guardrail("findings", "list", "--local").err.startswith("target: store ")
    remote.chosen.is_local = False
    for name, url in (("test", "https://guardrail.example"), ("../prod", deployed.url)):
        monkeypatch.setenv("AZURE_ENV_NAME", name)
        assert remote.url() == url
    monkeypatch.setenv("GUARDRAIL_URL", "https://other.example")
    assert remote.url() == "https://other.example", "what the shell says comes before"


# what comes back

@pytest.mark.threat("E2")
def test_hostile_answers_reach_no_terminal(az: Az, guardrail: Guardrail, stranger: Callable[[Answering], Stranger]) -> None:
    bad = "\x1b[31m\u202e\nEvil\u0430"
    row = {"id": bad, "severity": bad, "control": bad, "resource_id": f"/subscriptions/x/{bad}", "path": bad, "state": "drift",
           "why": bad, "observed": bad, "decision": {"mode": bad}}
    for status, told in ((200, [row]), (403, {"error": {"code": "role", "message": bad, "cure": bad}}),
                         (503, {"error": {"code": "StoreDown", "message": bad, "cure": bad}})):
        here = stranger(says(status, json.dumps(told).encode()))
        for form in ((), ("-o", "json"), ("-o", "csv")):
            found = guardrail("findings", "list", "--url", here.url, *form)
            assert found.code == {200: 0, 403: 4, 503: 1}[status], found.err
            assert [one for one in found.out + found.err if one != "\n" and not one.isprintable()] == []
            assert "Evil" in found.out + found.err


@pytest.mark.parametrize(("status", "body"), [
    (200, b"<html>sign in</html>"), (401, b"<html>"), (502, b""),
    (404, b'{"error": {"code": "NotFound", "message": "nothing", "cure": ""}}'),
    (200, b'[{"since": "soon"}]'), (500, b'{"error": "x"}')])
def test_what_is_no_guardrail_is_said_to_be_none(
        status: int, body: bytes, az: Az, guardrail: Guardrail, stranger: Callable[[Answering], Stranger]) -> None:
    here = stranger(says(status, body))
    found = guardrail("findings", "list", "--url", here.url)
    assert (found.code, here.url in found.err.splitlines()[-1], found.out) == (1, True, "")


def test_an_answer_that_never_came_is_not_taken_for_a_no(
        az: Az, guardrail: Guardrail, stranger: Callable[[Answering], Stranger], tmp_path: Path) -> None:
    def cut(handler: BaseHTTPRequestHandler) -> None:
        if handler.command == "GET" and "export" not in handler.path:
            says(200, b'{"mode": "policy", "generation": 1}')(handler)
            return
        handler.send_response(200)
        handler.send_header("content-length", "100")
        handler.end_headers()
        handler.wfile.write(b"{")

    here = stranger(cut)
    found = guardrail("mode", "set", "report", "--reason", "x", "--url", here.url)
    assert (found.code, "Whether it was taken is not known" in found.err) == (1, True)
    assert guardrail("audit", "export", "--out", str(tmp_path / "e.jsonl"), "--url", here.url).code == 1
    whole = stranger(says(200, b'{"v": 1, "kind": "anchor", "line": ""}\n'))
    found = guardrail("audit", "export", "--out", str(tmp_path / "e.jsonl"), "--url", whole.url)
    assert (found.code, "cut off" in found.err) == (1, True)
    assert [one.name for one in tmp_path.iterdir()] == ["bin"]
    nobody = socket.create_server(("127.0.0.1", 0))
    url = f"https://localhost:{nobody.getsockname()[1]}"
    nobody.close()
    assert guardrail("mode", "show", "--url", url).code == 1


def test_a_certificate_of_nobody_we_trust_gets_no_token(
        az: Az, guardrail: Guardrail, stranger: Callable[[Answering], Stranger], monkeypatch: pytest.MonkeyPatch) -> None:
    here = stranger(says(200, b"[]"))
    monkeypatch.delenv("SSL_CERT_FILE")
    found = guardrail("findings", "list", "--url", here.url)
    assert (found.code, "cannot be reached" in found.err, here.seen) == (1, True, [])


def test_without_a_sign_in_az_login_is_named(az: Az, guardrail: Guardrail, stranger: Callable[[Answering], Stranger]) -> None:
    az.path.write_text("#!/bin/sh\necho 'ERROR: Please run az login to setup account.' >&2\nexit 1\n")
    here = stranger(says(200, b"[]"))
    found = guardrail("findings", "list", "--url", here.url)
    assert (found.code, f"cure: az login --scope {AUDIENCE}/.default" in found.err, here.seen) == (1, True, [])


@pytest.mark.parametrize("words", [
    ("scan", "recorded/resources", "--url", "https://guardrail.example"), ("findings", "list", "--url"),
    ("findings", "list", "--url", "https://guardrail.example", "--local"), ("policy", "check", "--url=https://guardrail.example")])
def test_an_address_where_none_is_asked_is_wrong_usage(words: tuple[str, ...], guardrail: Guardrail) -> None:
    assert guardrail(*words).code == 64
