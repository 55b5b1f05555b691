"""Ranges are compared as stretches of one number line, never as texts."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors import addresses

RANGES = st.tuples(st.integers(0, 60), st.integers(0, 12)).map(lambda pair: (pair[0], pair[0] + pair[1]))


def points(ranges: Iterable[addresses.Span]) -> set[int]:
    return {point for first, last in ranges for point in range(first, last + 1)}


@pytest.mark.threat("E9")
@pytest.mark.parametrize("text", [
    "", " 10.0.0.0/8", "10.0.0.0/8 ", "10.0.0.0/8\n", "10.0.0.0/33", "10.0.0", "10.0.0.0/255.0.0.0", "0.0.0.0/0.0.0.0",
    "fe80::1%eth0", "１０.0.0.1", "10.0.0.1-10.0.0.9", "Internet", "*", "010.0.0.1", "::ffff:0:0:0:0:0:0:0:0",
])
def test_what_is_no_plain_range_is_none(text: str) -> None:
    assert addresses.spans(text) is None


@pytest.mark.threat("E9")
@pytest.mark.parametrize(("one", "other"), [
    ("0.0.0.0/0", "::ffff:0.0.0.0/96"), ("10.1.2.3", "10.1.2.3/32"), ("10.1.2.3/8", "10.0.0.0/8"),
    ("203.0.113.7", "::ffff:203.0.113.7"), ("2001:DB8::1", "2001:db8:0:0::1"),
])
def test_two_ways_to_write_a_range_are_one(one: str, other: str) -> None:
    assert addresses.spans(one) == addresses.spans(other) is not None


def test_all_of_ipv6_is_not_all_of_ipv4() -> None:
    assert addresses.cover(["::/0"]).rest(addresses.spans("203.0.113.7") or ())
    assert not addresses.cover(["::/0", "0.0.0.0/0"]).rest(addresses.EVERYWHERE)


@given(st.lists(st.lists(RANGES, max_size=8), max_size=8), st.lists(RANGES, max_size=8))
def test_a_cover_holds_exactly_what_was_added(added: list[list[addresses.Span]], asked: list[addresses.Span]) -> None:
    cover = addresses.Cover()
    for ranges in added:
        cover.add(ranges)
    held = points(span for ranges in added for span in ranges)
    assert points(cover.rest(asked)) == points(asked) - held
    assert cover.holds(asked) == (points(asked) <= held)
    assert cover.rest([(0, 99)]) == addresses.Cover(span for ranges in added for span in ranges).rest([(0, 99)])


def test_halves_that_touch_are_a_whole() -> None:
    cover = addresses.Cover()
    for half in ("0.0.0.0/1", "128.0.0.0/1"):
        cover.add(addresses.spans(half) or ())
    assert cover.holds(addresses.spans("0.0.0.0/0") or ())
    assert not cover.holds(addresses.EVERYWHERE)


@given(st.ip_addresses().flatmap(lambda ip: st.tuples(st.just(ip), st.integers(0, ip.max_prefixlen))))
def test_the_prefix_of_a_range_is_its_own(pair: tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, int]) -> None:
    address, length = pair
    covered = addresses.spans(f"{address}/{length}")
    assert covered is not None
    if len(covered) == 1 and not (address.version == 6 and addresses.prefix(covered[0])[0] == 4):
        assert addresses.prefix(covered[0]) == (address.version, length)


@pytest.mark.threat("E7")
@pytest.mark.parametrize("value", [
    ["0.0.0.0/0"], ["::/0"], ["0.0.0.0/1", "128.0.0.0/1"], ["::ffff:0:0/96"], ["*"], ["Internet"], "10.0.0.0/8", [7],
    None, {},
    [f"{octet}.0.0.0/8" for octet in range(64)], ["203.0.113.0/7"], ["2001::/16"],
])
def test_an_allow_list_that_lets_half_the_world_in_is_refused(value: object) -> None:
    assert addresses.ranges_are_narrow(value)


@pytest.mark.parametrize("value", [
    [], (), ["203.0.113.0/24"], ["203.0.113.7", "2001:db8::/32"], ["10.0.0.0/8", "12.0.0.0/8"]])
def test_an_allow_list_of_offices_is_taken(value: object) -> None:
    assert addresses.ranges_are_narrow(value) == ""


@pytest.mark.threat("E7")
@pytest.mark.parametrize("value", [0, 7, 33, True, "24", None, 24.0])
def test_a_shortest_prefix_is_a_number_in_bounds(value: object) -> None:
    assert addresses.prefix_is_long(4)(value)
    assert addresses.prefix_is_long(4)(24) == addresses.prefix_is_long(6)(128) == ""
