"""guardrail audit: the records of a resource, their chain, and an export that a stranger can verify."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from cli import ask
from cli.actions import told
from cli.ask import Target
from cli.findings import age
from cli.output import Code, Ended, ago, count, emit, emit_json, mark, say, stamp, tell, text
from cli.scan import OCSF_CLASS, formats
from console import views
from guardrail import app, audit, names, ocsf

FIELDS = ("seq", "at", "event", "actor", "mode", "correlation_id", "policy_hash", "detail")     # of a record, as it is shown
group = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="The records, and the proof that nobody rewrote them.")


@group.command("show", epilog=text("guardrail audit show stmltrain", "guardrail audit show stmltrain -o json"))
def show(
    resource: Annotated[str, typer.Argument(metavar="RESOURCE", help="An ARM id or a short name; guardrail: its own records.")],
    output: Annotated[str, typer.Option("-o", "--output", help="table, json or csv.")] = "table",
    query: Annotated[str, typer.Option(help="JMESPath, with -o json.")] = "",
) -> None:
    """Shows every record of a resource, in order."""
    formats(output)
    with ask.opened() as there:
        records = there.get("/audit", resource_id=there.resource(resource, is_known=True))["records"]
    rows = [{**{name: one[name] for name in FIELDS}, "id": names.record_id(one["hash"]),
             **({"when": stamp(one["at"]), "what": told(one)} if output != "json" else {})} for one in records]
    columns = {"NO": "seq", "WHEN": "when", "EVENT": "event", "ACTOR": "actor", "MODE": "mode", "WHAT": "what", "RECORD": "id"}
    emit(rows, columns, output, query, "no records.")


@group.command("verify", epilog=text("guardrail audit verify", "guardrail audit verify export.jsonl --anchors kept.jsonl",
                                     exits=(0, 1, 6)))
def verify(
    file: Annotated[str, typer.Argument(metavar="[FILE]", help="An export; without: the local store.")] = "",
    anchors: Annotated[str, typer.Option(metavar="FILE", help="Anchors kept elsewhere: their lines, or an older export.")] = "",
    output: Annotated[str, typer.Option("-o", "--output", help="table (in words) or json.")] = "table",
) -> None:
    """Follows every chain of records, and compares their heads with the anchors."""
    formats(output, ("table", "json"))
    kept = audit.anchor_lines(_lines(anchors)) if anchors else []
    if file:
        say(f"target: export {file}")
        row = views.report(audit.verify(_lines(file), kept))
    else:
        with ask.opened() as there:
            row = views.report(_followed_here(there, kept)) if kept else there.get("/audit/verify")
    if output == "json":
        emit_json(row)
    else:
        _tell(row, is_kept=bool(kept))
    if not row["intact"]:
        raise Ended(Code.BROKEN_CHAIN, f"{count(len(row['broken']), 'place')} where somebody touched the records. "
                                       "What to do: docs/how-to/prove-it.md")


def _followed_here(there: Target, kept: Sequence[bytes]) -> audit.Report:
    """An export of now, against anchors that the guardrail itself cannot know of."""
    with tempfile.TemporaryFile() as whole:
        there.copy("/audit/export", whole)
        whole.seek(0)
        return audit.verify((line.rstrip(b"\n") for line in whole), kept)


def _tell(row: views.Row, *, is_kept: bool) -> None:
    newest = f", newest anchor {ago(row['newest_anchor'])}" if row["anchors"] else ", no anchor yet"
    tell(f"{mark('done')} {count(row['records'], 'record')}, {row['chains_intact']} of {count(row['chains'], 'chain')} "
         f"intact{newest}")
    for one in row["broken"]:
        fields = (one.get(name, "") for name in ("resource_id", "seq", "why", "expected", "found"))
        tell(f"{mark('failed')} {audit.Broken(*fields)}")
    if row["intact"] and not is_kept:
        say("Anchors and records lie in the same place: keep a copy of the anchors elsewhere.")


def _lines(file: str) -> Iterator[bytes]:
    try:
        with Path(file).open("rb") as opened:
            for line in opened:
                yield line.rstrip(b"\r\n")
    except OSError as error:
        raise Ended(Code.USAGE, f"{file}: {error.strerror}. cure: name an export that can be read.") from error


@group.command("export", epilog=text("guardrail audit export --out export.jsonl", "guardrail audit export --since 7d -o ocsf"))
def export(
    out: Annotated[str, typer.Option(metavar="FILE", help="Without: stdout.")] = "",
    since: Annotated[str, typer.Option(metavar="AGE|TIME", help="Not what is older: 7d, or 2026-11-01.")] = "",
    output: Annotated[str, typer.Option("-o", "--output", help="jsonl, or ocsf: for a SIEM, proves nothing.")] = "jsonl",
    ocsf_class: Annotated[int, typer.Option(metavar="2004|2003", help=OCSF_CLASS)] = ocsf.DETECTION,
) -> None:
    """Writes all records and anchors as JSON lines that `audit verify FILE` can follow anywhere."""
    formats(output, ("jsonl", "ocsf"), ocsf_class)
    asked = {"since": stamp(_time(since)) if since else "", "format": output, "class": str(ocsf_class)}
    if not out:
        _export(sys.stdout.buffer, asked)
        return
    part = Path(f"{out}.part")      # half an export never stands under the name of a whole one
    try:
        with part.open("wb") as file:
            number = _export(file, asked)
        part.replace(out)
    except OSError as error:
        raise Ended(Code.UNFINISHED, f"{out}: {error.strerror}. cure: name a file that can be written.") from error
    finally:
        part.unlink(missing_ok=True)
    cure = "" if output == "ocsf" else f" Check them anywhere: guardrail audit verify {out}"
    say(f"{count(number, 'line')} in {out}.{cure}")


def _export(file: BinaryIO, asked: Mapping[str, str]) -> int:
    """How many lines it has. Errors: Ended for one that lacks its end; those of Target.copy."""
    into = _Counting(file)
    with ask.opened() as there:
        there.copy("/audit/export", into, **asked)
    if asked["format"] == "jsonl" and b'"kind":"end"' not in into.tail:
        raise Ended(Code.UNFINISHED, "the export was cut off: it lacks its last line. cure: ask again.")
    return into.lines


class _Counting:
    """Passes on what is written, and remembers how many lines it was and how it ended."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.lines, self.tail = file, 0, b""

    def write(self, piece: bytes) -> None:
        self.file.write(piece)
        self.lines += piece.count(b"\n")
        self.tail = (self.tail + piece)[-64:]


def _time(word: str) -> datetime:
    """Of a date, a time with its zone, or an age before now. Errors: Ended."""
    try:
        at = datetime.fromisoformat(word)
    except ValueError:
        return app.now() - age(word)
    return at if at.tzinfo else at.replace(tzinfo=UTC)
