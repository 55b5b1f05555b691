"""results.json as the tables of the results page, between two markers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- made by make bench -->", "<!-- end -->"
CASES = {"clean": "clean", "drift": "drift, reported", "mend": "drift, mended"}


def write(page: Path, results: Mapping[str, Any]) -> None:
    """Puts the tables between the page's markers. Errors: ValueError if it has none."""
    text = page.read_text("utf-8")
    before, found, rest = text.partition(BEGIN)
    _, ended, after = rest.partition(END)
    if not found or not ended:
        raise ValueError(f"{page} has no place for the tables: {BEGIN} ... {END}")
    page.write_text(f"{before}{BEGIN}\n{rendered(results)}\n{END}{after}", "utf-8")


def rendered(results: Mapping[str, Any]) -> str:
    rows = Rows(results["rows"])
    parts = [about(results), *(main(rows, latency_ms) for latency_ms in rows.values("latency_ms")), more(rows), rest(results)]
    return "\n\n".join(part for part in parts if part)


class Rows:
    """Finds the one row that has these values."""

    def __init__(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self._rows = rows

    def values(self, name: str) -> list[Any]:
        return list(dict.fromkeys(row[name] for row in self._rows))

    def __call__(self, **wanted: Any) -> Mapping[str, Any] | None:
        return next((row for row in self._rows if wanted.items() <= row.items()), None)


def about(results: Mapping[str, Any]) -> str:
    machine = results["machine"]
    where = f"{machine['cores']} cores ({machine['cpu']}), {machine['system']}, load {machine['load_at_start']} at the start"
    told = [f"Measured {results['at']}: {where}."]
    for who, versions in results["versions"].items():
        told.append(f"{who.capitalize()}: " + ", ".join(f"{name} {version}" for name, version in versions.items()) + ".")
    return "\n".join(told)


def table(head: Sequence[str], lines: Iterator[Sequence[str]] | Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *lines))


def main(rows: Rows, latency_ms: int) -> str:
    """Events a second, both sides, one by one and at once; what each costs in CPU time and calls of ARM."""
    def lines() -> Iterator[Sequence[str]]:
        for case, name in CASES.items():
            for controls in rows.values("controls"):
                key = {"case": case, "controls": controls, "latency_ms": latency_ms}
                ours = [rows(who="ours", way="durable", in_flight=count, **key) for count in (1, 32)]
                peer = [rows(who="peer", way="function", in_flight=count, **key) for count in (1, 6)]
                if ours[0] is None:
                    continue
                yield (name, str(controls), *map(speed, (*ours, *peer)), ratio(ours[0], peer[0]), ratio(ours[1], peer[1]),
                       *map(cpu, (ours[1], peer[1])), calls(ours[0]), calls(peer[0]))

    head = ("event", "controls", "ours, 1", "ours, 32", "peer, 1", "peer, 6 threads", "1 : 1", "32 : 6",
            "CPU ms, 32", "CPU ms, 6 threads", "ARM, ours", "ARM, peer")
    return f"**Events a second, ARM answers after {latency_ms} ms**\n\n{table(head, lines())}"


def more(rows: Rows) -> str:
    """The same with what each side could leave out; "" where that was not measured."""
    lines = list[Sequence[str]]()
    for latency_ms in rows.values("latency_ms"):
        for case, name in CASES.items():
            key = {"case": case, "latency_ms": latency_ms}
            fast, many = (rows(who="ours", way="fast", in_flight=count, **key) for count in (1, 32))
            loaded = rows(who="peer", way="loaded", **key)
            if fast:
                lines.append((name, f"{latency_ms} ms", str(fast["controls"]), *map(speed, (fast, many, loaded)),
                              ratio(fast, loaded), *map(cpu, (fast, loaded))))
    head = ("event", "ARM", "controls", "ours, 1", "ours, 32", "peer, 1", "1 : 1", "CPU ms, ours", "CPU ms, peer")
    what = "Events a second where ours does not wait for the disk and the peer keeps policies and session loaded"
    return f"**{what}**\n\n{table(head, lines)}" if lines else ""


def rest(results: Mapping[str, Any]) -> str:
    names = {"deployed": "ours, requirements.txt alone", "here": "ours, with CLI and tests", "peer": "peer"}
    cold = table(("cold import", "azure.functions, azure.core", "the app's module", "ratio"), [
        (names[name], f"{one['base_ms']:.0f} ms", f"{one['app_ms']:.0f} ms", f"{one['ratio']:.2f}")
        for name, one in results["cold_import"].items()])
    fresh = table(("a fresh process", "until its first drift is mended", "peak memory", "after"), [
        (who, f"{results['first_event_ms'][who]} ms", f"{one['peak_mib']} MiB",
         f"{one['events']} drifts mended, {one['in_flight']} in flight") for who, one in results["memory"].items()])
    return f"{cold}\n\n{fresh}" if results["memory"] else cold


def speed(row: Mapping[str, Any] | None) -> str:
    return f"{row['events_per_s']:.0f}" if row and row["events_per_s"] >= 100 else f"{row['events_per_s']:.1f}" if row else "-"


def cpu(row: Mapping[str, Any] | None) -> str:
    return f"{row['cpu_ms']:.1f}" if row else "-"


def ratio(ours: Mapping[str, Any] | None, peer: Mapping[str, Any] | None) -> str:
    return f"{ours['events_per_s'] / peer['events_per_s']:.1f}" if ours and peer else "-"


def calls(row: Mapping[str, Any] | None) -> str:
    """Reads + writes an event."""
    if row is None:
        return "-"
    later = f" (+{row['later_reads']} later)" if row["later_reads"] else ""
    writes = f" + {row['writes']:g} w" if row["writes"] else ""
    return f"{row['reads'] + row['versions']:g} r{writes}{later}"
