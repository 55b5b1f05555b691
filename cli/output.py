"""What people and programs see: tables, JSON and CSV on stdout; targets, hints and exit codes in words on stderr.

Names, tags and values come from whoever drifted: each surface escapes them in its own way, here and nowhere else.
"""

from __future__ import annotations

import csv
import difflib
import io
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum
from typing import Any, TextIO

import msgspec

from guardrail.logs import visible
from guardrail.paths import ABSENT

CELL_LENGTH = 72        # of a table's cell; the whole value is in -o json
COLOURS = {"critical": "1;31", "high": "31", "medium": "33", "low": "36", "unknown": "35", "verified": "32",
           "quarantined": "33", "failed": "1;31", "held": "33"}      # 16 colours; words say it all without them
FORMULA = ("=", "+", "-", "@", "\t", "\r")


class Code(IntEnum):
    """Exit codes. 0, 1 and 2 as `terraform plan -detailed-exitcode`; a typo is 64, so that it never reads as drift."""

    DONE = 0
    UNFINISHED = 1
    DRIFT = 2
    UNREADABLE = 3
    REFUSED = 4
    BAD_POLICY = 5
    BROKEN_CHAIN = 6
    USAGE = 64
    INTERRUPTED = 130


MEANING = {
    Code.DONE: "clean, or done", Code.UNFINISHED: "could not finish, nothing is known", Code.DRIFT: "drift found",
    Code.UNREADABLE: "no drift, but something is unreadable: not clean", Code.REFUSED: "refused by a safety rule",
    Code.BAD_POLICY: "bad policy or settings", Code.BROKEN_CHAIN: "audit chain broken", Code.USAGE: "wrong usage",
    Code.INTERRUPTED: "interrupted",
}


class Ended(Exception):
    """A command's end with a code, and the words that stderr says last."""

    def __init__(self, code: Code, words: str = "") -> None:
        super().__init__(words)
        self.code, self.words = code, words


@dataclass(slots=True)
class Screen:
    """How this run speaks; set once by main()."""

    colour: str = "auto"            # auto, always, never
    only_errors: bool = False
    verbose: bool = False

    def paints(self, stream: TextIO) -> bool:
        return self.colour == "always" or (
            self.colour == "auto" and not os.environ.get("NO_COLOR") and stream.isatty())


screen = Screen()


def text(*examples: str, exits: Sequence[int] = (0, 1)) -> str:
    r"""The end of a command's help: two real examples, and what its exit codes mean."""
    lines = "\n".join(f"  {example}" for example in examples)
    codes = "\n".join(f"  {code:<3} {MEANING[Code(code)]}" for code in (*exits, 64))
    return f"\b\nExamples:\n{lines}\n\n\b\nExit codes:\n{codes}"


def say(words: str) -> None:
    """A hint, a target, progress: stderr, and silent under --only-show-errors."""
    if not screen.only_errors:
        sys.stderr.write(_lines(words))


def warn(words: str) -> None:
    """Something that a person must see: stderr, always."""
    sys.stderr.write(_lines(words))


def tell(words: str = "") -> None:
    """A line of the answer itself. Control characters are shown, not sent."""
    sys.stdout.write(_lines(words))
    sys.stdout.flush()


def _lines(words: str) -> str:
    return "\n".join(map(visible, words.split("\n"))) + "\n"


def mark(kind: str) -> str:
    """azd's marks, ASCII where the terminal is not UTF-8."""
    is_utf8 = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    return {"done": "(✓) Done:" if is_utf8 else "(+) Done:", "failed": "(x) Failed:", "warning": "(!) Warning:",
            "skipped": "(-) Skipped:"}[kind]


def painted(word: str, padded: str | None = None) -> str:
    padded = word if padded is None else padded
    code = COLOURS.get(word) if screen.paints(sys.stdout) else None
    return f"\x1b[{code}m{padded}\x1b[0m" if code else padded


def value(one: Any) -> str:
    """A JSON value in one line: "Enabled", false, nothing."""
    if one is ABSENT:
        return "nothing"
    return msgspec.json.encode(one, enc_hook=str).decode()


def cell(one: Any) -> str:
    shown = visible(one if isinstance(one, str) else "" if one is None else str(one))
    return shown if len(shown) <= CELL_LENGTH else f"{shown[:CELL_LENGTH - 3]}..."


def table(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Columns as wide as their widest cell; a cut cell ends in "...", and then stderr says how to see it all."""
    whole = [[one if isinstance(one, str) else "" if one is None else str(one) for one in row] for row in rows]
    cells = [[cell(one) for one in row] for row in whole]
    widths = [max(len(row[at]) for row in [heads, *cells]) for at in range(len(heads))]
    sys.stdout.write("  ".join(head.ljust(width) for head, width in zip(heads, widths, strict=True)).rstrip() + "\n")
    for row in cells:
        line = "  ".join(painted(one, one.ljust(width)) for one, width in zip(row, widths, strict=True))
        sys.stdout.write(line.rstrip() + "\n")
    if any(len(visible(one)) > CELL_LENGTH for row in whole for one in row):
        say("... is a cut value: -o json shows it whole")


def emit(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str], output: str, query: str = "",
         nothing: str = "nothing") -> None:
    """Rows as -o says. `columns`: heading -> key of the row; JSON has every key, table and CSV these."""
    if output == "json":
        emit_json(list(rows), query)
        return
    if query:
        raise Ended(Code.USAGE, "--query needs -o json.")
    cells = [[_flat(row.get(key, "")) for key in columns.values()] for row in rows]
    if output == "csv":
        sys.stdout.write(as_csv([list(columns), *cells]))
    elif rows:
        table(list(columns), cells)
    else:
        say(nothing)


def _flat(one: Any) -> str:
    if one is ABSENT or one is None:
        return ""
    if isinstance(one, (list, tuple)):
        return ", ".join(map(str, one))
    return one if isinstance(one, str) else value(one)


def as_csv(rows: Iterable[Sequence[str]]) -> str:
    """Every cell quoted; one that a spreadsheet would take for a formula gets a leading quote."""
    into = io.StringIO()
    writer = csv.writer(into, quoting=csv.QUOTE_ALL, lineterminator="\n")
    for row in rows:
        writer.writerow([f"'{one}" if one.startswith(FORMULA) else one for one in map(_kept, row)])
    return into.getvalue()


def _kept(one: str) -> str:
    """The first character decides before anything is escaped, so it stays as it is."""
    return one[:1] + visible(one[1:]) if one.startswith(FORMULA) else visible(one)


def emit_json(answer: Any, query: str = "") -> None:
    """JSON on stdout, absent fields left out; --query is JMESPath, as in az. Errors: Ended for a query that is none."""
    if query:
        import jmespath

        try:
            answer = jmespath.search(query, msgspec.to_builtins(answer, enc_hook=str))
        except (jmespath.exceptions.JMESPathError, ValueError) as error:
            raise Ended(Code.USAGE, f"--query {query!r} is no JMESPath: {str(error).splitlines()[0]}") from error
    sys.stdout.write(_plain(msgspec.json.format(msgspec.json.encode(answer, enc_hook=str), indent=1)) + "\n")


def emit_lines(answers: Iterable[Any], query: str = "") -> None:
    """JSON lines on stdout, for programs that take them one by one. Errors: Ended for a query."""
    if query:
        raise Ended(Code.USAGE, "--query needs -o json.")
    for one in answers:
        sys.stdout.write(_plain(msgspec.json.encode(one, enc_hook=str)) + "\n")


def _plain(raw: bytes) -> str:
    """JSON strings escape C0; what else a terminal might obey is escaped as JSON does it."""
    return "".join(one if one == "\n" or one.isprintable() else _u(one) for one in raw.decode())


def _u(one: str) -> str:
    return "".join(f"\\u{int.from_bytes(pair, 'big'):04x}" for pair in _pairs(one.encode("utf-16-be")))


def _pairs(raw: bytes) -> Iterable[bytes]:
    return (raw[at:at + 2] for at in range(0, len(raw), 2))


def nearest(word: str, known: Iterable[str], what: str) -> Ended:
    """The end for a word that nothing has as its name, with the nearest right one."""
    found = difflib.get_close_matches(word.lower(), list(known), n=1, cutoff=0.5)
    return Ended(Code.USAGE, f"no {what} {visible(word)!r}." + (f" Did you mean {found[0]!r}?" if found else ""))


def ago(at: datetime | None, now: datetime | None = None) -> str:
    """2026-11-24T19:02:04Z (3 min ago); "never" for None."""
    if at is None:
        return "never"
    seconds = max(0, int(((now or datetime.now(UTC)) - at).total_seconds()))
    for size, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{stamp(at)} ({seconds // size} {name} ago)"
    return f"{stamp(at)} ({seconds} s ago)"


def stamp(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def count(number: int, one: str, many: str = "") -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"
