"""Builds the one package that both apps run, front and hands: python -m tools.package [OUT.zip]

A zip as Flex Consumption takes it, without a build in Azure: host.json at its root, our folders, and what requirements.txt
pins below .python_packages/lib/site-packages, for CPython 3.13 on x86-64 Linux. Installed are only wheels whose hash
stands in requirements.txt. The same sources and pins give the same bytes: files are sorted and carry no time.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DEPLOYED = ("function_app.py", "host.json", "requirements.txt", "guardrail.yaml", "guardrail", "detectors", "remediators",
            "console")
PACKAGES = ".python_packages/lib/site-packages"     # where the Functions worker looks
PYTHON = (3, 13)
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
EPOCH = (1980, 1, 1, 0, 0, 0)                       # the earliest that a zip can say
PLAIN = 0o100644 << 16


def install(into: Path) -> None:
    """The pinned packages for Azure, whatever this machine is. Errors: SystemExit with pip's words."""
    if sys.version_info[:2] != PYTHON:              # markers in requirements.txt are judged by the Python that runs pip
        raise SystemExit("build the package with Python 3.13: it is what runs in Azure. cure: make package")
    platforms = [word for one in PLATFORMS for word in ("--platform", one)]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--no-compile", "--no-deps",
         "--require-hashes", "--only-binary", ":all:", "--implementation", "cp", "--python-version", "3.13", *platforms,
         "--target", str(into), "-r", str(ROOT / "requirements.txt")], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"the packages could not be installed:\n{done.stderr.strip()}")


def sources() -> Iterator[tuple[str, Path]]:
    """(name in the zip, file) of our own part."""
    for name in DEPLOYED:
        here = ROOT / name
        for file in here.rglob("*") if here.is_dir() else (here,):
            yield file.relative_to(ROOT).as_posix(), file


def below(folder: Path) -> Iterator[tuple[str, Path]]:
    """(name in the zip, file) of the packages. RECORD and the like name this machine's scripts: bin/ is left out."""
    for file in folder.rglob("*"):
        name = file.relative_to(folder).as_posix()
        if not name.startswith("bin/") and file.name not in ("RECORD", "direct_url.json", "REQUESTED"):
            yield f"{PACKAGES}/{name}", file


def write(out: Path, files: Iterator[tuple[str, Path]]) -> None:
    kept = sorted((name, file) for name, file in files if file.is_file() and "__pycache__" not in file.parts)
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as package:
        for name, file in kept:
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, PLAIN
            package.writestr(entry, file.read_bytes())


def build(out: Path) -> str:
    """Writes the package; returns its SHA-256."""
    with tempfile.TemporaryDirectory() as folder:
        install(Path(folder))
        out.parent.mkdir(parents=True, exist_ok=True)
        write(out, (one for part in (sources(), below(Path(folder))) for one in part))
    return hashlib.sha256(out.read_bytes()).hexdigest()


if __name__ == "__main__":
    target = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "dist/guardrail.zip")
    made = build(target)
    print(f"{target.name}: {target.stat().st_size / 1e6:.1f} MB, SHA-256 {made}")
