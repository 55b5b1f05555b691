"""role show and filters show: what infra/ has, and what of it Azure does not grant."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests import infra
from tests.bicep import SUBSCRIPTION, Template
from tests.cli.conftest import Guardrail
from tests.cli.deployed import EMPTY, READ, READER, ROLE, SCOPE, Deployed, without
from tests.infra import DEFINITIONS, SUBSCRIPTIONS


@pytest.mark.parametrize("command", ["role", "filters"])
def test_json_is_what_infra_has(command: str, guardrail: Guardrail) -> None:
    file = {"role": "roles", "filters": "filters"}[command]
    assert guardrail(command, "show", "--as", "json").out == (infra.INFRA / f"{file}.json").read_text("utf-8")


@pytest.mark.parametrize(("flags", "ceiling"), [((), "enforce"), (("--report-only",), "report")])
def test_bicep_is_the_definitions_of_the_template(
        flags: tuple[str, ...], ceiling: str, guardrail: Guardrail, tmp_path: Path) -> None:
    """Deployed over a subscription's, they replace them: the same ids, the same bodies."""
    (tmp_path / "role.bicep").write_text(guardrail("role", "show", "--as", "bicep", *flags).out, "utf-8")
    found = Template(tmp_path / "role.bicep", {"installation": "test"}, SCOPE).resources()
    own = {one.id: dict(one.body) for one in infra.made(DEFINITIONS, {
        "report": "as it comes", "enforce": "enforcing, cheap, with chats"}[ceiling]) if one.scope == SCOPE}
    assert {one.id: dict(one.body) for one in found} == own


def test_the_filter_in_bicep_is_that_of_the_template(guardrail: Guardrail, tmp_path: Path) -> None:
    (tmp_path / "filter.bicep").write_text(f"output it object = {guardrail('filters', 'show', '--as', 'bicep').out}", "utf-8")
    wanted = infra.made(SUBSCRIPTIONS)[0].body["properties"]["filter"]
    assert Template(tmp_path / "filter.bicep", {}, SCOPE).outputs()["it"] == wanted


def test_az_is_told_all_of_it(guardrail: Guardrail) -> None:
    words = guardrail("filters", "show", "--as", "az").out.replace("\\\n", " ").split()
    found = json.loads((infra.INFRA / "filters.json").read_bytes())
    assert words[words.index("--included-event-types") + 1:words.index("--advanced-filter")] == found["events"]
    assert words[words.index("StringBeginsWith") + 1:] == found["operations"]
    assert words[:4] == ["az", "eventgrid", "system-topic", "event-subscription"]


def test_every_action_has_its_reason(guardrail: Guardrail) -> None:
    lines = [line for line in guardrail("role", "show").out.splitlines() if line.startswith("  - ")]
    found = json.loads((infra.INFRA / "roles.json").read_bytes())
    assert [line.split()[1] for line in lines] == [action for part in found.values() for action in part]
    assert all("needed by " in line for line in lines)
    [sweep] = [line for line in lines if "needed by the sweep" in line]
    assert "permissions/read" in sweep
    [log] = [line for line in lines if "needed by trusted_deployers" in line]
    assert "eventtypes/values/read" in log


def test_fewer_controls_need_less(guardrail: Guardrail, tmp_path: Path) -> None:
    policy = tmp_path / "small.yaml"
    policy.write_text(EMPTY + 'controls: {disabled: ["keyvault-*", "diag-keyvault*", "ml-*"]}\n', "utf-8")
    small = json.loads(guardrail("role", "show", "--as", "json", "--policy", str(policy)).out)
    heard = json.loads(guardrail("filters", "show", "--as", "json", "--policy", str(policy)).out)
    assert 0 < len(small["reader"]) < 48
    assert "Microsoft.KeyVault/" not in heard["operations"]


@pytest.mark.parametrize("flags", [("--principal", "hands"), ()], ids=["of hands", "of whoever is signed in"])
def test_what_is_missing_is_named(
        flags: tuple[str, ...], deployed: Deployed, guardrail: Guardrail, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GUARDRAIL_HANDS_PRINCIPAL", raising=False)
    words = [deployed.principal("hands") if word == "hands" else word for word in flags]
    deployed.edit(DEFINITIONS, READER, ROLE, without(READ))
    deployed.may_not(READ)
    line = ["role", "show", "--missing", "--report-only", "--subscription", SUBSCRIPTION, "--cloud", deployed.simulator.url]
    answer = guardrail(*line, *words)
    assert answer.code == 0, answer.err
    assert "missing in Azure: 1" in answer.out and f"  - {READ}" in answer.out
    assert answer.out.count("  - ") == 1
    printed = guardrail(*line, *words, "--as", "bicep").out
    assert printed == guardrail("role", "show", "--report-only", "--as", "bicep").out, "a definition is replaced whole"


def test_nothing_is_missing_where_the_role_is_whole(deployed: Deployed, guardrail: Guardrail) -> None:
    answer = guardrail("role", "show", "--missing", "--report-only", "--subscription", SUBSCRIPTION,
                       "--cloud", deployed.simulator.url, "--principal", deployed.principal("hands"))
    assert "missing in Azure: 0" in answer.out and "  - " not in answer.out
