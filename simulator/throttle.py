"""Resource Manager's request limits: token buckets a subscription and principal, their headers, and 429 (S13).

Numbers of 2024: reads 250 tokens refilled at 25 a second, writes and deletes 200 at 10; over all principals of a
subscription fifteen times that (catalogue of Resource Manager limits; 3750 and 3000 are what the headers show).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import formatdate
from math import ceil
from typing import TYPE_CHECKING, Literal

from simulator.wire import Request, Response, error

if TYPE_CHECKING:
    from simulator import Simulator

Kind = Literal["reads", "writes", "deletes"]

BUCKETS: Mapping[str, tuple[float, float]] = {"reads": (250, 25), "writes": (200, 10), "deletes": (200, 10)}
"""Kind of request → (size, refill a second)."""

GLOBAL_FACTOR = 15


def kind_of(method: str) -> Kind:
    """POST counts as a write; a Resource Graph query does not come here (it has its own quota)."""
    return "reads" if method in ("GET", "HEAD") else "deletes" if method == "DELETE" else "writes"


@dataclass(slots=True)
class _Bucket:
    size: float
    refill: float
    left: float
    at: float

    def fill(self, now: float) -> None:
        self.left = min(self.size, self.left + max(0.0, now - self.at) * self.refill)
        self.at = now


class Throttle:
    """On by default with the real numbers. `off()` for benchmarks: headers stay, nothing is refused."""

    def __init__(self, sim: Simulator) -> None:
        self.refused = 0
        """How many requests got 429."""
        self._clock = sim.clock
        self._off = False
        self.reset()

    def off(self) -> None:
        """Refuse nothing more; the headers show full buckets."""
        self._off = True

    def on(self) -> None:
        self._off = False

    @property
    def is_off(self) -> bool:
        return self._off

    def reset(self) -> None:
        """Azure's own numbers, full buckets, honest Retry-After."""
        self._sizes = dict(BUCKETS)
        self._retry_after: str | float | None = "seconds"
        self._buckets: dict[tuple[str, str, str], _Bucket] = {}
        self._emptied = 0.0

    def set(
        self, buckets: Mapping[str, tuple[float, float]] | None = None, retry_after: str | float | None = "seconds"
    ) -> None:
        """S13. `buckets`: kind → (size, refill a second), the kinds left out keep theirs; `(0, 0)` refuses all.

        `retry_after`: "seconds" (true ones), "date" (an HTTP date), "absent", or a number sent as it is (86400, -1)."""
        self._sizes = dict(BUCKETS) | {
            kind: (float(size), float(refill)) for kind, (size, refill) in (buckets or {}).items()
        }
        self._retry_after = retry_after
        self._buckets.clear()

    def _bucket(self, subscription: str, principal: str, kind: Kind) -> _Bucket:
        key = (subscription, principal, kind)
        if key not in self._buckets:
            size, refill = self._sizes[kind]
            factor = 1 if principal else GLOBAL_FACTOR
            self._buckets[key] = _Bucket(size * factor, refill * factor, size * factor, self._clock())
        self._buckets[key].fill(self._clock())
        return self._buckets[key]

    def _pair(self, request: Request) -> tuple[str, Kind, _Bucket, _Bucket]:
        parts = request.path.lower().split("/")
        subscription = parts[2] if len(parts) > 2 and parts[1] == "subscriptions" else ""
        kind = kind_of(request.method)
        principal = str(request.claims.get("oid") or request.claims.get("appid") or "nobody")
        return subscription, kind, self._bucket(subscription, principal, kind), self._bucket(subscription, "", kind)

    def take(self, request: Request) -> Response | None:
        """Takes one token; 429 when there is none (a refused request costs nothing)."""
        if self._off or "/microsoft.resourcegraph/" in request.path.lower():
            return None
        subscription, kind, own, everybody = self._pair(request)
        short = next((bucket for bucket in (own, everybody) if bucket.left < 1), None)
        if short is None:
            own.left -= 1
            everybody.left -= 1
            return None
        self.refused += 1
        wait = ceil((1 - short.left) / short.refill) if short.refill else 3600
        scope = f"subscription '{subscription}'" if subscription else "tenant"
        response = error(
            429,
            "SubscriptionRequestsThrottled" if subscription else "TenantRequestsThrottled",
            f"Number of '{kind}' requests for {scope} exceeded the limit. Please try again after '{wait}' seconds.",
        )
        response.headers |= self.headers(request)
        if self._retry_after == "date":
            response.headers["Retry-After"] = formatdate(self._clock() + wait, usegmt=True)
        elif self._retry_after == "seconds":
            response.headers["Retry-After"] = str(wait)
        elif self._retry_after not in ("absent", None):
            response.headers["Retry-After"] = str(self._retry_after)
        return response

    def headers(self, request: Request) -> dict[str, str]:
        """What every answer carries: tokens left of the principal and of the subscription, else of the tenant."""
        subscription, kind, own, everybody = self._pair(request)
        scope = "subscription" if subscription else "tenant"
        left = {f"x-ms-ratelimit-remaining-{scope}-{kind}": str(int(own.left))}
        if subscription:
            left[f"x-ms-ratelimit-remaining-subscription-global-{kind}"] = str(int(everybody.left))
        return left
