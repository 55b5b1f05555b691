"""Works out infra/*.bicep as far as can be done without Azure: every resource of a template and its modules, with the
parameters given, loops unrolled and conditions decided.

Read by pycep, which knows the grammar and not the meaning: it does not tell a name from a string (strings are marked
before it reads) nor which operator binds first (our files put parentheses round both sides). What only Azure knows (an
identity's principal, a host name) is a Runtime. An unknown name, function or parameter is an error, as it would be in Bicep.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from pycep import BicepParser

MARK = "\u00a7"
SUBSCRIPTION, TENANT = "00000000-0000-0000-0000-00000000000a", "00000000-0000-0000-0000-0000000000ff"
NO_LITERAL = re.compile(r"(?:resource|module)\s+\w+\s+$|targetScope\s*=\s*$")
CLOUD = {"name": "AzureCloud", "suffixes": {"storage": "core.windows.net", "keyvaultDns": ".vault.azure.net"}}
META = ("name", "parent", "scope", "dependsOn")


class Runtime(str):
    """What only a deployment knows; named by the expression that asks for it."""

    __slots__ = ()


@dataclass(frozen=True, eq=False)
class Resource:
    """One resource as it would be sent. `existing`: only referred to."""

    file: str
    symbol: str
    type: str
    api_version: str
    existing: bool
    id: str
    name: str
    body: Mapping[str, Any]
    scope: str

    def get(self, name: str) -> Any:
        if name in ("id", "name", "type"):
            return getattr(self, name)
        is_given = name in self.body and name not in ("properties", "identity")
        return self.body[name] if is_given else Runtime(f"<{self.id}>.{name}")


def marked(text: str) -> str:
    """`text` without comments, every string literal beginning with MARK but those that the grammar itself reads."""
    out, at = list[str](), 0
    while at < len(text):
        if text.startswith("//", at):
            at = text.find("\n", at)
            continue
        one = text[at]
        out.append(one)
        at += 1
        if one == "'":
            if not NO_LITERAL.search("".join(out[:-1])[-80:]):
                out.append(MARK)
            while text[at] != "'":
                step = 2 if text[at] == "\\" else 1
                out.append(text[at:at + step])
                at += step
            out.append("'")
            at += 1
    return "".join(out)


@lru_cache
def grammar() -> BicepParser:
    return BicepParser()


@lru_cache
def parsed(file: Path) -> Any:
    return grammar().parse(text=marked(file.read_text("utf-8")))


@lru_cache(maxsize=1024)
def expression(text: str) -> Any:
    return grammar().parse(text=f"var it = {text}\n")["variables"]["it"]["value"]


class Template:
    """One file with its parameters, at a scope (an id). `resources()` gives all, its modules' too."""

    def __init__(self, file: Path, parameters: Mapping[str, Any], scope: str) -> None:
        self.file, self.tree, self.scope = file, parsed(file), scope
        known = self.tree.get("parameters", {})
        if unknown := set(parameters) - set(known):
            raise NameError(f"{file.name} has no parameter {', '.join(sorted(unknown))}")
        self._given, self._made = parameters, dict[str, Any]()

    def resources(self) -> list[Resource]:
        found = list[Resource]()
        for symbol in (*self.tree.get("resources", {}), *self.tree.get("modules", {})):
            made = self.value(symbol)
            for one in made if isinstance(made, list) else [made]:
                if isinstance(one, Resource):
                    found.append(one)
                elif isinstance(one, Template):
                    found += one.resources()
        for name in self.tree.get("variables", {}):
            self.value(name)
        self.outputs()
        return found

    def outputs(self) -> dict[str, Any]:
        return {name: self.of(row["value"]) for name, row in self.tree.get("outputs", {}).items()}

    def value(self, symbol: str) -> Any:
        """Of a parameter, variable, resource or module; None for what its condition leaves out."""
        if symbol not in self._made:
            self._made[symbol] = self._make(symbol)
        return self._made[symbol]

    def _make(self, symbol: str) -> Any:
        tree = self.tree
        if symbol in tree.get("parameters", {}):
            return self._parameter(symbol, tree["parameters"][symbol])
        if symbol in tree.get("variables", {}):
            return self.of(tree["variables"][symbol]["value"])
        if symbol in tree.get("resources", {}):
            return self._unrolled(tree["resources"][symbol]["config"], partial(self._resource, symbol), {})
        if symbol in tree.get("modules", {}):
            return self._unrolled(tree["modules"][symbol]["config"], partial(self._module, symbol), {})
        raise NameError(f"{self.file.name}: {symbol} is not defined")

    def _parameter(self, name: str, row: Mapping[str, Any]) -> Any:
        if name in self._given:
            value = self._given[name]
        elif row["default"] is None:
            raise NameError(f"{self.file.name}: the parameter {name} is not given")
        else:
            value = self.of(row["default"])
        for decorator in row["decorators"]:
            if decorator["type"] == "allowed" and not isinstance(value, Runtime):
                assert value in self.of(decorator["argument"]), f"{self.file.name}: {name} = {value}"
        assert isinstance(value, {"string": str, "array": list, "object": Mapping, "bool": bool, "int": int}[row["type"]]), name
        return value

    def _unrolled(self, config: Any, make: Callable[[Any, Mapping[str, Any]], Any], local: Mapping[str, Any]) -> Any:
        """`make` of each round of a loop, or of the one config; what a condition excludes is None."""
        if isinstance(config, Mapping) and "loop_type" in config:
            detail = config["loop_type"]["detail"]
            rounds = enumerate(self.of(detail["array_name"], local))
            return [make(config["config"], {**local, detail["item_name"]: item, detail.get("index_name", ""): at})
                    for at, item in rounds]
        if isinstance(config, Mapping) and set(config) == {"condition", "config"}:
            return make(config["config"], local) if self.of(config["condition"], local) else None
        return make(config, local)

    def _resource(self, symbol: str, config: Any, local: Mapping[str, Any]) -> Resource:
        row = self.tree["resources"][symbol]
        raw = {key.strip("'"): value for key, value in config.items()}
        name, type = str(self.of(raw["name"], local)), row["type"]
        parent = self.of(raw["parent"], local) if "parent" in raw else None
        scope = self.of(raw["scope"], local).id if "scope" in raw else self.scope
        if "dependsOn" in raw:
            self.of(raw["dependsOn"], local)
        if parent is not None:
            id, name = f"{parent.id}/{type.rsplit('/', 1)[1]}/{name}", f"{parent.name}/{name}"
        elif type == "Microsoft.Resources/resourceGroups":
            id = f"{scope}/resourceGroups/{name}"
        else:
            kinds, names = type.split("/")[1:], name.split("/")
            assert len(kinds) == len(names), f"{self.file.name}: {symbol}: {name} does not fit {type}"
            pairs = zip(kinds, names, strict=True)
            id = f"{scope}/providers/{type.split('/')[0]}" + "".join(f"/{kind}/{one}" for kind, one in pairs)
        body = {key: self.of(value, local) for key, value in raw.items() if key not in META}
        return Resource(self.file.name, symbol, type, row["api_version"], row["existing"], id, name, body, scope)

    def _module(self, symbol: str, config: Any, local: Mapping[str, Any]) -> Template:
        scope = self.of(config["scope"], local) if "scope" in config else self.scope
        scope = scope if isinstance(scope, str) else scope.id if isinstance(scope, Resource) else scope["id"]
        if "dependsOn" in config:
            self.of(config["dependsOn"], local)
        given = {key.strip("'"): self.of(value, local) for key, value in config.get("params", {}).items()}
        path = (self.file.parent / self.tree["modules"][symbol]["detail"]["path"]).resolve()
        return Template(path, given, scope)

    # expressions

    def of(self, node: Any, local: Mapping[str, Any] = {}) -> Any:
        """The value of an expression; `local`: variables of loops and lambdas."""
        if isinstance(node, str):
            if node.startswith(MARK):
                return self._text(node[1:], local)
            return local[node] if node in local else self.value(node)
        if isinstance(node, list):
            return [self.of(one, local) for one in node]
        if not isinstance(node, Mapping):
            return node
        for kind in ("operator", "function"):
            if set(node) == {kind} and isinstance(node[kind], Mapping) and "type" in node[kind]:
                return getattr(self, f"_{kind}")(node[kind], node, local)
        if "loop_type" in node or set(node) == {"condition", "config"}:
            return self._unrolled(node, self.of, local)
        return {self._text(key.strip("'").removeprefix(MARK), local): self.of(value, local) for key, value in node.items()}

    def _text(self, text: str, local: Mapping[str, Any]) -> str:
        values = [self.of(expression(marked(inner)), local) for inner in re.findall(r"\$\{([^}]*)\}", text)]
        rest = iter(values)
        made = re.sub(r"\$\{[^}]*\}", lambda _: str(next(rest)), text).replace("\\'", "'")
        return Runtime(made) if any(isinstance(one, Runtime) for one in values) else made

    def _operator(self, row: Mapping[str, Any], node: Any, local: Mapping[str, Any]) -> Any:
        kind, operands = row["type"], row["operands"]
        if kind in ("property_accessor", "index_accessor"):
            first, *steps = _flat(node)
            value = self.of(first, local)
            for step in steps:
                value = _field(value, self.of(step[0], local) if isinstance(step, tuple) else step)
            return value
        if kind == "conditional":
            return self.of(operands["true_value" if self.of(operands["condition"], local) else "false_value"], local)
        one, *others = [self.of(value, local) for value in operands.values()]
        two = others[0] if others else None
        return {"equals": one == two, "not_equals": one != two, "not": not one, "and": bool(one and two),
                "or": bool(one or two), "minus": -one if two is None and isinstance(one, int) else 0,
                "add": one + two if isinstance(one, int) and isinstance(two, int) else 0}[kind]

    def _function(self, row: Mapping[str, Any], _: Any, local: Mapping[str, Any]) -> Any:
        kind, given = row["type"], [value for value in (row.get("parameters") or {}).values() if value is not None]
        if kind in ("filter", "map"):
            items, body = self.of(given[0], local), given[1]["detail"]
            results = [(item, self.of(body["expression"], {**local, body["var_1"]: item})) for item in items]
            return [item for item, keeps in results if keeps] if kind == "filter" else [made for _, made in results]
        arguments = [self.of(one, local) for one in given]
        if kind in ("load_json_content", "load_text_content"):
            text = (self.file.parent / arguments[0]).read_text("utf-8")
            return json.loads(text) if kind == "load_json_content" else text
        scoped: Mapping[str, Callable[..., Any]] = {
            "subscription": self._subscription, "resource_group": self._group, "resource_id": self._resource_id,
            "subscription_resource_id": lambda type, name: f"{self._subscription()['id']}/providers/{type}/{name}",
            "management_group": lambda: {"id": self.scope, "name": self.scope.rsplit("/", 1)[1]},
        }
        return (scoped | FUNCTIONS)[kind](*arguments)

    def _subscription(self, id: str = "") -> Mapping[str, str]:
        found = id or self.scope.split("/")[2]
        return {"id": f"/subscriptions/{found}", "subscriptionId": found, "tenantId": TENANT}

    def _group(self, name: str = "", subscription: str = "") -> Mapping[str, str]:
        """pycep gives the group first, whatever stands first in the file."""
        if not name:
            assert "/resourceGroups/" in self.scope, f"{self.file.name} stands at no resource group"
            return {"id": self.scope, "name": self.scope.rsplit("/", 1)[1], "location": "here"}
        return {"id": f"{self._subscription(subscription)['id']}/resourceGroups/{name}", "name": name}

    def _resource_id(self, *parts: str) -> str:
        group = "" if "/" in parts[0] else parts[0]
        type, *names = parts[1:] if group else parts
        scope = self._group(group)["id"] if group else self.scope
        return f"{scope}/providers/{type.split('/')[0]}" + "".join(
            f"/{kind}/{name}" for kind, name in zip(type.split("/")[1:], names, strict=True))


def _flat(node: Any) -> Iterator[Any]:
    """a.b[c].d as a, "b", (c,), "d": pycep nests them to the right."""
    kind = node["operator"]["type"] if isinstance(node, Mapping) and "operator" in node else ""
    if kind == "property_accessor":
        yield from _flat(node["operator"]["operands"]["operand_1"])
        yield from _flat(node["operator"]["operands"]["operand_2"])
    elif kind == "index_accessor":
        yield from _flat(node["operator"]["operands"]["operand_1"])
        yield (node["operator"]["operands"]["operand_2"],)
    else:
        yield node


def _field(value: Any, name: Any) -> Any:
    if isinstance(value, Runtime):
        return Runtime(f"{value}.{name}")
    if isinstance(value, Template):
        return value.outputs() if name == "outputs" else _wrong(value.file.name, name)
    if isinstance(value, Resource):
        return value.get(name)
    return value[name] if isinstance(value, list) or name in value else _wrong(value, name)


def _wrong(value: Any, name: Any) -> Any:
    raise NameError(f"{value} has no {name}")


def _union(*values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for one in values for key, value in one.items()}


FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "empty": lambda value: not value, "last": lambda value: value[-1], "split": lambda text, by: text.split(by),
    "guid": lambda *parts: str(uuid.uuid5(uuid.NAMESPACE_URL, "|".join(parts))),
    "unique_string": lambda *parts: uuid.uuid5(uuid.NAMESPACE_URL, "|".join(parts)).hex[:13],
    "take": lambda value, count: value[:count], "to_lower": str.lower, "replace": str.replace,
    "join": lambda items, by: by.join(items),
    "starts_with": str.startswith, "union": _union, "environment": lambda: CLOUD, "tenant": lambda: {"tenantId": TENANT},
    "contains": lambda where, what: what in where,
    "concat": lambda *parts: [item for part in parts for item in part] if isinstance(parts[0], list) else "".join(parts),
    "format": lambda text, *parts: text.format(*parts),
}
