"""Every example of the pages about the CLI is typed here, and ends as the page says."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from cli.output import MEANING
from tests.cli import test_run
from tests.cli.conftest import Guardrail
from tests.cli.test_tables import EVERY

ROOT = Path(__file__).parent.parent.parent
PAGES = [ROOT / "docs/reference/cli.md", ROOT / "docs/tutorials/first-run.md"]
EXAMPLE = re.compile(r"^\$ guardrail (.+?)(?:\s+# exit (\d+))?$", re.MULTILINE)


def blocks(page: Path, language: str) -> str:
    return "\n".join(re.findall(rf"```{language}\n(.*?)```", page.read_text("utf-8"), re.DOTALL))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_examples_end_as_told(page: Path, guardrail: Guardrail, own_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    examples = EXAMPLE.findall(blocks(page, "console"))
    assert examples
    for text, code in examples:
        line, _, source = text.partition(" < ")
        answer = guardrail(*shlex.split(line), stdin=Path(source).read_bytes() if source else b"")
        assert answer.code == int(code or 0), f"{text}\n{answer.err}"


@pytest.mark.parametrize("page", ["send-to-sentinel", "prove-it"])
def test_what_leaves_as_evidence_ends_as_told(
        page: str, guardrail: Guardrail, own_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are written where the reader stands."""
    monkeypatch.chdir(tmp_path)
    examples = EXAMPLE.findall(blocks(ROOT / f"docs/how-to/{page}.md", "console"))
    assert examples
    for text, code in examples:
        answer = guardrail(*shlex.split(text))
        assert answer.code == int(code or 0), f"{text}\n{answer.err}"


def test_what_stays_up_is_run_elsewhere() -> None:
    """Servers are started in test_run with these very words, or with fewer; here: that each takes its options."""
    shown = [words for page in PAGES for words, _ in EXAMPLE.findall(blocks(page, "text"))]
    assert f"run --story --exit --speed {test_run.SPEED}" in shown
    assert "simulate --port 0 --tls-port 0 --resources recorded/resources" in shown
    known = {"--story", "--exit", "--speed", "--keep", "--port", "--tls-port", "--resources", "--to"}
    assert {word for words in shown for word in words.split() if word.startswith("--")} <= known


def test_every_command_stands_on_the_page() -> None:
    first = re.findall(r"^\| (`.+?`) \|", PAGES[0].read_text("utf-8"), re.MULTILINE)
    told = {tuple(words.split()) for cell in first for words in re.findall(r"`([^`]+)`", cell)}
    assert set(EVERY) <= told


def test_exit_codes_are_those_of_the_code() -> None:
    told = re.findall(r"^\| (\d+) \|", PAGES[0].read_text("utf-8"), re.MULTILINE)
    assert [int(code) for code in told] == [int(code) for code in MEANING]
