"""Which management groups a subscription lies below, for a policy that names any: the sweep asks, everybody remembers.

Until somebody has asked, and wherever Azure does not say, a subscription is below none: then it is production.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from guardrail.paths import fold
from guardrail.policy_schema import Policy
from guardrail.stores import HOME

if TYPE_CHECKING:
    from guardrail.turn import Engine

KEPT = "groups"                     # the name under which the installation keeps them: folded subscription -> names
FRESH = timedelta(minutes=5)
# properties.managementGroupAncestorsChain: [{"name", "displayName"}], the nearest first (Resource Graph, resourcecontainers)
QUERY = ("resourcecontainers | where type =~ 'microsoft.resources/subscriptions'"
         " | project id, subscriptionId, chain = properties.managementGroupAncestorsChain | order by id asc")


def are_named(policy: Policy) -> bool:
    """Whether the policy says anything by management group."""
    scopes = [scope for listed in policy.environments.values() for scope in listed]
    return any(rule.management_group for rule in policy.rules) or any("/managementgroups/" in fold(one) for one in scopes)


async def know(engine: Engine) -> None:
    """What the last sweep found, five minutes old at most. Errors: StoreDown."""
    now = engine.clock()
    if not are_named(engine.policy) or (engine.known_at is not None and now - engine.known_at < FRESH):
        return
    case, _ = await engine.store.load(HOME)
    kept = case.good.get(KEPT)
    engine.above, engine.known_at = (kept if isinstance(kept, Mapping) else {}), now


def chains(rows: Iterable[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Folded subscription -> names of the groups above it, the nearest first, of the rows that QUERY gives."""
    found = dict[str, list[str]]()
    for row in rows:
        chain = row.get("chain")
        names = [one.get("name") for one in chain if isinstance(one, Mapping)] if isinstance(chain, list) else []
        found[fold(str(row.get("subscriptionId", "")))] = [name for name in names if isinstance(name, str)]
    return found
