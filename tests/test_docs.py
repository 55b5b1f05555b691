"""The pages say what is so: names, defaults, links, examples and commands are compared with the code and run."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

import cli
import detectors
import recorded
import tools.docs
from console import gate
from detectors import storage
from guardrail import errors, logs, policy_file, settings, transport
from guardrail.documents import Node
from guardrail.paths import ABSENT
from guardrail.values import Control, Drift, State
from tests import threats

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "infra/README.md", *ROOT.glob("recorded/*.md")])


def text(page: str) -> str:
    return (ROOT / page).read_text("utf-8")


def first_cells(page: str) -> list[str]:
    """What stands in backquotes in the first column of a page's tables."""
    return re.findall(r"^\| `([^`]+)` \|", text(page), re.MULTILINE)


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text(page), re.DOTALL)


def told_after(pattern: str) -> set[str]:
    """What the pattern's group finds on all pages."""
    return {found for page in PAGES for found in re.findall(pattern, page.read_text("utf-8"), re.MULTILINE)}


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def named(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text("utf-8"))
    missing = [target for target in targets if "://" not in target and not (page.parent / target).exists()]
    assert missing == []


def test_every_page_of_docs_can_be_found() -> None:
    """A page that the map does not name is read by nobody."""
    found = re.findall(r"\]\(([^)#]+)\)", text("docs/README.md"))
    pages = {page.relative_to(ROOT / "docs").as_posix() for page in ROOT.glob("docs/**/*.md")} - {"README.md"}
    assert pages == set(found)


@pytest.mark.parametrize("page", sorted(ROOT.glob("docs/**/*.md")), ids=named)
def test_a_page_of_docs_begins_with_its_question(page: Path) -> None:
    first = page.read_text("utf-8").splitlines()[0]
    assert first.startswith("# ")
    assert first.endswith("?")


def test_settings_are_those_of_the_code() -> None:
    prefixed = {name.removeprefix("GUARDRAIL_") for name in first_cells("docs/reference/settings.md")}
    assert prefixed == set(settings.NAMES)


def test_log_events_are_those_of_the_code() -> None:
    assert sorted(first_cells("docs/reference/log-events.md")) == sorted(logs.EVENTS)


@pytest.mark.parametrize("example", blocks("docs/reference/policy-file.md", "yaml"))
def test_the_policy_page_is_a_valid_policy(example: str) -> None:
    policy = policy_file.load(example.encode(), "policy-file.md")
    policy_file.check(policy, detectors.CONTROLS)
    assert policy.rules


def test_the_policy_page_shows_every_key() -> None:
    page = text("docs/reference/policy-file.md")
    assert [key for key in keys_of(policy_file.Schema) if not re.search(rf"\b{key}\b", page)] == []


def keys_of(struct: Any) -> Iterator[str]:
    for field in msgspec.structs.fields(struct):
        yield field.encode_name
        for part in [field.type, *getattr(field.type, "__args__", ())]:
            if isinstance(part, type) and issubclass(part, msgspec.Struct):
                yield from keys_of(part)


def test_the_tutorials_control_works() -> None:
    """Its two blocks, as a stranger would paste them: silent on the good document, one drift on the drifted one."""
    check, control_source = blocks("docs/tutorials/first-control.md", "python")
    names: dict[str, Any] = dict(vars(storage))
    exec(check, names)
    control = eval(control_source, names)
    assert isinstance(control, Control)
    assert control.id not in {one.id for one in storage.CONTROLS}, "it is there now: the tutorial needs another example"
    good = recorded.good(control.on).document
    drifted = replace(good, body=recorded.laid(good.body, control.drift))
    bare = replace(good, body=recorded.laid(good.body, dict.fromkeys(control.drift, ABSENT)))
    assert list(control.check(good.node(), control.parameters)) == []
    assert list(control.check(bare.node(), control.parameters)) == []
    assert list(control.check(drifted.node(), control.parameters)) == [Drift("properties.isSftpEnabled", True, False)]


def test_node_has_what_the_tutorial_says() -> None:
    told = re.findall(r"^\| `(\w+)", text("docs/tutorials/first-control.md"), re.MULTILINE)
    assert told
    assert [name for name in told if not hasattr(Node, name)] == []
    assert {"drift", "learns"} <= {field.name for field in fields(Control)}


def targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", text("Makefile"), re.MULTILINE))


def test_make_targets_that_pages_name_exist() -> None:
    told = told_after(r"(?:`|^|\$ )make ([a-z-]+)")
    assert {"run", "test", "host", "threats", "lint"} <= told
    assert told <= targets()


def test_make_alone_lists_every_target_in_one_line() -> None:
    shown = run("make", "--no-print-directory").stdout
    assert {line.split()[0] for line in shown.splitlines()} == targets() - {"help"}


def test_commands_that_pages_name_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is asked for its help: a group and its verb, or a command and what may be its argument."""
    told = told_after(r"(?:`|^|\$ )(?:\.venv/bin/)?guardrail ([a-z][a-z -]*[a-z])")
    commands = {tuple(line.partition(" -")[0].split()[:2]) for line in told}
    assert ("policy", "check") in commands
    unknown = []
    for words in sorted(commands):
        monkeypatch.setattr(sys, "argv", ["guardrail", *words, "--help"])
        try:
            code = cli.main()
        except SystemExit as end:
            code = end.code
        if code:
            unknown.append(" ".join(words))
    assert unknown == []


def test_nothing_names_a_registry_or_a_path_of_a_machine() -> None:
    """Packages come from whatever index the reader's machine is set to."""
    files = run("git", "ls-files", "-co", "--exclude-standard")
    if files.returncode:
        pytest.skip("not a git checkout")
    bad = re.compile(r"--index-url|--extra-index|/(work|root|home)/\w")
    odd = [name for name in files.stdout.splitlines()
           if (ROOT / name).is_file() and not name.startswith("tests/data/") and name != "tests/test_docs.py"
           and bad.search((ROOT / name).read_text("utf-8", errors="replace"))]
    assert odd == []


def test_the_page_of_controls_is_what_the_tables_say() -> None:
    assert text("docs/controls.md") == tools.docs.page(), "run make docs"


def test_the_page_of_states_has_the_transitions_of_the_code() -> None:
    states = set(first_cells("docs/reference/actions.md"))
    assert states == set(get_args(State))


# errors

def codes_of_refusals() -> set[str]:
    """The words that the code refuses people with."""
    files = [*ROOT.glob("guardrail/**/*.py"), *ROOT.glob("console/*.py"), *ROOT.glob("cli/*.py")]
    return {code for file in files for code in re.findall(r'\bRefused\(\s*"([a-z-]+)"', file.read_text("utf-8"))}


def test_every_word_of_a_refusal_stands_on_the_page_with_its_status() -> None:
    told = dict(re.findall(r"^\| `([a-z-]+)` \| (\d{3}) \|", text("docs/reference/errors.md"), re.MULTILINE))
    assert {"role", "four-eyes", "no-undo"} <= codes_of_refusals() <= set(told)
    assert told == {code: str(gate.STATUS.get(code, 409)) for code in told}


def test_every_kind_of_error_stands_on_the_page() -> None:
    kinds = {name for name, one in vars(errors).items() if isinstance(one, type) and issubclass(one, errors.GuardrailError)}
    told = {cell for cell in first_cells("docs/reference/errors.md") if cell[0].isupper()}
    assert kinds - {"GuardrailError"} <= told


def test_azure_s_own_codes_are_judged_as_the_page_says() -> None:
    table = text("docs/reference/errors.md").partition("## Azure's own codes")[2]
    rows = re.findall(r"^\| (`.+`) \| (\w+)", table, re.MULTILINE)
    told = {code: kind for cell, kind in rows for code in re.findall(r"`(\w+)`", cell)}
    assert set(told) == transport._BUSY | transport._DENIED | transport._IMMUTABLE
    for code, kind in told.items():
        answer = transport.Answer(409, {"error": {"code": code, "message": "x"}}, {})
        assert type(transport.failed(answer, "PATCH")).__name__ == kind, code


def test_the_page_of_errors_quotes_what_the_code_says() -> None:
    with pytest.raises(errors.ConfigError) as of_settings:
        settings.read({"GUARDRAIL_SUBSCRIPTIONS": "00000000-0000-0000-0000-000000000001", "GUARDRAIL_CEILING": "enforced"})
    with pytest.raises(errors.ConfigError) as of_policy:
        policy_file.load(b"version: 1\nrules:\n  - {name: a, mode: enforced}\n")
    for error in (of_settings, of_policy):
        assert str(error.value) in text("docs/reference/errors.md")


def test_what_the_page_on_safety_claims_has_a_row() -> None:
    """That each has a test is checked where all tests are known: `make threats`."""
    told = re.findall(r"^\| .+ \| .+ \| ([A-Z0-9 ]+) \|$", text("docs/explanation/safety.md"), re.MULTILINE)
    named = [row for cell in told for row in cell.split()]
    assert len(told) > 15
    assert [row for row in named if not threats.is_row(row)] == []
