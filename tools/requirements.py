"""Writes the hashes of the pinned packages into requirements.txt and requirements-dev.txt. Run by hand after a pin changed:

    python -m tools.requirements INDEX [--check]

INDEX is a package index that answers the Simple API as JSON (PEP 691). What it lists is believed this once; from then on
pip refuses any other file. Kept are wheels that a supported Python can install on x86-64 and ARM, on Linux with glibc,
macOS and Windows; no source archive, for building one runs its code. `--check` writes nothing and fails on a difference.
"""

from __future__ import annotations

import json
import re
import sys
import urllib.request
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

ROOT = Path(__file__).resolve().parent.parent
FILES = ("requirements.txt", "requirements-dev.txt")
INTERPRETERS = re.compile(r"py3-none|cp31([1-4])-(none|cp31\1)|cp3\d+-abi3")
PLATFORMS = re.compile(r"any|manylinux\w*_(x86_64|aarch64)|macosx_\w+_(x86_64|arm64|universal2)|win_amd64|win32|win_arm64")
JSON = "application/vnd.pypi.simple.v1+json"


def lines(text: str) -> Iterator[str]:
    """Comments, blanks and pins of a requirements file, without the hashes that stand there."""
    for line in text.splitlines():
        if not line.lstrip().startswith("--hash"):
            yield line.removesuffix(" \\")


def fits(filename: str) -> bool:
    """Whether a wheel may be installed where this project runs; a source archive never."""
    try:
        tags = parse_wheel_filename(filename)[3]
    except InvalidWheelFilename:
        return False
    return any(INTERPRETERS.fullmatch(f"{tag.interpreter}-{tag.abi}") and PLATFORMS.fullmatch(tag.platform) for tag in tags)


def hashes(index: str, pin: Requirement) -> list[str]:
    """SHA-256 of each file of this version that fits. Errors: SystemExit if there is none."""
    name, version = canonicalize_name(pin.name), str(pin.specifier).removeprefix("==")
    request = urllib.request.Request(f"{index.rstrip('/')}/{name}/", headers={"Accept": JSON})
    with urllib.request.urlopen(request, timeout=60) as answer:
        files: Iterable[Any] = json.load(answer)["files"]
    found = {file["hashes"]["sha256"] for file in files if fits(file["filename"]) and of(file["filename"], version)}
    if not found:
        raise SystemExit(f"{pin}: the index lists no wheel of it")
    return sorted(found)


def of(filename: str, version: str) -> bool:
    return str(parse_wheel_filename(filename)[1]) == version


def hashed(index: str, text: str) -> str:
    """The file anew, each pin followed by its hashes."""
    kept = list(lines(text))
    pins = {line: Requirement(line) for line in kept if line.strip() and not line.startswith("#")}
    with ThreadPoolExecutor(8) as pool:
        known = dict(zip(pins, pool.map(lambda pin: hashes(index, pin), pins.values()), strict=True))
    return "\n".join(
        " \\\n    ".join([line, *(f"--hash=sha256:{hash}" for hash in known.get(line, ()))]) for line in kept) + "\n"


def main(index: str, check: bool = False) -> int:
    changed = 0
    for name in FILES:
        before = (ROOT / name).read_text("utf-8")
        after = hashed(index, before)
        changed += before != after
        print(f"{name}: {after.count('--hash')} hashes{', as it was' if before == after else ', changed'}")
        if not check:
            (ROOT / name).write_text(after, "utf-8")
    return int(check and changed > 0)


if __name__ == "__main__":
    if len(sys.argv) < 2 or not sys.argv[1].startswith("https://"):
        raise SystemExit(__doc__)
    raise SystemExit(main(sys.argv[1], "--check" in sys.argv))
