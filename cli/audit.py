"""guardrail audit: the records of a resource, their chain, and an export that a stranger can verify."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli import target
from cli.actions import told
from cli.findings import known
from cli.output import Code, Ended, ago, count, emit, mark, say, stamp, tell, text
from cli.scan import formats
from console import views
from guardrail import audit, names
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


@group.command("verify", epilog=text("guardrail audit verify", "guardrail audit verify export.jsonl", exits=(0, 1, 6)))
def verify(
    file: Annotated[str, typer.Argument(metavar="[FILE]", help="An export; without: the local store.")] = "",
    anchors: Annotated[str, typer.Option(metavar="FILE", help="Anchor lines that were kept elsewhere.")] = "",
) -> None:
    """Follows every chain of records, and compares their heads with the anchors."""
    kept = _lines(anchors) if anchors else []
    if file:
        say(f"target: export {file}")
        report = audit.verify(_lines(file), kept)
    else:
        report = target.with_store(lambda store: audit.verify_store(store, kept))
    kinds = "" if kept else " Anchors and records lie in the same place: keep a copy of the anchors elsewhere."
    newest = f", newest anchor {ago(report.newest_anchor)}" if report.anchors else ", no anchor yet"
    line = f"{count(report.records, 'record')}, {report.intact} of {count(report.chains, 'chain')} intact{newest}"
    if report.ok:
        tell(f"{mark('done')} {line}")
        say(kinds.strip())
        return
    for one in report.broken:
        tell(f"{mark('failed')} {one}")
    raise Ended(Code.BROKEN_CHAIN, f"{line}: somebody touched the records.")


def _lines(file: str) -> list[bytes]:
    try:
        return Path(file).read_bytes().splitlines()
    except OSError as error:
        raise Ended(Code.USAGE, f"{file}: {error.strerror}. cure: name an export that can be read.") from error


@group.command("export", epilog=text("guardrail audit export --out export.jsonl", "guardrail audit export > export.jsonl"))
def export(out: Annotated[str, typer.Option(metavar="FILE", help="Without: stdout.")] = "") -> None:
    """Writes all records and anchors as JSON lines that `audit verify FILE` can follow anywhere."""
    lines = target.with_store(_export)
    whole = b"".join(line + b"\n" for line in lines)
    if out:
        Path(out).write_bytes(whole)
        say(f"{count(len(lines), 'line')} in {out}. Check them anywhere: guardrail audit verify {out}")
    else:
        import sys

        sys.stdout.buffer.write(whole)


async def _export(store: Store) -> list[bytes]:
    return [line async for line in audit.export(store)]
