"""The house itself: what is deployed, what the host reads, which pins belong together, who may import function_app."""

from __future__ import annotations

import ast
import json
import re
import sys
import tomllib
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from guardrail import settings
from tools.package import DEPLOYED
from tools.requirements import fits, lines

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
PYTHONS = ("3.11", "3.12", "3.13")


def read_json(name: str) -> Any:
    return json.loads((ROOT / name).read_text("utf-8"))


def pins(name: str, python: str) -> dict[str, str]:
    """Package -> exact version in that file, for that Python."""
    found: dict[str, str] = {}
    for line in lines((ROOT / name).read_text("utf-8")):
        if line.strip() and not line.startswith("#"):
            one = Requirement(line)
            assert re.fullmatch(r"==[\w.]+", str(one.specifier)), f"{line}: not one exact version"
            if applies(one, python):
                assert one.name not in found, f"{one.name} twice on {python}"
                found[one.name] = str(one.specifier).removeprefix("==")
    return found


def needs(group: str, python: str) -> dict[str, SpecifierSet]:
    lines = PROJECT["dependencies"] if group == "app" else PROJECT["optional-dependencies"][group]
    every = [Requirement(line) for line in lines]
    return {one.name: one.specifier for one in every if applies(one, python)}


def applies(one: Requirement, python: str) -> bool:
    return one.marker is None or one.marker.evaluate({"python_version": python})


@pytest.mark.parametrize("python", PYTHONS)
def test_pins_fit_what_the_project_asks_for(python: str) -> None:
    deployed, local = pins("requirements.txt", python), pins("requirements-dev.txt", python)
    assert all(wanted.contains(deployed[name]) for name, wanted in needs("app", python).items())
    extras = needs("cli", python) | needs("dev", python)
    assert all(wanted.contains(local[name]) for name, wanted in extras.items())
    assert not set(deployed) & set(local)


def test_whatever_is_installed_is_pinned() -> None:
    """Of this Python and machine: what the pins bring with them is pinned as well."""
    python = f"{sys.version_info[0]}.{sys.version_info[1]}"
    known = {canonicalize_name(name) for file in ("requirements.txt", "requirements-dev.txt") for name in pins(file, python)}
    brought = {canonicalize_name(one.name) for name in known if name != "colorama"
               for one in map(Requirement, distribution(name).requires or ())
               if one.marker is None or one.marker.evaluate({"extra": ""})}
    assert brought - known == set()


@pytest.mark.threat("G5")
@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_each_pin_has_the_hashes_of_its_files(name: str) -> None:
    """And setup asks for them: pip installs nothing else, and builds nothing."""
    text = re.sub(r"(?m)^#.*\n", "", (ROOT / name).read_text("utf-8"))
    hashed = r"[\w.-]+==[\w.]+(; [^\n\\]+)?( \\\n    --hash=sha256:[0-9a-f]{64})+"
    assert [pin for pin in re.split(r"\n+(?=\w)", text.strip()) if not re.fullmatch(hashed, pin)] == []
    assert "--require-hashes --only-binary :all:" in (ROOT / "tools/setup.sh").read_text("utf-8")


@pytest.mark.parametrize(("filename", "may"), [
    ("x-1.0-py3-none-any.whl", True), ("x-1.0-cp313-cp313-manylinux_2_17_x86_64.whl", True),
    ("x-1.0-cp311-abi3-manylinux_2_34_aarch64.whl", True), ("x-1.0-cp310-cp310-manylinux_2_17_x86_64.whl", False),
    ("x-1.0-cp313-cp313t-manylinux_2_17_x86_64.whl", False), ("x-1.0-pp311-pypy311_pp73-macosx_10_9_x86_64.whl", False),
    ("x-1.0.tar.gz", False), ("x-1.0.zip", False)])
def test_only_wheels_for_where_it_runs_are_hashed(filename: str, may: bool) -> None:
    assert fits(filename) is may


def test_what_runs_the_functions_in_the_cloud_is_pinned() -> None:
    assert pins("requirements.txt", "3.13")["azure-functions-runtime"] == "1.3.0"
    assert pins("requirements.txt", "3.13")["azure-functions"] == "2.3.0"
    assert pins("requirements.txt", "3.12")["azure-functions"] == "1.26.0"
    assert "azure-functions-runtime" not in pins("requirements.txt", "3.12")


def test_the_terminal_stays_out_of_what_is_deployed() -> None:
    """rich alone costs a cold start 30 ms, and a web server is the host's."""
    assert not {"rich", "typer", "uvicorn", "httptools", "pytest"} & set(pins("requirements.txt", "3.13"))


def test_host_json_retries_slowly_and_polls_fast() -> None:
    """The host's own default retries a failing message at once, five times, which is no retry."""
    host = read_json("host.json")
    queues = host["extensions"]["queues"]
    assert host["extensionBundle"]["version"] == "[4.0.0, 5.0.0)"
    assert host["extensions"]["http"]["routePrefix"] == ""
    assert queues["visibilityTimeout"] == "00:00:30"
    assert queues["maxPollingInterval"] == "00:00:01"
    assert queues["maxDequeueCount"] == 5
    assert queues["messageEncoding"] == "base64"


def test_the_sample_settings_are_valid_and_only_report() -> None:
    values = read_json("local.settings.sample.json")["Values"]
    found = settings.read(values)
    assert (found.part, found.ceiling) == ("all", "report")
    assert values["FUNCTIONS_WORKER_RUNTIME"] == "python"
    assert values["Work"] == values["AzureWebJobsStorage"] == "UseDevelopmentStorage=true"


def test_everything_is_either_deployed_or_ignored() -> None:
    """A new folder is neither until somebody decides."""
    ignored = [line.strip("/").split("*")[0] for line in (ROOT / ".funcignore").read_text("utf-8").splitlines()
               if line and not line.startswith("#")]
    assert not set(DEPLOYED) & set(ignored)
    assert {name for name in DEPLOYED if not (ROOT / name).exists()} == set()
    top = {path.name for path in ROOT.iterdir() if path.suffix != ".md" and not path.name.startswith(".venv")}
    assert top - set(DEPLOYED) - set(ignored) - {"__pycache__", ".python_packages"} == set()


def imports(file: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{name.name}" for name in node.names)}
    return found


def test_function_app_knows_only_what_a_cold_start_needs() -> None:
    """import-linter cannot look into a single file: this is its rule for function_app.py."""
    ours = {name for name in imports(ROOT / "function_app.py") if (ROOT / name.split(".")[0]).is_dir()}
    assert {name.split(".")[0] for name in ours} <= {"guardrail", "console"}
    assert {name.split(".")[1] for name in ours if name.startswith("guardrail.")} <= {"host", "errors"}


def test_nothing_imports_function_app() -> None:
    folders = ("guardrail", "detectors", "remediators", "console", "cli", "simulator")
    files = [file for folder in folders for file in (ROOT / folder).rglob("*.py")]
    assert [file for file in files if "function_app" in imports(file)] == []


@pytest.mark.parametrize("folder", ["guardrail", "detectors", "remediators", "console", "cli"])
def test_modules_stay_small(folder: str) -> None:
    """Past 400 lines a module holds two concepts."""
    sizes = {file.relative_to(ROOT).as_posix(): len(file.read_text("utf-8").splitlines())
             for file in (ROOT / folder).rglob("*.py")}
    assert {name: lines for name, lines in sizes.items() if lines > 400} == {}
