"""Would we notice? What is known of the way events take to us, from the installation's own memory and records. Reads only."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any

from console import views
from console.views import Row
from guardrail import ids, missed, probe
from guardrail.stores import HOME, Store
from guardrail.values import Case

SINCE = timedelta(hours=24)
RECORDS = 2000                  # the newest of the installation that are looked through
HISTORY = ("probe.sent", "probe.received", "path.broken", "path.restored")
TOLD = ("took_s", "hop", "why", "generation", "missed")


async def event_path(store: Store, now: datetime, cases: Sequence[Case], subscriptions: Collection[str] = ()) -> Row:
    """`cases`: all that are known; `subscriptions`: the guarded ones, also those that nothing is known of."""
    home, _ = await store.load(HOME)
    entries = await views.timeline(store, HOME, max(0, home.seq - RECORDS))
    sweep = next((one for one in reversed(entries) if one.event == "sweep.finished"), None)
    last = _last(cases, subscriptions)
    row: dict[str, Any] = {
        "schema_version": 1, **state(home, now),
        "probe": _probe(home, [one for one in entries if one.event in HISTORY and now - one.at <= SINCE]),
        "events": {"last": max((at for at in last.values() if at), default=None),
                   "subscriptions": [{"subscription": one, "last": at} for one, at in sorted(last.items())]},
        "dead_letters": {"taken": 0, **_renamed(home.good.get("letters", {}))}}
    if sweep:
        row["sweep"] = {"at": sweep.at, **{name: sweep.detail.get(name) for name in ("changes", "missed", "coverage")}}
    return row


def state(home: Case, now: datetime) -> Row:
    """`state`: proven, unproven or broken; `said`: the same for people; `hops` that broke; `since`: when last proven."""
    known = probe.of(home)
    hops = ["events"] if home.good.get(missed.KEPT, {}).get("broken") else []
    hops += ["probe"] if known and (known.is_broken or known.is_lost(now)) else []
    since = {"since": known.back} if known and known.back else {}
    if hops:
        return {"state": "broken", "said": f"broken: {', '.join(hops)}", "hops": hops, **since}
    if known and known.back and known.is_proven(now):
        return {"state": "proven", "said": f"proven {_ago(now - known.back)}", "hops": [], **since}
    return {"state": "unproven", "said": "unproven", "hops": [], **since}


def _ago(time: timedelta) -> str:
    minutes = int(max(time, timedelta(0)).total_seconds() // 60)
    return f"{minutes} min ago" if minutes else "less than a minute ago"


def _probe(home: Case, entries: Sequence[views.Entry]) -> Row:
    known = probe.of(home)
    row: dict[str, Any] = {"is_on": known is not None}
    if known:
        row |= {"sent": known.sent} | ({"received": known.back, "took_s": known.took_s} if known.back else {})
        row |= {"why": known.why} if known.why else {}
    return {**row, "history": [
        {"at": one.at, "event": one.event, **{name: one.detail[name] for name in TOLD if name in one.detail}}
        for one in entries]}


def _last(cases: Sequence[Case], subscriptions: Collection[str]) -> dict[str, datetime | None]:
    """When the newest event of each subscription was answered."""
    found: dict[str, datetime | None] = dict.fromkeys(subscriptions)
    for case in cases:
        if case.told is not None:
            at = ids.subscription(case.resource)
            found[at] = max(case.told, found.get(at) or case.told)
    return found


def _renamed(kept: Row) -> Row:
    return {"taken": kept.get("count", 0), "last": kept.get("last")} if kept else {}
