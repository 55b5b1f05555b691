"""findings, actions, explain, mode and audit on a store that the engine filled."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from guardrail import anchors, app, audit
from guardrail.errors import StoreDown
from guardrail.stores import Store
from guardrail.stores.sqlite import SqliteStore
from tests import test_ocsf
from tests.cli.conftest import ASKED, STORAGE, Guardrail

pytestmark = pytest.mark.usefixtures("store")


def test_findings_are_those_that_stand_open(guardrail: Guardrail) -> None:
    answer = guardrail("findings", "list", "-o", "json")
    [found] = json.loads(answer.out)
    assert answer.code == 0
    assert (found["control"], found["resource_id"], found["state"]) == ("storage-public-network-access", ASKED, "drift")
    assert (found["observed"], found["wanted"], found["severity"]) == ("Enabled", "Disabled", "high")
    assert found["decision"] == {"mode": "approve", "rule": "production asks", "why": ""}
    assert found["id"].startswith("fnd-")
    assert found["action_id"].startswith("act-")


@pytest.mark.parametrize(("words", "many"), [
    (("--severity", "critical"), 0), (("--severity", "high"), 1), (("--since", "1h"), 1), (("--open",), 1)])
def test_findings_can_be_narrowed(guardrail: Guardrail, words: tuple[str, ...], many: int) -> None:
    assert len(json.loads(guardrail("findings", "list", *words, "-o", "json").out)) == many


@pytest.mark.parametrize("words", [("--since", "soon"), ("--severity", "hihg"), ("-o", "xml")])
def test_findings_refuse_what_they_do_not_know(guardrail: Guardrail, words: tuple[str, ...]) -> None:
    assert guardrail("findings", "list", *words).code == 64


def test_actions_have_states_in_words(guardrail: Guardrail) -> None:
    table = guardrail("actions", "list").out
    assert "verified" in table
    assert "waiting for approval" in table
    rows = json.loads(guardrail("actions", "list", "-o", "json").out)
    assert {(row["resource_id"], row["state"]) for row in rows} == {(STORAGE, "verified"), (ASKED, "proposed")}
    [held] = json.loads(guardrail("actions", "list", "--state", "verified", "-o", "json").out)
    assert [(one["method"], one["status"]) for one in held["requests"]] == [("PATCH", 200)]


def test_an_action_is_shown_from_its_cause_to_its_end(guardrail: Guardrail) -> None:
    [row] = json.loads(guardrail("actions", "list", "--state", "verified", "-o", "json").out)
    answer = guardrail("actions", "show", row["id"][:9])
    assert answer.code == 0
    events = [line.split()[1] for line in answer.out.splitlines() if line.startswith("  ") and ":" in line.split()[0]]
    assert events == ["action.applying", "request.sent", "action.applied", "action.verified"]
    assert '"Enabled" => "Disabled"' in answer.out
    assert json.loads(guardrail("actions", "show", row["id"], "-o", "json").out)["id"] == row["id"]


def test_an_id_that_fits_none_or_several_is_wrong_usage(guardrail: Guardrail) -> None:
    assert guardrail("actions", "show", "act-zzz").code == 64
    several = guardrail("actions", "show", "act-")
    assert (several.code, "could be" in several.err) == (64, True)


def test_explain_says_which_rule_and_what_would_change_it(guardrail: Guardrail) -> None:
    [found] = json.loads(guardrail("findings", "list", "-o", "json").out)
    for what in (found["id"], "stmlprod", ASKED.upper(), found["action_id"][:10]):
        answer = guardrail("explain", what)
        assert answer.code == 0
        assert "approve, by policy rule 'production asks'" in answer.out
    assert "nothing is wrong" in guardrail("explain", "stmltrain").out
    assert "'stmlprod'" in guardrail("explain", "stmlprdo").err


def test_the_target_is_said_first(guardrail: Guardrail, store: Path) -> None:
    for words in (("findings", "list"), ("mode", "show"), ("audit", "verify")):
        assert guardrail(*words).err.splitlines()[0].startswith(f"target: store {store}")


def test_without_a_store_nothing_is_known(guardrail: Guardrail, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GUARDRAIL_STORE", str(tmp_path / "none.db"))
    answer = guardrail("findings", "list")
    assert (answer.code, "cure:" in answer.err) == (1, True)
    assert not (tmp_path / "none.db").exists()


def test_the_switch_tightens_at_once(guardrail: Guardrail, own_store: Path) -> None:
    assert guardrail("mode", "set", "report", "--reason", "migration", "--as", "oncall").code == 0
    shown = json.loads(guardrail("mode", "show", "-o", "json").out)
    assert (shown["mode"], shown["reason"], shown["generation"]) == ("report", "migration", 2)
    assert "REPORT-ONLY" in guardrail("mode", "show").out
    assert "policy => report: migration" in guardrail("audit", "show", "guardrail").out


@pytest.mark.threat("D12")
def test_loosening_needs_a_yes_and_a_second_person(guardrail: Guardrail, own_store: Path) -> None:
    """Production is guarded here: one administrator's yes is recorded and changes nothing."""
    guardrail("mode", "set", "report", "--reason", "first", "--as", "oncall")
    words = ("mode", "set", "policy", "--reason", "go on", "--as", "approver")
    assert guardrail(*words).code == 4
    first = guardrail(*words, "--yes")
    assert (first.code, "another administrator" in first.out) == (0, True)
    assert json.loads(guardrail("mode", "show", "-o", "json").out)["mode"] == "report"
    assert "waits for a second person: switch policy, by approver: go on" in guardrail("mode", "show").out
    again = guardrail("mode", "confirm", "--reason", "me too", "--as", "approver")
    assert (again.code, "another administrator" in again.err) == (4, True)
    assert guardrail("mode", "confirm", "--reason", "seen", "--as", "ml-engineer").code == 4
    assert guardrail("mode", "confirm", "--generation", "1", "--reason", "old", "--as", "oncall").code == 4
    assert guardrail("mode", "confirm", "--reason", "seen", "--as", "oncall").code == 0
    assert json.loads(guardrail("mode", "show", "-o", "json").out)["mode"] == "policy"


@pytest.mark.parametrize("words", [("raport", "--reason", "x", "--as", "oncall"), ("report", "--as", "oncall"),
                                   ("report", "--reason", " ", "--as", "oncall"), ("report", "--reason", "x"),
                                   ("report", "--reason", "x", "--as", "onkall")])
def test_the_switch_wants_a_mode_and_a_reason(guardrail: Guardrail, words: tuple[str, ...]) -> None:
    assert guardrail("mode", "set", *words).code == 64


def test_records_are_shown_in_order(guardrail: Guardrail) -> None:
    rows = json.loads(guardrail("audit", "show", "stmltrain", "-o", "json").out)
    assert [row["seq"] for row in rows] == list(range(1, len(rows) + 1))
    assert rows[0]["event"] == "change.seen"
    assert {"action.verified", "finding.cleared"} <= {row["event"] for row in rows}
    assert guardrail("audit", "show", "stmltrain").out.count("\n") == len(rows) + 1


def test_a_whole_chain_verifies_and_a_changed_one_does_not(guardrail: Guardrail, own_store: Path, tmp_path: Path) -> None:
    export = tmp_path / "export.jsonl"
    assert guardrail("audit", "verify").code == 0
    assert guardrail("audit", "export", "--out", str(export)).code == 0
    assert guardrail("audit", "verify", str(export)).code == 0
    raw = export.read_text()
    export.write_text(raw.replace("stmltrain", "stmltrai_", 1) if "stmltrain" in raw else raw)
    with closing(sqlite3.connect(own_store, isolation_level=None)) as db:
        db.execute("UPDATE records SET body = replace(CAST(body AS TEXT), 'Enabled', 'enabled') WHERE seq = 2")
    broken = guardrail("audit", "verify")
    assert (broken.code, "record 2" in broken.out) == (6, True)
    assert guardrail("audit", "verify", str(export)).code == 6
    assert guardrail("audit", "verify", str(tmp_path / "none")).code == 64


@pytest.mark.threat("C3")
def test_verify_says_how_much_is_intact_then_what_is_not(guardrail: Guardrail, own_store: Path) -> None:
    whole = json.loads(guardrail("audit", "verify", "-o", "json").out)
    assert (whole["intact"], whole["broken"]) == (True, [])
    with closing(sqlite3.connect(own_store, isolation_level=None)) as db:
        db.execute("DELETE FROM records WHERE seq = 2 AND resource = ?", (STORAGE,))
    answer = guardrail("audit", "verify")
    first, second = answer.out.splitlines()
    chains = whole["chains"]
    assert first.endswith(f"{whole['records'] - 1} records, {chains - 1} of {chains} chains intact, no anchor yet")
    assert second == "(x) Failed: stmltrain: record 2 is missing"
    assert (answer.code, answer.err.splitlines()[-1]) == (
        6, "exit 6: 1 place where somebody touched the records. What to do: docs/how-to/prove-it.md")
    told = guardrail("audit", "verify", "-o", "json")
    assert (told.code, json.loads(told.out)["broken"]) == (
        6, [{"resource_id": STORAGE, "seq": 2, "why": "record 2 is missing"}])


@pytest.mark.threat("C3", "C4")
def test_an_old_copy_is_found_by_an_export_that_was_kept(guardrail: Guardrail, own_store: Path, tmp_path: Path) -> None:
    """The whole file put back, anchors included: only what was kept elsewhere knows better."""
    def anchor() -> None:
        with closing(SqliteStore(own_store, app.now)) as store:
            asyncio.run(anchors.write(store, app.now()))

    anchor()
    old = own_store.read_bytes()
    guardrail("mode", "set", "report", "--reason", "covering tracks", "--as", "oncall")
    anchor()
    kept = str(tmp_path / "kept.jsonl")
    assert guardrail("audit", "export", "--out", kept).code == 0
    assert guardrail("audit", "verify", "--anchors", kept).code == 0
    own_store.write_bytes(old)
    assert guardrail("audit", "verify").code == 0
    answer = guardrail("audit", "verify", "--anchors", kept)
    assert (answer.code, "was anchored and is missing" in answer.out) == (6, True)


def test_an_export_is_whole_or_not_there(guardrail: Guardrail, store: Path, tmp_path: Path,
                                         monkeypatch: pytest.MonkeyPatch) -> None:
    whole = guardrail("audit", "export").out.splitlines()
    assert json.loads(whole[-1]) == {"v": 1, "kind": "end", "lines": len(whole) - 1}
    assert json.loads(guardrail("audit", "export", "--since", "2027-01-01").out.splitlines()[-1])["lines"] < len(whole) - 1
    assert guardrail("audit", "export", "--since", "1h").out == guardrail("audit", "export").out
    assert guardrail("audit", "export", "--since", "soon").code == 64
    assert guardrail("audit", "export", "--out", str(tmp_path / "no" / "folder")).code == 1

    async def cut(store: Store, since: Any = None) -> AsyncIterator[bytes]:
        yield b"{}"
        raise StoreDown("the store does not answer")

    monkeypatch.setattr(audit, "export", cut)
    assert guardrail("audit", "export", "--out", str(tmp_path / "export.jsonl")).code == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [
    ("audit", "export", "-o", "ocsf"), ("audit", "export", "-o", "ocsf", "--ocsf-class", "2003"),
    ("findings", "list", "-o", "ocsf"), ("findings", "list", "-o", "ocsf", "--ocsf-class", "2003")])
def test_what_goes_to_a_siem_is_of_the_published_schema(guardrail: Guardrail, words: tuple[str, ...]) -> None:
    answer = guardrail(*words)
    assert answer.code == 0
    events = [json.loads(line) for line in answer.out.splitlines()]
    assert [fault for event in events for fault in test_ocsf.faults(event)] == []
    findings = {2003 if "2003" in words else 2004}
    assert {event["class_uid"] for event in events} == findings | ({7001} if words[0] == "audit" else set())


@pytest.mark.parametrize("words", [("findings", "list", "-o", "ocsf", "--ocsf-class", "2001"), ("audit", "export", "-o", "csv"),
                                   ("findings", "list", "-o", "ocsf", "--query", "[]"), ("audit", "verify", "-o", "ocsf")])
def test_what_is_no_class_or_format_is_wrong_usage(guardrail: Guardrail, words: tuple[str, ...]) -> None:
    assert guardrail(*words).code == 64


def test_a_finding_has_one_id_wherever_it_is_told(guardrail: Guardrail) -> None:
    [listed] = [json.loads(line) for line in guardrail("findings", "list", "-o", "ocsf").out.splitlines()]
    [known] = json.loads(guardrail("findings", "list", "-o", "json").out)
    told = [json.loads(line) for line in guardrail("audit", "export", "-o", "ocsf").out.splitlines()]
    assert listed["finding_info"]["uid"] == known["id"]
    assert known["id"] in {one["finding_info"]["uid"] for one in told if one["class_uid"] == 2004}
    assert listed["unmapped"]["action_id"] == known["action_id"]


@pytest.mark.threat("E2")
def test_hostile_records_reach_no_terminal(guardrail: Guardrail, own_store: Path) -> None:
    """Every string in every record and row holds an escape sequence and a line break."""
    bad = "\\u001b[31m\\u202e\\nEvil"
    with closing(sqlite3.connect(own_store, isolation_level=None)) as db:
        for table in ("records", "cases"):
            for rowid, body in db.execute(f"SELECT key || '/' || seq, CAST(body AS TEXT) FROM {table}").fetchall():
                for word in ("Enabled", "production asks", "high", "a test"):
                    body = body.replace(word, bad)
                db.execute(f"UPDATE {table} SET body = ? WHERE key || '/' || seq = ?", (body.encode(), rowid))
    every = (("findings", "list"), ("actions", "list"), ("explain", "stmlprod"), ("audit", "show", "stmlprod"),
             ("audit", "show", "guardrail"), ("mode", "show"), ("audit", "verify"), ("approvals", "list"),
             ("exemptions", "list"), ("baselines", "list"))
    for words in every:
        for form in ((), ("-o", "json"), ("-o", "csv")):
            answer = guardrail(*words, *form)
            text = answer.out + answer.err
            assert [one for one in text if one != "\n" and not one.isprintable()] == [], words
    assert "\\x1b[31m" in guardrail("mode", "show").out


def test_the_store_is_not_named_by_a_url(guardrail: Guardrail, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "GUARDRAIL_STORE", "https://example.table.core.windows.net")
    answer = guardrail("findings", "list")
    assert (answer.code, "GUARDRAIL_STORE" in answer.err) == (5, True)
