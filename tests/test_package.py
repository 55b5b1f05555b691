"""The package: what is in it, the same bytes each time, and that the app starts from it alone."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tools import package


@pytest.fixture
def built(tmp_path: Path) -> Path:
    """Our own part; the packages come from an index, and `make package` alone asks one."""
    package.write(tmp_path / "one.zip", package.sources())
    return tmp_path / "one.zip"


def test_only_what_is_deployed_is_in_it(built: Path) -> None:
    names = zipfile.ZipFile(built).namelist()
    assert {name.split("/")[0] for name in names} == set(package.DEPLOYED)
    assert "host.json" in names and any(name.startswith("console/templates/") for name in names)
    assert not [name for name in names if "__pycache__" in name or name.startswith("/") or ".." in name]


def test_it_is_the_same_bytes_each_time(built: Path, tmp_path: Path) -> None:
    package.write(tmp_path / "two.zip", reversed(list(package.sources())))
    assert built.read_bytes() == (tmp_path / "two.zip").read_bytes()


def test_what_names_the_machine_that_built_it_is_left_out(tmp_path: Path) -> None:
    for name in ("bin/tool", "x/__init__.py", "x-1.0.dist-info/RECORD", "x-1.0.dist-info/METADATA"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    kept = {name.removeprefix(f"{package.PACKAGES}/") for name, file in package.below(tmp_path) if file.is_file()}
    assert kept == {"x/__init__.py", "x-1.0.dist-info/METADATA"}


def test_the_app_starts_from_it(built: Path, tmp_path: Path) -> None:
    """With the packages of this environment: nothing of ours is missing."""
    zipfile.ZipFile(built).extractall(tmp_path / "app")
    code = "import function_app; print(len(function_app.app.get_functions()))"
    settings = {"GUARDRAIL_SUBSCRIPTIONS": "00000000-0000-0000-0000-000000000001", "PATH": ""}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path / "app", env=settings, capture_output=True, text=True,
                          check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "7"), done.stderr
