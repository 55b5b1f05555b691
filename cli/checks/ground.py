"""What it stands on: accounts, queues, anchors, keys, the time, and the api-versions that it asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from cli.checks.line import PROVISION, Line, few
from cli.seen import QUEUES, NotSeen, Seen, at, of
from guardrail.paths import fold

CLOCK_S = 60
STORES = {"tables": ("cases", "open", "budgets"), "containers": ("bodies", "dead-letters")}
KEYS = ("front-key", "hands-key", "storage-key")
BACKLOG = 1000          # messages that wait: some minutes of work


def storage(seen: Seen) -> Iterator[Line]:
    try:
        accounts = of(seen, "accounts")
    except NotSeen as why:
        if not why.is_gone:
            raise
        yield Line("failed", f"storage: {why}", PROVISION)
        return
    open_to: Mapping[str, Callable[[Any], bool]] = {
        "shared keys are on": lambda one: at(one, "allowSharedKeyAccess") is not False,
        "anonymous reads are allowed": lambda one: at(one, "allowBlobPublicAccess") is not False,
        "every network is let in": lambda one: at(one, "publicNetworkAccess") != "Disabled"
        and at(one, "networkAcls", "defaultAction") != "Deny",
    }
    wrong = [f"{one['name']}: {what}" for one in accounts for what, is_open in open_to.items()
             if is_open(at(one, "properties"))]
    if wrong or not accounts:
        yield Line("failed", f"storage: {few(wrong) or 'our groups have no account'}", PROVISION)
    else:
        yield Line("done", f"{len(accounts)} storage accounts: no keys, no anonymous reads, no foreign network")


def store(seen: Seen) -> Iterator[Line]:
    of(seen, "records")
    found = {what: {at(one, "name") for one in of(seen, "store", what)} for what in STORES}
    gone = [f"{what[:-1]} {name}" for what, names in STORES.items() for name in names if name not in found[what]]
    if gone:
        yield Line("failed", f"store: not there: {few(gone)}", PROVISION)
    else:
        yield Line("done", "store: its tables and containers are there")


def queues(seen: Seen) -> Iterator[Line]:
    of(seen, "records")
    bodies = of(seen, "queues")
    gone = [name for name in QUEUES if isinstance(bodies[name], NotSeen) and bodies[name].is_gone]
    if gone:
        yield Line("failed", f"queues: not there: {few(gone)}", PROVISION)
        return
    waiting = {name: at(of(bodies, name), "properties", "approximateMessageCount") for name in QUEUES}
    known = {name: count for name, count in waiting.items() if isinstance(count, int)}
    stuck = [f"{name} holds {count}" for name, count in known.items() if count and name.endswith("-poison")]
    late = [f"{name} holds {count}" for name, count in known.items() if count > BACKLOG and not name.endswith("-poison")]
    if stuck or late:
        yield Line("warning", f"queues: {few([*stuck, *late])}", "docs/runbooks/not-fixed.md")
    else:
        yield Line("done", "queues: nothing given up, nothing late" if known
                   else "queues are there; how many messages wait, Azure does not say")


def anchors(seen: Seen) -> Iterator[Line]:
    of(seen, "anchors")
    try:
        policy = at(of(seen, "immutability"), "properties")
    except NotSeen as why:
        if not why.is_gone:
            raise
        policy = None
    if not at(policy, "immutabilityPeriodSinceCreationInDays"):
        yield Line("failed", "anchors: the container has no retention: records could be rewritten unseen", PROVISION)
    elif not (at(policy, "allowProtectedAppendWrites") or at(policy, "allowProtectedAppendWritesAll")):
        yield Line("failed", "anchors: the retention forbids appends, so no anchor is written", PROVISION)
    elif at(policy, "state") != "Locked":
        yield Line("warning", "anchors: the retention is not locked", "docs/how-to/lock-the-audit.md")
    else:
        yield Line("done", f"anchors: locked for {at(policy, 'immutabilityPeriodSinceCreationInDays')} days")


def keys(seen: Seen) -> Iterator[Line]:
    found = {at(one, "name"): at(one, "properties", "attributes", "enabled") for one in of(seen, "keys")}
    wrong = [name for name in KEYS if name not in found or found[name] is False]
    if wrong:
        yield Line("failed", f"keys: missing or disabled: {few(wrong)}",
                   f"{PROVISION}, or az keyvault key set-attributes --enabled true")
    else:
        is_known = all(found[name] is True for name in KEYS)
        yield Line("done", f"keys: those that sign and the one that encrypts are there{' and enabled' if is_known else ''}")


def clock(seen: Seen) -> Iterator[Line]:
    found = of(seen, "clock")
    off_s = abs((found["here"] - found["azure"]).total_seconds())
    if off_s > CLOCK_S:
        yield Line("failed", f"clock: this machine is {off_s:.0f} s away from Azure's time", "set the clock")
    else:
        yield Line("done", "clock: this machine and Azure agree")


def versions(seen: Seen) -> Iterator[Line]:
    """A child that the provider does not list says nothing."""
    gone, known, unlisted = list[str](), 0, 0
    for type, wanted in of(seen, "here", "versions").items():
        space, _, kind = type.partition("/")
        listed = at(of(seen, "providers", space), "resourceTypes") or ()
        answered = next((at(one, "apiVersions") for one in listed if fold(str(at(one, "resourceType"))) == fold(kind)), None)
        if answered is None:
            unlisted += 1
            continue
        known += 1
        gone += [f"{type} {version}" for version in wanted if version not in answered]
    if gone:
        yield Line("failed", f"api-versions that Azure does not answer any more: {few(gone)}", "docs/how-to/upgrade.md")
    else:
        rest = f"; {unlisted} are listed nowhere" if unlisted else ""
        yield Line("done", f"api-versions: Azure answers ours of {known} types{rest}")
