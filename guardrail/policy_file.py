"""guardrail.yaml: its bytes to a Policy, or a ConfigError that names line, key, value and cure. Pure.

YAML 1.2 without what makes YAML dangerous: 256 KiB at most, one document, no anchors, no tags, no key twice.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
from ruamel.yaml import YAML, nodes
from ruamel.yaml.error import YAMLError

from guardrail import ids
from guardrail.errors import ConfigError
from guardrail.ids import ResourceId
from guardrail.paths import fold
from guardrail.policy import EXEMPT_AT_MOST, PRODUCTION
from guardrail.policy_schema import Exemption, Policy, Rule, Schema, glob, seconds
from guardrail.values import Control

BYTES_AT_MOST = 256 * 1024
DEPTH_AT_MOST = 16

At = tuple[str | int, ...]              # a place in the file: ("rules", 2, "mode")

_TAG = "tag:yaml.org,2002:"
_GUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_MANAGEMENT_GROUP = re.compile(r"/providers/microsoft\.management/managementgroups/[\w.()-]{1,90}", re.ASCII)
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_PLACE = re.compile(r"(?P<message>.*?)(?: - at `(?P<key>key in )?\$(?P<path>.*)`)?", re.DOTALL)
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)


def load(raw: bytes | None, source: str = "guardrail.yaml") -> Policy:
    """The policy in a file's bytes; without a file (None) one that reports everywhere. Errors: ConfigError."""
    if raw is None:
        return Policy()
    if len(raw) > BYTES_AT_MOST:
        raise ConfigError(source, "the file", f"{len(raw)} bytes", f"keep it under {BYTES_AT_MOST} bytes.")
    lines = dict[At, int]()
    value = _value(_root(raw, source), (), lines, source)
    if "version" not in value:
        raise ConfigError(source, "version", "missing", "start the file with  version: 1")
    try:
        schema = msgspec.convert(value, Schema)
    except msgspec.ValidationError as error:
        raise _explained(error, value, lines, source) from error
    policy = Policy(hash=hashlib.sha256(raw).hexdigest(), source=source, lines=lines, **_fields(schema))
    _sound(policy)
    return policy


def _fields(schema: Schema) -> dict[str, Any]:
    return {name: getattr(schema, name) for name in schema.__struct_fields__}


def _root(raw: bytes, source: str) -> nodes.Node:
    """The file as YAML's tree, in which every value knows its line."""
    try:
        root = YAML(typ="safe", pure=True).compose(raw.decode("utf-8"))
    except (YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{source} line {mark.line + 1}" if mark else source
        problem = getattr(error, "problem", None) or type(error).__name__
        raise ConfigError(where, "the file", problem, "write valid YAML 1.2, one document, in UTF-8.") from error
    if not isinstance(root, nodes.MappingNode):
        raise ConfigError(source, "the file", "not a mapping", "start it with  version: 1")
    return root


def _value(node: nodes.Node, at: At, lines: dict[At, int], source: str) -> Any:
    """A node as plain Python; `lines` is filled with where each value stands."""
    line = node.start_mark.line + 1
    lines.setdefault(at, line)
    kind = str(node.tag).removeprefix(_TAG)
    if node.anchor is not None:
        raise _bad(source, line, at, f"&{node.anchor}", "anchors and aliases are not allowed: write the value out.")
    if len(at) > DEPTH_AT_MOST:
        raise _bad(source, line, at, "nested too deeply", "see docs/reference/policy-file.md.")
    if isinstance(node, nodes.MappingNode) and kind == "map":
        found = dict[str, Any]()
        for key_node, value_node in node.value:
            key_line = key_node.start_mark.line + 1
            key = _value(key_node, (*at, "(key)"), {}, source)
            if not isinstance(key, str):
                raise _bad(source, key_line, at, key, "write this key in quotes.")
            if key in found:
                raise _bad(source, key_line, (*at, key), "there twice", "keep one of the two.")
            lines[*at, key] = key_line
            found[key] = _value(value_node, (*at, key), lines, source)
        return found
    if isinstance(node, nodes.SequenceNode) and kind == "seq":
        return [_value(item, (*at, index), lines, source) for index, item in enumerate(node.value)]
    if isinstance(node, nodes.ScalarNode):
        return _scalar(str(node.value), kind, at, line, source)
    raise _bad(source, line, at, node.tag, "tags are not allowed.")


def _scalar(text: str, kind: str, at: At, line: int, source: str) -> Any:
    if kind == "timestamp" and at[-1:] in (("until",), ("from",)) and _DATE.fullmatch(text):
        return text + "T00:00:00Z"      # a day alone ends, or begins, with its first moment
    if kind in ("str", "timestamp"):
        return text
    if kind == "null":
        return None
    if kind == "bool":
        return fold(text) == "true"
    try:
        if kind == "int":
            return int(text, 10)
        if kind == "float" and "n" not in fold(text):
            return float(text)
    except ValueError:
        pass
    raise _bad(source, line, at, text, f"{kind} is not allowed here: write it in quotes, or as a plain number.")


def _bad(source: str, line: int, at: At, value: object, cure: str) -> ConfigError:
    return ConfigError(f"{source} line {line}", shown(at), value, cure)


def shown(at: At) -> str:
    """A place as people write it: rules[2].mode"""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in at)
    return text.removeprefix(".") or "the file"


def _explained(error: msgspec.ValidationError, value: Any, lines: Mapping[At, int], source: str) -> ConfigError:
    """msgspec's message, which names the place as `$.rules[2].mode`, with line, value and cure."""
    parts = _PLACE.fullmatch(str(error))
    message, path = (parts["message"], parts["path"] or "") if parts else (str(error), "")
    at = list[str | int]()
    here = value
    for step in re.findall(r"\.([^.\[\]`]+)|\[(\d+|\.\.\.)\]", path):
        name: str | int = int(step[1]) if step[1].isdigit() else step[0]
        if step[1] == "..." or not _has(here, name):
            break               # msgspec does not say which key of a free mapping it means
        here = here[name]
        at.append(name)
    unknown = _UNKNOWN.match(message)
    if unknown:
        at.append(unknown[1])
        here = here.get(unknown[1]) if isinstance(here, Mapping) else here
        message = "there is no such key; see docs/reference/policy-file.md"
    if message.startswith("Invalid enum value") and at[-1:] == ["mode"]:
        message = "allowed: report, approve, enforce"
    where = tuple(at)
    line = next((lines[where[:end]] for end in range(len(where), -1, -1) if where[:end] in lines), 1)
    return _bad(source, line, where, here, f"{message}.")


def _has(value: Any, name: str | int) -> bool:
    if isinstance(name, int):
        return isinstance(value, list) and name < len(value)
    return isinstance(value, Mapping) and name in value


def _refuse(policy: Policy, at: At, value: object, cure: str) -> ConfigError:
    line = next((policy.lines[at[:end]] for end in range(len(at), -1, -1) if at[:end] in policy.lines), 1)
    return _bad(policy.source, line, at, value, cure)


def _sound(policy: Policy) -> None:
    """What the shapes alone do not say. Errors: ConfigError."""
    seen = dict[str, str]()
    for name, scopes in policy.environments.items():
        for index, scope in enumerate(scopes):
            at = ("environments", name, index)
            if not _is_environment(scope):
                raise _refuse(policy, at, scope, "name a subscription (/subscriptions/GUID) or a management group.")
            if seen.setdefault(fold(scope), name) != name:
                raise _refuse(policy, at, scope, "a subscription is in one environment only.")
    for key, most in (("critical", "4h"), ("other", "8h")):
        value = getattr(policy.approvals.expires, key)
        if seconds(value) > seconds(most):
            raise _refuse(policy, ("approvals", "expires", key), value, f"write {most} or less.")
    for where, scope in _scopes(policy):
        if ids.soundest(scope) != scope:
            raise _refuse(policy, where, scope, "write a full ARM id, as in /subscriptions/GUID/...")
    for index, freeze in enumerate(policy.freezes):
        if freeze.until <= freeze.start:
            raise _refuse(policy, ("freezes", index, "until"), str(freeze.until), "a freeze ends after it begins.")
    for index, rule in enumerate(policy.rules):
        _sound_rule(policy, index, rule)


def _is_environment(scope: str) -> bool:
    text = fold(scope)
    return bool(_MANAGEMENT_GROUP.fullmatch(text)) or (
        text.startswith("/subscriptions/") and bool(_GUID.fullmatch(text.removeprefix("/subscriptions/"))))


def _scopes(policy: Policy) -> Iterable[tuple[At, str]]:
    for index, approver in enumerate(policy.approvals.approvers):
        yield ("approvals", "approvers", index, "scope"), approver.scope
    for index, freeze in enumerate(policy.freezes):
        if freeze.scope:
            yield ("freezes", index, "scope"), freeze.scope
    for index, deployer in enumerate(policy.trusted_deployers):
        yield ("trusted_deployers", index, "scope"), deployer.scope
    for index, exemption in enumerate(policy.exemptions):
        yield ("exemptions", index, "scope"), exemption.scope


def _sound_rule(policy: Policy, index: int, rule: Rule) -> None:
    at = ("rules", index)
    if [other.name for other in policy.rules].index(rule.name) != index:
        raise _refuse(policy, (*at, "name"), rule.name, "give each rule a name of its own: it stands in the records.")
    if rule.tag and rule.parameters:
        raise _refuse(policy, (*at, "parameters"), "under a tag", "a tag only raises: move the parameters elsewhere.")
    for one in _listed(rule.subscription):
        if not _GUID.fullmatch(fold(one).removeprefix("/subscriptions/")):
            raise _refuse(policy, (*at, "subscription"), one, "write a subscription's GUID.")
    for one in _listed(rule.environment):
        if one != PRODUCTION and one not in policy.environments:
            raise _refuse(policy, (*at, "environment"), one, "name one of environments, or production.")


def _listed(value: str | Sequence[str]) -> Sequence[str]:
    return (value,) if isinstance(value, str) else value


def check(policy: Policy, controls: Iterable[Control], now: datetime | None = None) -> None:
    """Holds the policy against the controls that exist, on or off, and exemptions against `now`. Errors: ConfigError.

    A name that fits nothing is a typo, and a parameter below its control's floor would open what it should close (E7).
    """
    known = {control.id: control for control in controls}
    for index, pattern in enumerate(policy.controls.disabled):
        _some(policy, ("controls", "disabled", index), pattern, known)
    _parameters(policy, ("controls", "parameters"), policy.controls.parameters, known)
    types = {control.on for control in known.values()}
    for index, rule in enumerate(policy.rules):
        for pattern in _listed(rule.control):
            _some(policy, ("rules", index, "control"), pattern, known)
        for pattern in _listed(rule.type):
            _some(policy, ("rules", index, "type"), pattern, types)
        _parameters(policy, ("rules", index, "parameters"), rule.parameters, known)
    for index, exemption in enumerate(policy.exemptions):
        _exemption(policy, ("exemptions", index), exemption, known, now)


def _some(policy: Policy, at: At, pattern: str, names: Iterable[str]) -> None:
    if not any(glob(pattern, name) for name in names):
        raise _refuse(policy, at, pattern, "nothing has this name: see guardrail controls list.")


def _parameters(policy: Policy, at: At, given: Mapping[str, Mapping[str, Any]], known: Mapping[str, Control]) -> None:
    for id, values in given.items():
        control = known.get(id)
        if control is None:
            raise _refuse(policy, (*at, id), id, "no control has this id: see guardrail controls list.")
        for name, value in values.items():
            here = (*at, id, name)
            if name not in control.parameters:
                allowed = ", ".join(control.parameters) or "none"
                raise _refuse(policy, here, name, f"this control's parameters: {allowed}.")
            default = control.parameters[name]
            if _shape(value) != _shape(default):
                raise _refuse(policy, here, value, f"write a {_shape(default)}.")
            why = _too_weak(control, name, value)
            if why:
                raise _refuse(policy, here, value, f"{why}. Only an exemption passes this floor.")


def _too_weak(control: Control, name: str, value: Any) -> str:
    try:
        return control.floors[name](value).rstrip(".") if name in control.floors else ""
    except (TypeError, ValueError, AttributeError) as error:
        return f"it cannot be read ({error})"


def _shape(value: Any) -> str:
    if isinstance(value, bool):
        return "switch (true or false)"
    if isinstance(value, (int, float)):
        return "number"
    if isinstance(value, (list, tuple, set, frozenset)):
        return "list"
    return "mapping" if isinstance(value, Mapping) else "text"


def _exemption(policy: Policy, at: At, exemption: Exemption, known: Mapping[str, Control],
               now: datetime | None) -> None:
    if exemption.control not in known:
        raise _refuse(policy, (*at, "control"), exemption.control, "write the id of one control.")
    if not ids.group(ResourceId(exemption.scope)):
        raise _refuse(policy, (*at, "scope"), exemption.scope, "an exemption is for one resource or one group.")
    if not (exemption.reason.strip() and exemption.owner.strip()):
        raise _refuse(policy, at, "without reason or owner", "say why, and who answers for it.")
    if now is not None and exemption.until > now + EXEMPT_AT_MOST:
        raise _refuse(policy, (*at, "until"), f"{exemption.until:%Y-%m-%d}", f"{EXEMPT_AT_MOST.days} days at most.")
