"""The part of Kusto's language that Resource Graph queries of a sweep use. Pure: rows in, rows out.

Tables, `where`, `extend`, `project`, `distinct`, `order by`, `take`, `limit`, `top`, `count`; comparisons, `in`, `and`,
`or`, `not()`, and the functions of FUNCTIONS. Whatever else a query says is a QueryError: nothing is skipped.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

Row = dict[str, Any]
Expression = Callable[[Row], Any]


class QueryError(ValueError):
    """The query cannot be understood; the text says which word."""


_SKIP = re.compile(r"(?:[\s;]|//[^\n]*)*")
_TOKEN = re.compile(
    r"""(?P<text>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")
    |(?P<moment>(?i:datetime)\([^)]*\))
    |(?P<span>\d+(?:\.\d+)?(?:d|h|m|s|ms)\b)
    |(?P<number>-?\d+(?:\.\d+)?)
    |(?P<word>[A-Za-z_$][\w-]*~?)
    |(?P<sign>==|=~|!=|!~|>=|<=|!in~|!in|[=<>()\[\],.|])""",
    re.VERBOSE,
)
_UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


def tokens(query: str) -> list[str]:
    """The words of a query, strings with their quotes, comments left out."""
    found, at = [], 0
    while (at := _SKIP.match(query, at).end()) < len(query):  # type: ignore[union-attr]
        match = _TOKEN.match(query, at)
        if match is None:
            raise QueryError(f"unexpected '{query[at : at + 20]}'")
        found.append(match.group())
        at = match.end()
    return found


def fold(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


def as_time(value: Any) -> datetime | None:
    """A datetime of a datetime or ISO text; None for anything else."""
    if isinstance(value, datetime):
        return value
    try:
        text = re.sub(r"(\.\d{6})\d+", r"\1", str(value)).replace("Z", "+00:00")
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def text(value: Any) -> str:
    return "" if value is None else value if isinstance(value, str) else str(value)


FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "tolower": lambda value: text(value).lower(),
    "toupper": lambda value: text(value).upper(),
    "tostring": text,
    "todatetime": as_time,
    "isempty": lambda value: value in (None, ""),
    "isnotempty": lambda value: value not in (None, ""),
    "isnull": lambda value: value is None,
    "isnotnull": lambda value: value is not None,
    "array_length": lambda value: len(value) if isinstance(value, list) else None,
    "tobool": lambda value: None if value is None else fold(text(value)) in ("true", "1"),
    "not": lambda value: not value,
}


def _ordered(sign: str) -> Callable[[Any, Any], bool]:
    def compare(left: Any, right: Any) -> bool:
        if isinstance(left, datetime) or isinstance(right, datetime):
            left, right = as_time(left), as_time(right)
        if left is None or right is None or isinstance(left, str) != isinstance(right, str):
            return False
        try:
            return bool({">": left > right, ">=": left >= right, "<": left < right, "<=": left <= right}[sign])
        except TypeError:
            return False

    return compare


COMPARE: Mapping[str, Callable[[Any, Any], bool]] = {
    "==": lambda left, right: left == right,
    "!=": lambda left, right: left != right,
    "=~": lambda left, right: fold(left) == fold(right),
    "!~": lambda left, right: fold(left) != fold(right),
    "contains": lambda left, right: fold(text(right)) in fold(text(left)),
    "has": lambda left, right: fold(text(right)) in fold(text(left)),
    "startswith": lambda left, right: bool(fold(text(left)).startswith(fold(text(right)))),
    "endswith": lambda left, right: bool(fold(text(left)).endswith(fold(text(right)))),
    **{sign: _ordered(sign) for sign in (">", ">=", "<", "<=")},
}
LISTS = {"in": (False, False), "in~": (True, False), "!in": (False, True), "!in~": (True, True)}
"""Operator → (folds case, negated)."""


class Parser:
    """One query; `run` reads the table's rows through each step in turn."""

    def __init__(self, query: str, now: datetime) -> None:
        self.words, self.at, self.now = tokens(query), 0, now
        self.limited = False
        """`take`, `limit` or `top` was used: Resource Graph then gives no skip token."""

    def peek(self) -> str:
        return self.words[self.at] if self.at < len(self.words) else ""

    def next(self) -> str:
        word = self.peek()
        if not word:
            raise QueryError("the query ends too early")
        self.at += 1
        return word

    def took(self, *words: str) -> bool:
        if self.peek().lower() in words:
            self.at += 1
            return True
        return False

    def need(self, word: str) -> None:
        if not self.took(word):
            raise QueryError(f"expected '{word}' at '{self.peek()}'")

    def run(self, table: Callable[[str], Sequence[Row]]) -> list[Row]:
        """The rows of the whole query; `table` gives the rows of a name or raises QueryError."""
        rows = list(table(self.next().lower()))
        while self.peek():
            self.need("|")
            step = self.next().lower()
            known = getattr(self, "_" + step, None) if step in STEPS else None
            if known is None:
                raise QueryError(f"the operator '{step}' is not known to the simulator")
            rows = known(rows)
        return rows

    # the steps

    def _where(self, rows: list[Row]) -> list[Row]:
        holds = self._or()
        return [row for row in rows if holds(row)]

    def _project(self, rows: list[Row]) -> list[Row]:
        columns = self._columns()
        return [{name: value(row) for name, value in columns} for row in rows]

    def _extend(self, rows: list[Row]) -> list[Row]:
        columns = self._columns()
        return [{**row, **{name: value(row) for name, value in columns}} for row in rows]

    def _distinct(self, rows: list[Row]) -> list[Row]:
        return list({repr(row): row for row in self._project(rows)}.values())

    def _order(self, rows: list[Row]) -> list[Row]:
        self.need("by")
        keys = []
        while True:
            value = self._value()
            falling = not self.took("asc") and (self.took("desc") or True)  # Kusto's default is descending
            keys.append((value, falling))
            if not self.took(","):
                break
        for value, falling in reversed(keys):
            rows = sorted(rows, key=lambda row: _sortable(value(row)), reverse=falling)
        return rows

    _sort = _order

    def _take(self, rows: list[Row]) -> list[Row]:
        self.limited = True
        word = self.next()
        if not word.isdigit():
            raise QueryError(f"'{word}' is no number of rows")
        return rows[: int(word)]

    _limit = _take

    def _top(self, rows: list[Row]) -> list[Row]:
        self.limited = True
        count = self.next()
        if not count.isdigit():
            raise QueryError(f"'{count}' is no number of rows")
        return self._order(rows)[: int(count)]

    def _count(self, rows: list[Row]) -> list[Row]:
        return [{"Count": len(rows)}]

    def _columns(self) -> list[tuple[str, Expression]]:
        columns: list[tuple[str, Expression]] = []
        while True:
            start = self.at
            name = self.next()
            if self.took("="):
                columns.append((name, self._value()))
            else:
                self.at = start
                value = self._value()
                columns.append(("_".join(word for word in self.words[start : self.at] if word.isidentifier()), value))
            if not self.took(","):
                return columns

    # expressions

    def _or(self) -> Expression:
        left = self._and()
        while self.took("or"):
            left = _both(any, left, self._and())
        return left

    def _and(self) -> Expression:
        left = self._comparison()
        while self.took("and"):
            left = _both(all, left, self._comparison())
        return left

    def _comparison(self) -> Expression:
        left, sign = self._value(), self.peek().lower()
        if sign in LISTS:
            self.next()
            folds, negated = LISTS[sign]
            self.need("(")
            items = [self._value()]
            while self.took(","):
                items.append(self._value())
            self.need(")")
            shape: Callable[[Any], Any] = fold if folds else lambda value: value
            return lambda row: (shape(left(row)) in [shape(item(row)) for item in items]) != negated
        if sign in COMPARE:
            self.next()
            right = self._value()
            return lambda row: COMPARE[sign](left(row), right(row))
        return left

    def _value(self) -> Expression:
        word = self.next()
        if word[0] in "'\"":
            plain = re.sub(r"\\(.)", r"\1", word[1:-1])
            return lambda row: plain
        if word == "(":
            inner = self._or()
            self.need(")")
            return inner
        if word.lower() in ("true", "false"):
            return lambda row: word.lower() == "true"
        if word[0].isdigit() or word[0] == "-":
            number = float(word) if "." in word else int(word)
            return lambda row: number
        if word.lower().startswith("datetime("):
            moment = as_time(word[9:-1].strip(" '\""))
            if moment is None:
                raise QueryError("datetime() takes an ISO date")
            return lambda row: moment
        if self.peek() == "(":
            return self._call(word.lower())
        if not re.fullmatch(r"[A-Za-z_$][\w$]*", word):
            raise QueryError(f"unexpected '{word}'")
        return self._column(word)

    def _column(self, word: str) -> Expression:
        steps: list[str] = [word]
        while True:
            if self.took("."):
                steps.append(self.next())
            elif self.took("["):
                steps.append(self.next().strip("'\""))
                self.need("]")
            else:
                return lambda row: _dig(row, steps)

    def _call(self, name: str) -> Expression:
        self.need("(")
        if name == "ago":
            span = re.fullmatch(r"([\d.]+)(d|h|ms|m|s)", self.next())
            self.need(")")
            if span is None:
                raise QueryError("ago() takes a time span like 1h")
            past = self.now - timedelta(seconds=float(span[1]) * _UNITS[span[2]])
            return lambda row: past
        if name == "now":
            self.need(")")
            return lambda row: self.now
        if name not in FUNCTIONS:
            raise QueryError(f"the function '{name}' is not known to the simulator")
        argument = self._or()
        self.need(")")
        return lambda row: FUNCTIONS[name](argument(row))


STEPS = ("where", "project", "extend", "distinct", "order", "sort", "take", "limit", "top", "count")


def _both(join: Callable[[list[bool]], bool], left: Expression, right: Expression) -> Expression:
    return lambda row: join([bool(left(row)), bool(right(row))])


def _dig(row: Any, steps: Sequence[str]) -> Any:
    """The value at a dotted column; names are looked up as written, first columns without case (`resourceGroup`)."""
    for step in steps:
        if isinstance(row, list) and step.isdigit():
            row = row[int(step)] if int(step) < len(row) else None
        elif isinstance(row, dict):
            row = (
                row[step]
                if step in row
                else next((value for key, value in row.items() if key.lower() == step.lower()), None)
            )
        else:
            return None
    return row


def _sortable(value: Any) -> tuple[int, Any]:
    if isinstance(value, bool) or value is None:
        return (0, bool(value))
    if isinstance(value, (int, float)):
        return (1, value)
    return (2, value.isoformat() if isinstance(value, datetime) else text(value))
