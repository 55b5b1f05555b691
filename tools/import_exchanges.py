"""Turns a folder of recorded ARM exchanges into tests/data/exchanges/, one JSON-lines file a type. Run by hand:

    python tools/import_exchanges.py FOLDER

FOLDER holds one JSON file a type, a list of `{"source": {...}, "steps": [...]}`. A line of ours is one sequence:

    {"from": "Azure/azure-cli: path", "steps": [[METHOD, path, api-version, request, status, headers, answer], ...]}

`path` is written with `~` for the path of the sequence's first step, headers by their kind (`aao`, `loc`, `etag`:
true or "weak", `retry`: seconds) because values of operation URLs and ETags prove nothing.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

TARGET = Path(__file__).parent.parent / "tests" / "data" / "exchanges"


def headers(recorded: dict[str, Any]) -> dict[str, Any]:
    """Only what can be compared: which of the four came, whether the ETag is weak, how long Retry-After was."""
    found = {name.lower(): value[0] if isinstance(value, list) else value for name, value in recorded.items()}
    kinds: dict[str, Any] = {}
    if "azure-asyncoperation" in found:
        kinds["aao"] = True
    if "location" in found:
        kinds["loc"] = True
    if "retry-after" in found:
        kinds["retry"] = int(found["retry-after"])
    if "etag" in found:
        kinds["etag"] = "weak" if found["etag"].startswith("W/") else True
    return kinds


def sequence(recorded: dict[str, Any]) -> dict[str, Any]:
    source, first = recorded["source"], recorded["steps"][0]["path"]
    steps = []
    for step in recorded["steps"]:
        path = "~" if step["path"] == first else step["path"]
        kinds = headers(step["response_headers"])
        if step.get("if_match"):
            kinds["if-match"] = step["if_match"]
        steps.append(
            [
                step["method"],
                path,
                step["api_version"],
                step["request_body"],
                step["status"],
                kinds,
                step["response_body"],
            ]
        )
    return {"from": f"{source['repository']}: {source['path']}", "path": first, "steps": steps}


def main(folder: Path) -> None:
    TARGET.mkdir(parents=True, exist_ok=True)
    for file in sorted(folder.glob("*.json")):
        lines = [json.dumps(sequence(recorded), separators=(",", ":")) for recorded in json.loads(file.read_text("utf-8"))]
        (TARGET / f"{file.stem}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
