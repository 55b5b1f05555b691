"""How much may be written: the budgets that a plan's writes take from, and what the last sweep knows of. Pure.

Taken by `turn`, before the write: those of one resource from its own row (`Case.wrote`, which hands seal), those of many
from the store. One who drifts a hundred throw-away resources uses up nobody else's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from guardrail.ids import ResourceId, fold, subscription, type_of
from guardrail.paths import fold as fold_text
from guardrail.plans import Step
from guardrail.policy_schema import Breakers
from guardrail.values import Plan

KNOWN = "known"                         # in `good` of the installation's case: subscription -> type -> how many
ROTATION = timedelta(hours=24)
NOBODY_KNOWS = "?"                      # in `wrote`: others changed the row, so every budget of it is used up from then on


@dataclass(frozen=True, slots=True)
class Budget:
    """Writes at most in a sliding window. The share of what is known is only asked for once `least` is used up."""

    breaker: str
    key: str
    least: int
    window: timedelta
    most: int = 0                       # more than `least` where `percent` of what is known is more
    percent: int = 0
    reserve: int = 0
    own: str = ""                       # of one resource: its name in `Case.wrote`

    def limit(self, known: int = 0) -> int:
        return max(self.least, min(self.most, known * self.percent // 100)) + self.reserve

    @property
    def grows(self) -> bool:
        return self.most > self.least

    def why(self, limit: int) -> str:
        minutes, whose = self.window.total_seconds() / 60, self.key.rsplit("/", 2)[1]
        return f"{self.breaker} breaker: {limit} writes in {minutes:g} min for {whose}"


def budgets(plan: Plan, breakers: Breakers, critical: Collection[str], actors: Sequence[str]) -> Iterator[Budget]:
    """Those of each control of the plan. `actors`: who may have caused it; none if it was bad when it was first seen.

    Flapping counts a resource and control; blast radius a subscription, control and each actor: at most `writes`, and
    `percent` of the known resources of the type, but never less than `least`. `critical` controls have a reserve.
    """
    flapping, radius = breakers.flapping, breakers.blast_radius
    for control in plan.controls:
        yield Budget("flapping", f"flapping/{fold(plan.resource)}/{control}/", flapping.writes, flapping.window,
                     own=f"flapping/{control}")
        for actor in actors:
            yield Budget("blast radius", f"blast/{subscription(plan.resource)}/{control}/{actor}",
                         min(radius.least, radius.writes), radius.window, radius.writes, radius.percent,
                         radius.reserve if control in critical else 0)


def rotation(plan: Plan, steps: Iterable[Step]) -> Iterator[Budget]:
    """One rotation of keys a day and resource, whatever the policy says and whoever approved it (A9)."""
    if any(step.rotates for step in steps):
        yield Budget("rotation", f"rotation/{fold(plan.resource)}/", 1, ROTATION, own="rotation")


def written(wrote: Mapping[str, tuple[datetime, ...]], budget: Budget, now: datetime) -> dict[str, tuple[datetime, ...]] | None:
    """`wrote` with one more write of a resource's own budget; None: it is used up."""
    def inside(name: str) -> tuple[datetime, ...]:
        return tuple(at for at in wrote.get(name, ()) if at > now - budget.window)

    if inside(NOBODY_KNOWS) or len(inside(budget.own)) >= budget.limit():
        return None
    return {**wrote, budget.own: (*inside(budget.own), now)}


def count(known: dict[str, dict[str, int]], resource: ResourceId) -> None:
    """One more of its type in its subscription; for `good[KNOWN]` of the installation's case."""
    types = known.setdefault(subscription(resource), {})
    types[fold_text(type_of(resource))] = types.get(fold_text(type_of(resource)), 0) + 1


def known(good: Mapping[str, Any], resource: ResourceId) -> int:
    """How many resources of this one's type its subscription had at the last sweep; 0 if no sweep has run."""
    types = good.get(KNOWN, {}).get(subscription(resource), {})
    number = types.get(fold_text(type_of(resource)), 0)
    return number if isinstance(number, int) else 0
