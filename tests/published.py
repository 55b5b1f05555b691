"""The published ARM types, as tools/import_schemas.py reduced them: what may stand at a path, and what a document gets
wrong. ARM folds case in names and in the values of enumerations, and so does this; `exact` asks for the very spelling,
which is what we demand of our own tables and requests."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from guardrail.paths import ABSENT, fold, parse, show
from guardrail.paths import Path as Place

FOLDER = Path(__file__).resolve().parent / "schemas"
Json = Mapping[str, Any]
KINDS: Mapping[str, Any] = {
    "string": str, "integer": int, "boolean": bool, "array": list, "object": Mapping, "null": type(None)}


@dataclass(frozen=True, slots=True)
class Known:
    """What the index says of a type by name alone."""

    name: str
    newest: str
    actions: tuple[str, ...]


@lru_cache(maxsize=1)
def index() -> Mapping[str, Known]:
    """Folded name -> the type, of every type in the namespaces that we name."""
    rows = json.loads((FOLDER / "index.json").read_bytes())
    return {fold(name): Known(name, row["newest"], tuple(row["actions"])) for name, row in rows.items()
            if name != "$comment"}


@dataclass(frozen=True)
class Spot:
    """A place in a type: its schema, and whether it or anything above it is read-only."""

    schema: Json
    readonly: bool = False

    @property
    def values(self) -> tuple[str, ...]:
        """The values of a closed list, or the known ones of an open list: we hold ours to both. () for any other place."""
        return tuple(self.schema.get("enum") or self.schema.get("examples") or ())


@dataclass(frozen=True)
class Published:
    """One type at one version."""

    name: str
    version: str
    schema: Json = field(repr=False)

    def spots(self, path: Place | str, *, exact: bool = False) -> list[Spot]:
        """What may stand at `path`: nothing if the type has no such place, several where a discriminator decides."""
        found = [Spot(self._resolved(self.schema))]
        for segment in parse(path) if isinstance(path, str) else path:
            found = [inner for spot in found for inner in self._step(spot, segment, exact)]
        return found

    def _step(self, spot: Spot, segment: Any, exact: bool) -> Iterator[Spot]:
        if "type" not in spot.schema and "anyOf" not in spot.schema:
            yield spot                                                      # anything may stand here, and below
        elif not isinstance(segment, str):
            if "items" in spot.schema:
                yield Spot(self._resolved(spot.schema["items"]), spot.readonly)
        else:
            for shape in self._shapes(spot.schema):
                inner = self._property(shape, segment, exact)
                if inner is not None:
                    yield Spot(self._resolved(inner), spot.readonly or bool(inner.get("readOnly")))

    def _resolved(self, schema: Json) -> Json:
        if "$ref" not in schema:
            return schema
        target = self.schema["$defs"][schema["$ref"].rsplit("/", 1)[1]]
        return {**target, **{key: value for key, value in schema.items() if key.endswith("Only")}}

    def _shapes(self, schema: Json, document: Any = None) -> list[Json]:
        """The object's own properties and those of its shapes: all of them, or the one that the document names."""
        choice = schema.get("discriminator")
        if not choice:
            return [schema]
        told = _field(document, choice["propertyName"]) if document is not None else None
        chosen = [target for value, target in choice["mapping"].items() if told is None or _is_same(value, told)]
        return [schema, *(self._resolved({"$ref": target}) for target in chosen)]

    @staticmethod
    def _property(schema: Json, name: str, exact: bool) -> Json | None:
        for known, inner in schema.get("properties", {}).items():
            if known == name or (not exact and fold(known) == fold(name)):
                return inner  # type: ignore[no-any-return]
        return schema.get("additionalProperties")

    def faults(self, body: Any, *, sent: str = "", at: Place | str = "", exact: bool = False) -> Iterator[str]:
        """What is wrong with `body`, as it would stand at `at`: as an answer, or sent as the body of a "PUT" or "PATCH".

        A PUT must hold what is required and nothing read-only, and so must the items of a list in a PATCH. Null is
        absent. Errors say the path first.
        """
        spots = self.spots(at, exact=exact)
        if not spots:
            yield f"{at if isinstance(at, str) else show(at)}: no such property"
        path = parse(at) if isinstance(at, str) else at
        yield from min((list(self._faults(spot.schema, body, path, sent, exact)) for spot in spots), key=len, default=[])

    def _faults(self, schema: Json, value: Any, path: Place, sent: str, exact: bool) -> Iterator[str]:
        if value is None or value is ABSENT:
            return
        if sent and schema.get("readOnly"):
            yield f"{show(path)}: read-only"
        elif not sent and schema.get("writeOnly"):
            yield f"{show(path)}: write-only"
        elif "anyOf" in schema:
            wrong = [list(self._faults(self._resolved(one), value, path, sent, exact)) for one in schema["anyOf"]]
            yield from min(wrong, key=len)
        elif "type" in schema:
            wanted, known = KINDS[schema["type"]], Spot(schema).values
            if not isinstance(value, wanted) or (wanted is int and isinstance(value, bool)):
                yield f"{show(path)}: {value!r} is no {schema['type']}"
            elif known and not any(_is_same(one, value) for one in known):
                yield f"{show(path)}: {value!r} is none of {', '.join(known)}"
            elif isinstance(value, list):
                for number, item in enumerate(value):
                    yield from self._faults(self._resolved(schema["items"]), item, (*path, f"#{number}"),
                                            "PUT" if sent else "", exact)
            elif isinstance(value, Mapping):
                yield from self._object(schema, value, path, sent, exact)

    def _object(self, schema: Json, value: Json, path: Place, sent: str, exact: bool) -> Iterator[str]:
        shapes = self._shapes(schema, value)
        if choice := schema.get("discriminator"):
            told = _field(value, choice["propertyName"])
            if told is not None and len(shapes) == 1:
                yield f"{show((*path, choice['propertyName']))}: {told!r} is none of {', '.join(choice['mapping'])}"
        if sent == "PUT":
            needed = [name for shape in shapes[:2] for name in shape.get("required", ())]
            yield from (f"{show((*path, name))}: required" for name in dict.fromkeys(needed) if _field(value, name) is None)
        for name, inner in value.items():
            fitting = [one for shape in shapes if (one := self._property(shape, name, exact)) is not None]
            if fitting:
                yield from self._faults(self._resolved(fitting[0]), inner, (*path, name), sent, exact)
            elif inner is not None or sent == "PATCH":         # where null removes
                yield f"{show((*path, name))}: no such property"

    def secrets(self) -> list[str]:
        """Paths of all that is write-only or marked as a secret, so that an answer may leave it out; lists are `[]`."""
        return sorted(set(self._secrets(self._resolved(self.schema), "", ())))

    def _secrets(self, schema: Json, path: str, above: tuple[int, ...]) -> Iterator[str]:
        if "items" in schema:
            yield from self._secrets(self._resolved(schema["items"]), path + "[]", above)
        for shape in self._shapes(schema):
            if id(shape.get("properties")) in above:
                continue                                                    # an object that holds itself
            for name, inner in shape.get("properties", {}).items():
                here = f"{path}.{name}" if path else name
                if inner.get("writeOnly") or inner.get("format") == "password":
                    yield here
                elif not inner.get("readOnly"):
                    yield from self._secrets(self._resolved(inner), here, (*above, id(shape["properties"])))


def _field(value: Any, name: str) -> Any:
    found = [inner for key, inner in value.items() if fold(key) == fold(name)] if isinstance(value, Mapping) else []
    return found[0] if found else None


def _is_same(one: str, other: Any) -> bool:
    return isinstance(other, str) and fold(one) == fold(other)


@lru_cache(maxsize=256)
def published(type: str, version: str) -> Published:
    """Errors: KeyError where neither tests/schemas/ nor tests/schemas/infra/ has such a file."""
    name = f"{fold(type).replace('/', '.')}@{version}.json"
    path = next((one for one in (FOLDER / name, FOLDER / "infra" / name) if one.exists()), None)
    if path is None:
        raise KeyError(f"{name} is not in tests/schemas: python -m tools.import_schemas GIT_DIR")
    return Published(type, version, json.loads(path.read_bytes()))
