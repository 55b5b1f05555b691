"""controls, policy, plan and what every command has: help, completeness, words."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

import cli
import recorded
from detectors import CONTROLS
from guardrail.paths import ABSENT
from tests.cli.conftest import Guardrail
from tests.cli.test_scan import line, speaks

ROOT = Path(__file__).parent.parent.parent
VERBS = {"findings": ("list",), "actions": ("list", "show", "rollback", "retry", "settle"), "controls": ("list", "show"),
         "approvals": ("list", "approve", "reject"), "exemptions": ("list", "add", "confirm", "remove"),
         "freeze": ("add", "end"), "baselines": ("list", "accept"), "mode": ("show", "set", "confirm"),
         "policy": ("check",), "audit": ("show", "verify", "export"), "role": ("show",), "filters": ("show",)}
EVERY = [(name,) for name in cli.COMMANDS] + [(group, verb) for group in cli.GROUPS for verb in VERBS[group]]


@pytest.mark.parametrize("words", EVERY, ids=" ".join)
def test_help_has_a_sentence_two_examples_and_the_exit_codes(guardrail: Guardrail, words: tuple[str, ...]) -> None:
    answer = guardrail(*words, "--help")
    assert answer.code == 0
    assert answer.out.startswith("Usage: guardrail ")
    assert answer.out.split("Examples:")[1].split("Exit codes:")[0].count("guardrail ") >= 2
    assert "64" in answer.out.split("Exit codes:")[1]
    sentence = answer.out.split("\n\n")[1].strip()
    assert sentence.endswith(".")


def test_the_process_s_own_words_are_taken(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["guardrail"])
    assert cli.main() == 0
    out = capsys.readouterr().out
    assert [name for name in (*cli.COMMANDS, *cli.GROUPS) if f"\n  {name} " not in out] == []


def test_every_control_is_listed_in_every_form(guardrail: Guardrail) -> None:
    ids = [control.id for control in CONTROLS]
    assert [row["id"] for row in json.loads(guardrail("controls", "list", "-o", "json").out)] == ids
    assert [row[0] for row in csv.reader(io.StringIO(guardrail("controls", "list", "-o", "csv").out))][1:] == ids
    assert [row.split()[0] for row in guardrail("controls", "list").out.splitlines()[1:]] == ids


@pytest.mark.parametrize(("words", "prefixes"), [
    (("--service", "storage"), ("storage-", "diag-storage-blob")), (("--service", "Key Vault"), ("keyvault-", "diag-keyvault")),
    (("--service", "role"), ("rbac-",))])
def test_controls_can_be_narrowed(guardrail: Guardrail, words: tuple[str, ...], prefixes: tuple[str, ...]) -> None:
    rows = json.loads(guardrail("controls", "list", *words, "-o", "json").out)
    assert rows
    assert all(row["id"].startswith(prefixes) for row in rows)


@pytest.mark.parametrize("response", ["revert", "isolate", "report"])
def test_controls_can_be_narrowed_by_response(guardrail: Guardrail, response: str) -> None:
    rows = json.loads(guardrail("controls", "list", "--response", response, "-o", "json").out)
    assert [row["id"] for row in rows] == [one.id for one in CONTROLS if one.response == response]


@pytest.mark.parametrize("control", [control.id for control in CONTROLS])
def test_every_control_can_be_shown(guardrail: Guardrail, control: str) -> None:
    answer = guardrail("controls", "show", control)
    one = next(one for one in CONTROLS if one.id == control)
    assert answer.code == 0
    assert all(text in answer.out for text in (one.title, one.why, one.breaks, one.severity, one.on))


def test_a_control_that_is_off_says_so(guardrail: Guardrail, tmp_path: Path) -> None:
    policy = tmp_path / "p.yaml"
    policy.write_text("version: 1\ncontrols: {disabled: ['storage-minimum-*']}\n")
    assert "off: storage-minimum-*" in guardrail("controls", "show", "storage-minimum-tls", "--policy", str(policy)).out
    rows = json.loads(guardrail("controls", "list", "--policy", str(policy), "-o", "json").out)
    assert [row["id"] for row in rows if not row["enabled"]] == ["storage-minimum-tls"]


def test_policies_are_checked(guardrail: Guardrail, tmp_path: Path) -> None:
    for name in ("guardrail.yaml", "guardrail.story.yaml"):
        answer = guardrail("policy", "check", str(ROOT / name))
        assert (answer.code, "valid" in answer.out) == (0, True)
    bad = tmp_path / "bad.yaml"
    bad.write_text("version: 1\nrules:\n  - {name: a, mode: enforze}\n")
    answer = guardrail("policy", "check", str(bad))
    assert answer.code == 5
    assert all(word in answer.err for word in ("bad.yaml", "mode", "enforze", "cure:"))
    assert guardrail("policy", "check", str(tmp_path / "none.yaml")).code == 5


def test_a_rule_by_tag_is_warned_of(guardrail: Guardrail, tmp_path: Path) -> None:
    policy = tmp_path / "p.yaml"
    policy.write_text("version: 1\nrules:\n  - {name: confidential asks, tag: {class: secret}, mode: approve}\n")
    assert "only where it tightens" in guardrail("policy", "check", str(policy)).out


REVERTS = [one for one in CONTROLS if one.response == "revert" and speaks(one)]


@pytest.mark.parametrize("control", REVERTS, ids=lambda one: one.id)
def test_a_plan_shows_each_edit_and_writes_nothing(guardrail: Guardrail, tmp_path: Path, control: Any) -> None:
    """Whatever can be mended is shown as a diff that holds the wanted value; the rest says why not."""
    policy, raw = str(ROOT / "guardrail.story.yaml"), line(recorded.drifted(control))
    answer = guardrail("plan", "--document", "-", "--policy", policy, stdin=raw)
    assert answer.code == 2, answer.err
    assert answer.out.startswith(("plan ", "  ? "))
    plans = json.loads(guardrail("plan", "--document", "-", "-o", "json", "--policy", policy, stdin=raw).out)
    assert bool(plans) == answer.out.startswith("plan ")
    for plan in plans:
        assert plan["plan"]["edits"]
        assert {request["method"] for request in plan["requests"]} <= {"PATCH", "PUT", "DELETE", "POST"}
        assert answer.out.count("=>") >= 1 or "bytes" in answer.out


def test_a_plan_isolates_what_cannot_be_changed(guardrail: Guardrail) -> None:
    control = next(one for one in CONTROLS if one.id == "ml-compute-instance-ssh")
    answer = guardrail("plan", "--document", "-", stdin=line(recorded.drifted(control)))
    assert "quarantine: 1 write" in answer.out
    assert '"Running" => "Stopped"' in answer.out


def test_a_plan_for_nothing(guardrail: Guardrail) -> None:
    good = line(recorded.good("Microsoft.KeyVault/vaults"))
    answer = guardrail("plan", "--document", "-", stdin=good)
    assert (answer.code, answer.out) == (0, "")
    assert guardrail("plan").code == 64
    assert guardrail("plan", "--document", "-", stdin=b"{").code == 1
    two = good + b"\n" + line(recorded.good("Microsoft.Storage/storageAccounts"))
    assert guardrail("plan", "--document", "-", stdin=two).code == 1
    assert guardrail("plan", "kv-ai-dev", "--document", "-", stdin=two).code == 0


def test_absent_is_never_printed_as_a_value(guardrail: Guardrail) -> None:
    raw = b"\n".join(line(recorded.drifted(control)) for control in CONTROLS if speaks(control))
    for form in ("table", "csv", "json"):
        assert repr(ABSENT) not in guardrail("scan", "-", "-o", form, stdin=raw).out
