"""Doctor's checks: each a pure function of what was seen to lines with mark and cure. Nothing here asks anybody.

Where a check cannot see, it raises the NotSeen that it finds, and its line says `skipped` and why.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from cli.checks import ground, path, rights, running
from cli.checks.line import Check, Line
from cli.seen import NotSeen, Seen

CHECKS: Mapping[str, Check] = {
    "sign-in": rights.sign_in, "identity": rights.identity, "role": rights.role, "report-only": rights.report_only,
    "front": rights.front, "filters": path.filters, "delivery": path.delivery, "dead-letters": path.dead_letters,
    "storage": ground.storage, "store": ground.store, "queues": ground.queues, "anchors": ground.anchors,
    "keys": ground.keys,
    "policy": running.policy, "settings": running.settings, "channels": running.channels, "console": running.sign_on,
    "clock": ground.clock, "api-versions": ground.versions, "audit": running.audit, "probe": path.probe,
    "version": running.version, "namesake": running.namesake,
}


def lines(seen: Seen) -> Iterator[tuple[str, Line]]:
    """(check, line) of every check, in order."""
    for name, check in CHECKS.items():
        try:
            yield from [(name, line) for line in check(seen)]
        except NotSeen as why:
            yield name, Line("skipped", f"{name}: {why}")
        except (LookupError, TypeError, AttributeError, ValueError) as error:     # odd: the rest goes on
            yield name, Line("skipped", f"{name}: an answer is not as its types say ({type(error).__name__}: {error})")
