"""The mapping to benchmarks and frameworks: what it names exists, and no control of an AI service is without a word."""

from __future__ import annotations

import json
import re

import pytest

from detectors import CONTROLS, frameworks
from guardrail.values import Control
from tests.cli.conftest import Guardrail
from tests.cli.conftest import guardrail as guardrail

AI = ("Microsoft.CognitiveServices/", "Microsoft.MachineLearningServices/", "Microsoft.BotService/", "Microsoft.Search/",
      "Microsoft.ContainerRegistry/", "Microsoft.ApiManagement/")
OF_AI = [control for control in CONTROLS if control.on.startswith(AI)]
FORMS = {
    "mcsb": r"(NS|IM|PA|DP|AM|LT|IR|PV|ES|BR|DS|GS|AI)-\d+", "cis": r"[3-6]\.0 \d+(\.\d+)+",
    "nist-ai-rmf": r"(GOVERN|MAP|MEASURE|MANAGE) \d\.\d+", "eu-ai-act": r"Art\. \d+(\(\d+\))?(\([a-z]\))?",
}


def test_every_control_that_a_table_names_exists() -> None:
    ids = {control.id for control in CONTROLS}
    assert frameworks.named() - ids == set()
    assert set(frameworks.NO_MCSB) - ids == set()


def test_every_framework_has_its_table_and_its_source() -> None:
    assert list(frameworks.TABLES) == list(frameworks.FRAMEWORKS)
    assert [name for name, one in frameworks.FRAMEWORKS.items() if not (one.name and one.edition and one.source)] == []


@pytest.mark.parametrize("control", OF_AI, ids=lambda one: one.id)
def test_each_control_of_an_ai_service_serves_the_benchmark_or_says_why_not(control: Control) -> None:
    assert ("mcsb" in frameworks.of(control.id)) != bool(frameworks.NO_MCSB.get(control.id))


def test_requirements_are_written_as_their_framework_writes_them() -> None:
    odd = [(name, requirement) for name, tables in frameworks.TABLES.items() for table in tables for requirement in table
           if not re.fullmatch(FORMS[name], requirement)]
    assert odd == []


def test_no_control_stands_twice_under_a_requirement() -> None:
    for control in CONTROLS:
        for served in frameworks.of(control.id).values():
            assert len(served) == len(set(served)), control.id


@pytest.mark.parametrize("name", frameworks.FRAMEWORKS)
def test_the_list_can_be_narrowed_to_a_framework(guardrail: Guardrail, name: str) -> None:
    answer = guardrail("controls", "list", "--framework", name.upper(), "-o", "json")
    rows = json.loads(answer.out)
    assert [row["id"] for row in rows] == [one.id for one in CONTROLS if name in frameworks.of(one.id)]
    assert all(row["frameworks"][name] for row in rows)
    assert frameworks.FRAMEWORKS[name].source in answer.err
    table = guardrail("controls", "list", "--framework", name).out.splitlines()[1:]
    assert [line.split()[0] for line in table] == [row["id"] for row in rows]


def test_an_unknown_framework_is_told_with_the_nearest(guardrail: Guardrail) -> None:
    answer = guardrail("controls", "list", "--framework", "mscb")
    assert (answer.code, "'mcsb'" in answer.err) == (64, True)
