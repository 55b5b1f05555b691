"""The runbooks and guides are walked: what they say to type is typed beside a small Azure in that very trouble, in order."""

from __future__ import annotations

import csv
import json
import re
import shlex
import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import recorded
from detectors import CONTROLS
from guardrail import plans, policy_file, proof
from guardrail.documents import Document, Node
from guardrail.paths import ABSENT
from guardrail.values import COMMON, Control, Drift, Parameters, ResourceType, Route
from tests.cli.conftest import ASKED, STORAGE, Guardrail
from tests.cli.test_approvals import Evening, rows
from tests.cli.test_approvals import evening as evening
from tests.cli.test_pages import ROOT, blocks

EXAMPLE = re.compile(r"^\$ guardrail (.+?)(?:\s+# exit (\d+))?$", re.MULTILINE)
LOCK = STORAGE + "/providers/Microsoft.Authorization/locks/keep"
NEW = "new.yaml"


def walk(page: str, guardrail: Guardrail, names: Callable[[], dict[str, str]] = dict,
         after: Callable[[str], None] = lambda typed: None) -> list[str]:
    """Types each example of a page; `names`: what its made-up ids stand for now. Returns what came to stdout."""
    answers = []
    for text, code in EXAMPLE.findall(blocks(ROOT / f"docs/{page}.md", "console")):
        typed, _, target = text.partition(" > ")
        for name, one in names().items():
            typed = typed.replace(name, one)
        answer = guardrail(*shlex.split(typed))
        assert answer.code == int(code or 0), f"{typed}\n{answer.out}{answer.err}"
        if target:
            Path(target).write_text(answer.out, "utf-8")
        after(typed)
        answers.append(answer.out)
    return answers


def first(guardrail: Guardrail, *states: str, on: str = "") -> dict[str, Any]:
    found: dict[str, Any] = next(
        (row for row in rows(guardrail, "actions", "list") if row["state"] in states and on in row["resource_id"]),
        {"id": "act-none", "plan_hash": "0" * 64})
    return found


# runbooks

def test_what_a_lock_kept_open_is_mended_after_it(evening: Evening, guardrail: Guardrail) -> None:
    """not-fixed: the failed action names the lock; once it is gone the retry closes the account."""
    evening.simulator.request("PUT", LOCK, {"properties": {"level": "ReadOnly"}}, api_version="2016-09-01")
    evening.simulator.mutate(STORAGE, opened)
    evening.look(STORAGE)
    failed = first(guardrail, "failed")
    assert "ScopeLocked" in failed["why"]

    def after(typed: str) -> None:
        if typed.startswith("audit show"):
            evening.simulator.request("DELETE", LOCK, api_version="2016-09-01")
        evening.settle()

    said = walk("runbooks/not-fixed", guardrail, lambda: {"act-4f7c21": failed["id"]}, after)
    assert failed["id"] in said[0] and failed["id"] in said[-1]
    assert evening.shown(STORAGE)["publicNetworkAccess"] == "Disabled"


def opened(body: Any) -> Any:
    return {**body, "properties": {**body["properties"], "publicNetworkAccess": "Enabled"}}


def test_a_held_fix_is_approved_past_the_breaker(evening: Evening, guardrail: Guardrail) -> None:
    """breaker-tripped: reopened until it is held, then a person's yes closes it, once."""
    for _ in range(3):
        evening.drift(STORAGE)
    held = first(guardrail, "held")
    assert held["why"].startswith("flapping breaker") and evening.shown(STORAGE)["publicNetworkAccess"] == "Enabled"

    def after(typed: str) -> None:
        evening.settle()
        if typed.startswith("approvals approve"):
            assert evening.shown(STORAGE)["publicNetworkAccess"] == "Disabled"
            evening.simulator.mutate(STORAGE, with_keys)        # something is left for the quarantine
            evening.look(STORAGE)

    walk("runbooks/breaker-tripped", guardrail,
         lambda: {"act-4f7c21": held["id"], "6e9b21aa": held["plan_hash"][:8]}, after)
    assert evening.shown(STORAGE)["allowSharedKeyAccess"] is False


def with_keys(body: Any) -> Any:
    return {**body, "properties": {**body["properties"], "allowSharedKeyAccess": True}}


def test_a_store_that_somebody_touched_is_kept_and_named(guardrail: Guardrail, own_store: Path, tmp_path: Path,
                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    """audit-broken: a record says another thing than it did; the copy shows it as well."""
    monkeypatch.chdir(tmp_path)
    db = sqlite3.connect(own_store)
    with db:
        db.execute("UPDATE records SET body = replace(body, '\"high\"', '\"low\"') WHERE instr(body, 'finding.raised') > 0")
    db.close()
    answers = walk("runbooks/audit-broken", guardrail)
    assert "does not follow" in answers[-1] and Path("broken.jsonl").stat().st_size > 1000
    rules = json.loads(guardrail("mode", "show", "-o", "json").out)
    assert rules["mode"] == "report"


def test_a_fix_that_broke_production_is_taken_back(evening: Evening, guardrail: Guardrail) -> None:
    """we-broke-production: stopped, undone by two people, exempt, and the switch back at the end."""
    row = rows(guardrail, "approvals", "list")[0]
    guardrail("approvals", "approve", row["id"], "--plan", row["plan_hash"], "--reason", "x", "--as", "approver")
    evening.settle()
    assert evening.shown(ASKED)["publicNetworkAccess"] == "Disabled"
    done = first(guardrail, "verified", on="stmlprod")

    def names() -> dict[str, str]:
        waits = first(guardrail, "proposed")
        return {"act-4f7c21": done["id"], "act-0b52d8": waits["id"], "6e9b21aa": waits["plan_hash"][:8]}

    walk("runbooks/we-broke-production", guardrail, names, lambda typed: evening.settle())
    assert evening.shown(ASKED)["publicNetworkAccess"] == "Enabled"
    [exemption] = rows(guardrail, "exemptions", "list")
    assert exemption["control"] == "storage-public-network-access"
    assert json.loads(guardrail("mode", "show", "-o", "json").out)["mode"] == "policy"


@pytest.mark.parametrize("mode", ["report", "approve"])
def test_under_report_only_no_undo_is_let_through(mode: str, evening: Evening, guardrail: Guardrail) -> None:
    """Why we-broke-production says approve."""
    row = rows(guardrail, "approvals", "list")[0]
    guardrail("approvals", "approve", row["id"], "--plan", row["plan_hash"], "--reason", "x", "--as", "approver")
    evening.settle()
    assert guardrail("mode", "set", mode, "--reason", "stop", "--as", "oncall").code == 0
    done = first(guardrail, "verified", on="stmlprod")
    assert guardrail("actions", "rollback", done["id"], "--reason", "x", "--as", "oncall").code == 0
    waits = first(guardrail, "proposed")
    answer = guardrail("approvals", "approve", waits["id"], "--plan", waits["plan_hash"], "--reason", "x", "--as", "approver")
    assert answer.code == {"report": 4, "approve": 0}[mode]


# guides

def policies(page: str) -> list[str]:
    return re.findall(r"```yaml\n(.*?)```", (ROOT / f"docs/how-to/{page}.md").read_text("utf-8"), re.DOTALL)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as the guides have it: both policies, documents, recorded data."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "guardrail.yaml", tmp_path)
    (tmp_path / NEW).write_text(policies("write-the-policy")[1], "utf-8")
    (tmp_path / "recorded").symlink_to(ROOT / "recorded")
    sample = recorded.good("Microsoft.KeyVault/vaults")
    for name, body in (("documents", sample.body), ("drifted", opened(sample.body))):
        (tmp_path / name).mkdir()
        text = json.dumps({"id": sample.id, "api_version": sample.api_version, "document": body})
        (tmp_path / name / "vault.json").write_text(text, "utf-8")
    return tmp_path


@pytest.mark.parametrize("text", policies("write-the-policy"))
def test_the_policies_of_the_guide_are_valid(text: str) -> None:
    policy_file.check(policy_file.load(text.encode(), "write-the-policy.md"), CONTROLS)


def test_a_new_policy_is_compared_before_it_holds(desk: Path, guardrail: Guardrail) -> None:
    shutil.copy(desk / "drifted/vault.json", desk / "documents/drifted.json")
    walk("how-to/write-the-policy", guardrail)
    before, after = (
        [row["POLICY SAYS"] for row in csv.DictReader((desk / f"{name}.csv").read_text("utf-8").splitlines())]
        for name in ("before", "after"))
    assert set(before) == {"report"} and set(after) == {"enforce"}


def test_an_incident_is_played_through(desk: Path, guardrail: Guardrail) -> None:
    page = (ROOT / "docs/how-to/replay-an-incident.md").read_text("utf-8")
    events, document = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    (desk / "incident/documents").mkdir(parents=True)
    (desk / "incident/events.json").write_text(events, "utf-8")
    (desk / "incident/documents/stmltrain.json").write_text(document, "utf-8")
    reported, reverted, _, _, applied = walk("how-to/replay-an-incident", guardrail)
    assert "would report" in reported and "would revert" in reverted and "verified act-" in applied
    shown = re.sub(r"plan \w{8}", "plan", page[page.index("EVENT  CHANGE"):].partition("```")[0])
    assert re.sub(r"plan \w{8}", "plan", reverted) == shown


def test_a_build_fails_on_drift_and_on_nothing_else(desk: Path, guardrail: Guardrail) -> None:
    answers = walk("how-to/use-in-ci", guardrail)
    assert json.loads(answers[1]) == []
    assert "keyvault-public-network-access" in answers[2]


def test_samples_are_replayed_and_scanned(desk: Path, guardrail: Guardrail) -> None:
    walk("how-to/record-a-sample", guardrail)


def test_the_type_of_the_guide_works() -> None:
    """Its blocks as a stranger would paste them: silent on the good document, and one PATCH from the drifted one."""
    page = (ROOT / "docs/how-to/add-a-resource-type.md").read_text("utf-8")
    table, checks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    [text] = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    names: dict[str, Any] = {"ResourceType": ResourceType, "Route": Route, "COMMON": COMMON}
    exec(table, names)
    [type] = names["TYPES"]
    names = {"Control": Control, "Node": Node, "Parameters": Parameters, "Drift": Drift, "Iterator": list}
    exec(checks, names)
    [control] = names["CONTROLS"]
    sample = json.loads(text)
    assert (sample["api_version"], control.on) == (type.api_version, type.name)
    assert control.id not in {one.id for one in CONTROLS}, "it is there now: the guide needs another example"
    good = Document(sample["id"], type.name, sample["document"])
    assert list(control.check(good.node(), {})) == []
    drifted = replace(good, body=recorded.laid(good.body, control.drift))
    bare = replace(good, body=recorded.laid(good.body, dict.fromkeys(control.drift, ABSENT)))
    assert list(control.check(bare.node(), {}))
    edits, refused = plans.edits(type, control.check(drifted.node(), {}))
    steps = plans.steps(type, drifted, edits)
    proof.prove(drifted, steps, [control], lambda _: {})
    assert refused == []
    assert [(step.request.method, step.request.body) for step in steps] == [
        ("PATCH", {"properties": {"publicNetworkAccess": "Disabled"}})]


def test_the_guide_names_every_field_of_a_type() -> None:
    page = (ROOT / "docs/how-to/add-a-resource-type.md").read_text("utf-8")
    told = set(re.findall(r"`(\w+)", page))
    own = {"path", "url", "api_version", "name", "routes", "actions", "write", "needs", "update"}
    assert {*ResourceType.__slots__, *Route.__slots__} - own <= told
