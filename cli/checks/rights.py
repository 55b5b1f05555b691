"""Who the two apps are, and what each may do."""

from __future__ import annotations

from collections.abc import Iterator

from cli import held
from cli.checks.line import PERMISSIONS, PROVISION, Line, ceiling, few, is_read
from cli.seen import PARTS, NotSeen, Seen, at, of
from guardrail.paths import fold


def sign_in(seen: Seen) -> Iterator[Line]:
    try:
        name = at(of(seen, "subscription"), "displayName")
    except NotSeen as why:
        yield Line("failed", f"sign-in: {why}", "sign in as somebody who may read the subscription of that group")
        return
    yield Line("done", f"signed in, and subscription {name} can be read")


def identity(seen: Seen) -> Iterator[Line]:
    sites = of(seen, "sites")
    gone = [str(one) for one in sites.values() if isinstance(one, NotSeen) and one.is_gone]
    wrong = [part for part in PARTS if not gone and fold(str(at(of(sites, part), "identity", "type"))) != "systemassigned"]
    if gone:
        yield Line("failed", f"apps: {few(gone)}", PROVISION)
    elif wrong:
        yield Line("failed", f"{few(wrong)}: the identity is not system-assigned alone; another can be assigned elsewhere",
                   f"az functionapp identity remove, then {PROVISION}")
    else:
        yield Line("done", "front and hands have system-assigned identities, and no other")


def role(seen: Seen) -> Iterator[Line]:
    """Writes under a ceiling that only reports are report_only's to tell."""
    reads, writes = of(seen, "here", "roles", "reader"), of(seen, "here", "roles", "remediator")
    wanted = reads if ceiling(seen) == "report" else [*reads, *writes]
    unheld = [action for action in wanted if fold(action) in of(seen, "here", "unknown")]
    if unheld:
        yield Line("warning", f"Azure publishes no such action, so what needs it is not guarded: {few(unheld)}",
                   "azd provision asks Azure again; guardrail controls list shows what needs it")
    wanted = [action for action in wanted if action not in unheld]
    for guarded in of(seen, "guarded"):
        found = of(seen, "roles", "hands", guarded)
        lacks = held.missing(found, wanted, f"/subscriptions/{guarded}")
        beyond = [one for one in held.surplus(found, wanted, of(seen, "own"))
                  if is_read(one) or ceiling(seen) != "report"]
        if lacks:
            yield Line("failed", f"{guarded}: hands lacks {len(lacks)} of {len(wanted)} actions: {few(lacks)}",
                       f"guardrail role show --missing --as bicep, or {PROVISION}; {PERMISSIONS}")
        if beyond:
            yield Line("warning" if all(map(is_read, beyond)) else "failed",
                       f"{guarded}: hands has {len(beyond)} actions that no control needs: {few(beyond)}",
                       f"take the role away that grants them; {PERMISSIONS}")
        if not lacks and not beyond:
            yield Line("done", f"{guarded}: hands has the {len(wanted)} actions that it needs, none more")


def report_only(seen: Seen) -> Iterator[Line]:
    if ceiling(seen) != "report":
        yield Line("skipped", f"the ceiling is {ceiling(seen)}: the write role belongs to it")
        return
    for guarded in of(seen, "guarded"):
        beyond = held.surplus(of(seen, "roles", "hands", guarded), (), of(seen, "own"))
        writes = {action: one for action, one in beyond.items() if not is_read(action)}
        if writes:
            named = few(dict.fromkeys(one["role"] for one in writes.values()))
            yield Line("failed", f"{guarded}: report-only, and yet {named} lets hands write: {few(writes)}",
                       "azd hooks run postprovision takes Guardrail remediator away")
        else:
            yield Line("done", f"{guarded}: report-only, and no role that writes to anything guarded")


def front(seen: Seen) -> Iterator[Line]:
    for guarded in of(seen, "guarded"):
        beyond = held.surplus(of(seen, "roles", "front", guarded), (), of(seen, "own"))
        if beyond:
            named = few(dict.fromkeys(one["role"] for one in beyond.values()))
            yield Line("failed", f"{guarded}: front, which faces people, has {named}", "az role assignment delete")
        else:
            yield Line("done", f"{guarded}: front has no role on anything guarded")
