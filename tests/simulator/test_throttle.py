"""S13: Resource Manager's token buckets, their headers on every answer, and every odd Retry-After."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import pytest

from simulator import Simulator
from tests.simulator.calls import ACCOUNT, SECURED, SUBSCRIPTION, Clock, call


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sim(tmp_path: Path, clock: Clock) -> Iterator[Simulator]:
    with Simulator(folder=tmp_path, clock=clock) as made:
        made.seed(ACCOUNT, SECURED)
        yield made


def spend(sim: Simulator, method: str, count: int, as_: str = "ml-engineer") -> list[int]:
    """That many calls in process; their statuses."""
    body: dict[str, Any] | None = {"tags": {}} if method == "PATCH" else None
    return [
        sim.request(method, f"{ACCOUNT}/none" if method == "DELETE" else ACCOUNT, body, as_=as_).status
        for _ in range(count)
    ]


@pytest.mark.parametrize(
    ("method", "kind", "size", "refill"),
    [("GET", "reads", 250, 25), ("PATCH", "writes", 200, 10), ("DELETE", "deletes", 200, 10)],
)
def test_the_bucket_holds_and_refills_as_azures(
    sim: Simulator, clock: Clock, method: str, kind: str, size: int, refill: int
) -> None:
    assert 429 not in spend(sim, method, size)
    refused = call(sim, method, ACCOUNT, {"tags": {}} if method == "PATCH" else None)
    assert (refused.status, refused.headers["retry-after"]) == (429, "1")
    assert refused.headers[f"x-ms-ratelimit-remaining-subscription-{kind}"] == "0"
    assert refused.body["error"]["code"] == "SubscriptionRequestsThrottled"
    clock.move(1)
    assert spend(sim, method, refill + 1).count(429) == 1


def test_every_answer_shows_what_is_left(sim: Simulator) -> None:
    left = [call(sim, "GET", ACCOUNT).headers["x-ms-ratelimit-remaining-subscription-reads"] for _ in range(2)]
    assert left == ["249", "248"]
    assert call(sim, "GET", ACCOUNT).headers["x-ms-ratelimit-remaining-subscription-global-reads"] == "3747"
    assert call(sim, "GET", "/subscriptions").headers["x-ms-ratelimit-remaining-tenant-reads"] == "249"


def test_principals_have_their_own_buckets_and_share_one_fifteen_times_the_size(sim: Simulator) -> None:
    sim.faults.throttle({"reads": (10, 1)})
    assert spend(sim, "GET", 11)[-2:] == [200, 429]
    assert spend(sim, "GET", 1, as_="guardrail") == [200]
    for number in range(14):
        spend(sim, "GET", 10, as_=f"app-{number}")
    assert spend(sim, "GET", 1, as_="app-15") == [429], "15 times 10 have been read by all together"


def test_a_refused_request_costs_nothing(sim: Simulator, clock: Clock) -> None:
    spend(sim, "PATCH", 230)
    clock.move(1)
    assert spend(sim, "PATCH", 10) == [200] * 10


def test_reads_do_not_spend_writes(sim: Simulator) -> None:
    spend(sim, "GET", 260)
    assert spend(sim, "PATCH", 1) == [200]


@pytest.mark.parametrize(
    ("retry_after", "sent"), [("seconds", "3600"), (86400, "86400"), (-1, "-1"), ("absent", None), ("soon", "soon")]
)
def test_retry_after_is_odd(sim: Simulator, retry_after: Any, sent: str | None) -> None:
    sim.faults.throttle({"writes": (0, 0)}, retry_after=retry_after)
    answer = call(sim, "PATCH", ACCOUNT, {"tags": {}})
    assert (answer.status, answer.headers.get("retry-after")) == (429, sent)
    assert call(sim, "GET", ACCOUNT).status == 200, "kinds that are not named keep their size"


def test_retry_after_is_a_date(sim: Simulator, clock: Clock) -> None:
    sim.faults.throttle({"writes": (0, 0)}, retry_after="date")
    when = parsedate_to_datetime(call(sim, "PATCH", ACCOUNT, {"tags": {}}).headers["retry-after"])
    assert when == datetime.fromtimestamp(clock() + 3600, UTC)


def test_off_refuses_nothing_and_clear_gives_full_buckets(sim: Simulator) -> None:
    sim.faults.throttle({"reads": (0, 0)})
    assert spend(sim, "GET", 1) == [429]
    sim.throttle.off()
    assert set(spend(sim, "GET", 300)) == {200}
    sim.throttle.on()
    assert spend(sim, "GET", 1) == [429]
    sim.faults.clear()
    assert spend(sim, "GET", 1) == [200]


def test_the_token_service_is_not_throttled(sim: Simulator) -> None:
    sim.faults.throttle({"reads": (0, 0), "writes": (0, 0)})
    headers = {"X-IDENTITY-HEADER": "guardrail"}
    assert call(sim, "GET", "/msi/token", token="", headers=headers).status == 200
    assert call(sim, "GET", f"{SUBSCRIPTION}/resourceGroups").status == 429
