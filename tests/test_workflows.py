"""The workflows of the project's public home: nothing moves under them, and they may do no more than they need."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted((ROOT / ".github/workflows").glob("*.yml"))
WRITES = {"release.yml": {"contents", "id-token", "attestations", "artifact-metadata"}}


def workflow(file: Path) -> Any:
    return YAML(typ="safe").load(file.read_text("utf-8"))


def steps(file: Path) -> list[Any]:
    return [step for job in workflow(file)["jobs"].values() for step in job["steps"]]


@pytest.mark.threat("G5")
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_each_action_is_pinned_to_a_commit(file: Path) -> None:
    uses = re.findall(r"(?m)^\s*(?:- )?uses: (.+)$", file.read_text("utf-8"))
    assert uses
    assert [one for one in uses if not re.fullmatch(r"[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", one)] == []


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_workflow_may_read_and_a_job_says_what_it_writes(file: Path) -> None:
    read = workflow(file)
    assert read["permissions"] == {"contents": "read"}
    given = {name for job in read["jobs"].values() for name in job.get("permissions", {})}
    assert given <= WRITES.get(file.name, set())
    text = file.read_text("utf-8")
    assert "pull_request_target" not in text and "secrets." not in text
    checkouts = [step for step in steps(file) if step.get("uses", "").startswith("actions/checkout@")]
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_what_it_runs_is_there(file: Path) -> None:
    """And nothing that an outsider wrote, a title or a branch, is pasted into a shell."""
    targets = set(re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8")))
    for step in steps(file):
        run = step.get("run", "")
        assert set(re.findall(r"\bmake (\S+)", run)) <= targets
        assert not re.search(r"\$\{\{\s*github\.(event|head_ref)", run)
