"""guardrail audit: the records of a resource, their chain, and an export that a stranger can verify."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from cli import target
from cli.actions import told
from cli.findings import age, known
from cli.output import Code, Ended, ago, count, emit, emit_json, mark, say, stamp, tell, text
from cli.scan import OCSF_CLASS, formats
from console import views
from guardrail import app, audit, names, ocsf
from guardrail.ids import ResourceId
from guardrail.stores import Store

group = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="The records, and the proof that nobody rewrote them.")


@group.command("show", epilog=text("guardrail audit show stmltrain", "guardrail audit show stmltrain -o json"))
def show(
    resource: Annotated[str, typer.Argument(metavar="RESOURCE", help="An ARM id or a short name; guardrail: its own records.")],
    output: Annotated[str, typer.Option("-o", "--output", help="table, json or csv.")] = "table",
    query: Annotated[str, typer.Option(help="JMESPath, with -o json.")] = "",
) -> None:
    """Shows every record of a resource, in order."""
    formats(output)
    entries = target.with_store(lambda store: _entries(store, resource))
    rows = [{"seq": one.seq, "id": names.record_id(one.hash), "at": one.at, "event": one.event, "actor": one.actor,
             "mode": one.mode, "correlation_id": one.correlation_id, "policy_hash": one.policy_hash, "detail": one.detail,
             **({"when": stamp(one.at), "what": told(one)} if output != "json" else {})} for one in entries]
    columns = {"NO": "seq", "WHEN": "when", "EVENT": "event", "ACTOR": "actor", "MODE": "mode", "WHAT": "what", "RECORD": "id"}
    emit(rows, columns, output, query, "no records.")


async def _entries(store: Store, resource: str) -> list[views.Entry]:
    return await views.timeline(store, ResourceId(await known(store, resource)))


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
        report = audit.verify(_lines(file), kept)
    else:
        report = target.with_store(lambda store: audit.verify_store(store, kept))
    if output == "json":
        emit_json(views.report(report))
    else:
        _tell(report, is_kept=bool(kept))
    if not report.ok:
        raise Ended(Code.BROKEN_CHAIN, f"{count(len(report.broken), 'place')} where somebody touched the records. "
                                       "What to do: docs/how-to/prove-it.md")


def _tell(report: audit.Report, *, is_kept: bool) -> None:
    newest = f", newest anchor {ago(report.newest_anchor)}" if report.anchors else ", no anchor yet"
    tell(f"{mark('done')} {count(report.records, 'record')}, {report.intact} of {count(report.chains, 'chain')} intact{newest}")
    for one in report.broken:
        tell(f"{mark('failed')} {one}")
    if report.ok and not is_kept:
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
    first = _time(since) if since else None

    async def written(store: Store, into: BinaryIO) -> int:
        lines, number = audit.export_ocsf(store, first, ocsf_class) if output == "ocsf" else audit.export(store, first), 0
        async for line in lines:
            into.write(line + b"\n")
            number += 1
        return number

    if not out:
        target.with_store(lambda store: written(store, sys.stdout.buffer))
        return
    part = Path(f"{out}.part")      # half an export never stands under the name of a whole one
    try:
        with part.open("wb") as into:
            number = target.with_store(lambda store: written(store, into))
        part.replace(out)
    except OSError as error:
        raise Ended(Code.UNFINISHED, f"{out}: {error.strerror}. cure: name a file that can be written.") from error
    finally:
        part.unlink(missing_ok=True)
    cure = "" if output == "ocsf" else f" Check them anywhere: guardrail audit verify {out}"
    say(f"{count(number, 'line')} in {out}.{cure}")


def _time(word: str) -> datetime:
    """Of a date, a time with its zone, or an age before now. Errors: Ended."""
    try:
        at = datetime.fromisoformat(word)
    except ValueError:
        return app.now() - age(word)
    return at if at.tzinfo else at.replace(tzinfo=UTC)
