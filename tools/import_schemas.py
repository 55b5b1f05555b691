"""Reduces the published ARM types to what tests/test_schemas.py holds the tables against. Run by hand:

    python -m tools.import_schemas GIT_DIR [--check]

GIT_DIR is a copy of the type index, github.com/Azure/bicep-types-az. Written to tests/schemas/:

    TYPE@VERSION.json   a JSON Schema of each type that a ResourceType or a Route of ours names: kinds, readOnly,
                        writeOnly, required; `enum` is a closed list, `examples` the known values of an open one,
                        `discriminator` names the property that chooses the shape
    infra/TYPE@...      the same of each further resource in infra/*.bicep, and of the probe's tags
    index.json          {type: {"newest": the newest stable version, else the newest preview, "actions": [...]}} of every
                        type of the namespaces that our types, triggers and permissions name; `$comment`: the
                        commit

Descriptions, limits and patterns are left out. `--check` writes nothing and fails if anything would change.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from detectors import CONTROLS
from guardrail import probe, roles
from guardrail.paths import fold
from remediators import TYPES

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "tests" / "schemas"
REQUIRED, READ_ONLY, WRITE_ONLY = 1, 2, 4       # the index's flags
ARM_OWN = ("id", "name", "type")                # of every resource; the index adds an apiVersion that no document has
PLAIN = {"IntegerType": "integer", "BooleanType": "boolean", "NullType": "null"}
Schema = dict[str, Any]


def wanted() -> list[tuple[str, str]]:
    """(type, api-version) of each document that a control reads and each part that a route writes."""
    pairs = {(type.name, type.api_version) for type in TYPES}
    pairs |= {(roles.resource(type, route), route.api_version or type.api_version)
              for type in TYPES for route in type.routes if "{action}" not in route.url}
    return sorted(pairs, key=lambda pair: (fold(pair[0]), pair[1]))


def deployed() -> list[tuple[str, str]]:
    """The same of each further resource that infra/ deploys, and of what the probe writes."""
    text = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "infra").rglob("*.bicep"))
    found = {*re.findall(r"^resource \w+ '([^@']+)@([^']+)'", text, re.MULTILINE), (probe.TAGS.name, probe.TAGS.api_version)}
    return sorted(found - set(wanted()))


def namespaces() -> set[str]:
    """Folded namespaces of all that a table of ours names."""
    named = {trigger for control in CONTROLS for trigger in control.triggered_by} | {type for type, _ in wanted()}
    named |= {permission for type in TYPES for route in type.routes for permission in route.needs}
    return {fold(text.split("/")[0]) for text in named}


def file_of(type: str, version: str) -> str:
    return f"{fold(type).replace('/', '.')}@{version}.json"


class Index:
    """A copy of the type index: its files, by namespace and version."""

    def __init__(self, repository: str) -> None:
        self.repository = repository
        self.files: dict[tuple[str, str], list[str]] = {}
        for path in self._git("ls-tree", "-r", "--name-only", "HEAD", "generated").splitlines():
            found = re.fullmatch(r"generated/[^/]+/([^/]+)/([^/]+)/types\.json", path)
            if found:
                self.files.setdefault((fold(found[1]), found[2]), []).append(path)

    def _git(self, *arguments: str) -> str:
        return subprocess.run(["git", "-C", self.repository, *arguments], capture_output=True, text=True, check=True).stdout

    def commit(self) -> str:
        """Where these facts come from, and of which day they are."""
        return self._git("log", "-1", "--format=github.com/Azure/bicep-types-az (MIT) at %H, %cs").strip()

    def types(self, namespace: str, version: str) -> Iterator[list[Any]]:
        """The lists of nodes of a namespace at a version: it may be spread over several files."""
        for path in self.files.get((namespace, version), ()):
            yield json.loads(self._git("show", f"HEAD:{path}"))

    def overview(self, namespace: str) -> Schema:
        """{type: {newest, actions}} of a namespace, spelled as in its newest version."""
        versions = sorted(version for space, version in self.files if space == namespace)
        spelled, newest, actions = dict[str, str](), dict[str, str](), dict[str, set[str]]()
        for version in [one for one in versions if "preview" in one] + [one for one in versions if "preview" not in one]:
            for nodes in self.types(namespace, version):
                for node in nodes:
                    if node["$type"] == "ResourceType":
                        name, version_of = node["name"].split("@")
                        spelled[fold(name)], newest[fold(name)] = name, version_of
                    elif node["$type"] == "ResourceFunctionType":
                        actions.setdefault(fold(node["resourceType"]), set()).add(node["name"])
        return {spelled[key]: {"newest": newest[key], "actions": sorted(actions.get(key, ()))} for key in spelled}

    def schema(self, type: str, version: str) -> Schema | None:
        """The reduced JSON Schema, or None where the index does not have the type at that version."""
        for nodes in self.types(fold(type.split("/")[0]), version):
            for node in nodes:
                if node["$type"] == "ResourceType" and fold(node["name"]) == fold(f"{type}@{version}"):
                    return Reduction(nodes).resource(node)
        return None


class Reduction:
    """One file's numbered nodes, turned into definitions that are named as in the index."""

    def __init__(self, nodes: list[Any]) -> None:
        self.nodes = nodes
        self.names: dict[int, str] = {}
        self.definitions: dict[str, Schema] = {}

    def resource(self, node: Any) -> Schema:
        name, version = node["name"].split("@")
        body = self._follow(node["body"])
        top = self.definitions[body["$ref"].rsplit("/", 1)[1]]
        top["properties"].pop("apiVersion", None)
        top["properties"].update({own: {"type": "string", "readOnly": True} for own in ARM_OWN})
        top["required"] = [own for own in top.get("required", ()) if own not in (*ARM_OWN, "apiVersion")]
        return {"title": name, "$comment": version, **body, "$defs": dict(sorted(self.definitions.items()))}

    def _follow(self, reference: Mapping[str, str]) -> Schema:
        number = int(reference["$ref"].rsplit("/", 1)[1])
        node = self.nodes[number]
        kind = node["$type"]
        if kind in PLAIN:
            return {"type": PLAIN[kind]}
        if kind == "StringType":
            return {"type": "string"} | ({"format": "password"} if node.get("sensitive") else {})
        if kind == "StringLiteralType":
            return {"type": "string", "enum": [node["value"]]}
        if kind == "ArrayType":
            return {"type": "array", "items": self._follow(node["itemType"])}
        if kind == "UnionType":
            return self._union([self._follow(one) for one in node["elements"]])
        if kind in ("ObjectType", "DiscriminatedObjectType"):
            return {"$ref": f"#/$defs/{self._define(number, node)}"}
        if kind == "AnyType":
            return {}
        raise ValueError(f"a kind of node that this script does not know: {kind}")

    @staticmethod
    def _union(branches: list[Schema]) -> Schema:
        values = [value for branch in branches for value in branch.get("enum", ())]
        others = [branch for branch in branches if "enum" not in branch]
        if not others:
            return {"type": "string", "enum": values}
        if all(branch.get("type") == "string" for branch in others):
            return {"type": "string", "examples": values}
        return {"anyOf": [*others, *([{"type": "string", "enum": values}] if values else [])]}

    def _define(self, number: int, node: Any) -> str:
        if number in self.names:
            return self.names[number]
        name = re.sub(r"\W+", ".", node["name"].split("@")[0])
        while name in self.definitions:
            name += "_"
        self.names[number], self.definitions[name] = name, {}        # named first: an object may hold itself
        body = self.definitions[name]
        rows = node.get("properties", node.get("baseProperties", {}))
        body.update({"type": "object", "properties": {key: self._property(row) for key, row in rows.items()}})
        if required := [key for key, row in rows.items() if row["flags"] & REQUIRED and not row["flags"] & READ_ONLY]:
            body["required"] = required
        if "additionalProperties" in node:
            body["additionalProperties"] = self._follow(node["additionalProperties"])
        if "elements" in node:
            shapes = {value: self._follow(one)["$ref"] for value, one in node["elements"].items()}
            body["discriminator"] = {"propertyName": node["discriminator"], "mapping": shapes}
        return name

    def _property(self, row: Mapping[str, Any]) -> Schema:
        flags = row["flags"]
        return (self._follow(row["type"]) | ({"readOnly": True} if flags & READ_ONLY else {})
                | ({"writeOnly": True} if flags & WRITE_ONLY else {}))


def _lines(value: Mapping[str, Any]) -> str:
    """JSON with one line an entry of the outer object: renewals can be read in a diff."""
    rows = [f"{json.dumps(key)}: {json.dumps(inner, ensure_ascii=False)}" for key, inner in value.items()]
    return "{\n" + ",\n".join(rows) + "\n}\n"


def texts(index: Index) -> Iterator[tuple[str, str]]:
    """(file name, text) of all that belongs into tests/schemas/."""
    overview = {name: row for space in sorted(namespaces()) for name, row in index.overview(space).items()}
    rows = dict(sorted(overview.items(), key=lambda entry: fold(entry[0])))
    yield "index.json", _lines({"$comment": index.commit(), **rows})
    for folder, pairs in (("", wanted()), ("infra/", deployed())):
        for type, version in pairs:
            schema = index.schema(type, version)
            if schema is None:
                print(f"not in the index: {type}@{version}")
                continue
            definitions = _lines(schema.pop("$defs"))
            yield folder + file_of(type, version), _lines(schema)[:-3] + f',\n"$defs": {definitions}}}\n'


def main(arguments: Iterable[str]) -> int:
    options = list(arguments)
    check = "--check" in options
    repository = next(one for one in options if not one.startswith("--"))
    made = dict(texts(Index(repository)))
    stands = {path.relative_to(TARGET).as_posix(): path.read_text(encoding="utf-8") for path in TARGET.rglob("*.json")}
    moved = sorted(name for name in {*made, *stands} if made.get(name) != stands.get(name))
    if not check:
        (TARGET / "infra").mkdir(parents=True, exist_ok=True)
        for name in moved:
            if name in made:
                (TARGET / name).write_text(made[name], encoding="utf-8")
            else:
                (TARGET / name).unlink()
    print(f"{len(made)} files, {sum(map(len, made.values())) // 1024} KiB; {len(moved)} {'differ' if check else 'written'}"
          f"{': ' + ', '.join(moved) if moved else ''}")
    return 1 if check and moved else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
