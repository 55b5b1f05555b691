"""Internet addresses as stretches of one number line, so that ranges are compared and never their texts. Pure.

IPv4 stands where IPv6 maps it (::ffff:0:0/96), hence 0.0.0.0/0 and ::ffff:0.0.0.0/96 are the same stretch.
"""

from __future__ import annotations

import ipaddress
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

Span = tuple[int, int]      # first and last address, both within

_V4 = 0xFFFF << 32
_V4_LAST = _V4 + 0xFFFF_FFFF
EVERYWHERE: tuple[Span, ...] = ((0, (1 << 128) - 1),)
WIDEST = {4: 8, 6: 32}      # prefix lengths: no allow-list may hold a wider range

_LITERAL = re.compile(r"[0-9A-Fa-f:.]{2,45}(/[0-9]{1,3})?", re.ASCII)


@lru_cache(maxsize=65536)
def spans(text: str) -> tuple[Span, ...] | None:
    """What an address or a CIDR range covers; None if `text` is neither. IPv6 around the mapped part leaves it out."""
    if not _LITERAL.fullmatch(text):
        return None
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None
    first, last = int(network.network_address), int(network.broadcast_address)
    if network.version == 4:
        return ((_V4 + first, _V4 + last),)
    if first < _V4 and last > _V4_LAST:
        return ((first, _V4 - 1), (_V4_LAST + 1, last))
    return ((first, last),)


def merged(ranges: Iterable[Span]) -> tuple[Span, ...]:
    """Sorted, and joined where they touch."""
    joined = list[Span]()
    for first, last in sorted(ranges):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(joined[-1][1], last))
        else:
            joined.append((first, last))
    return tuple(joined)


class Cover:
    """A growing set of addresses; sorted and disjoint, so that each question costs a bisection."""

    __slots__ = ("_firsts", "_lasts")

    def __init__(self, ranges: Iterable[Span] = ()) -> None:
        self._set(ranges)

    def _set(self, ranges: Iterable[Span]) -> None:
        joined = merged(ranges)
        self._firsts, self._lasts = [first for first, _ in joined], [last for _, last in joined]

    def add(self, ranges: Sequence[Span]) -> None:
        if len(ranges) > 4 and len(ranges) > len(self._firsts) // 8:
            self._set((*zip(self._firsts, self._lasts, strict=True), *ranges))      # one sort beats many insertions
            return
        for first, last in ranges:
            at, end = bisect_left(self._lasts, first - 1), bisect_right(self._firsts, last + 1)
            if at < end:
                first, last = min(first, self._firsts[at]), max(last, self._lasts[end - 1])
            self._firsts[at:end], self._lasts[at:end] = [first], [last]

    def holds(self, ranges: Iterable[Span]) -> bool:
        """Whether all of `ranges` is in the set."""
        for first, last in ranges:
            at = bisect_right(self._firsts, first) - 1
            if at < 0 or self._lasts[at] < last:
                return False
        return True

    def rest(self, ranges: Iterable[Span]) -> tuple[Span, ...]:
        """What of `ranges` is not in the set."""
        left = list[Span]()
        for first, last in ranges:
            for at in range(bisect_left(self._lasts, first), bisect_right(self._firsts, last)):
                if first < self._firsts[at]:
                    left.append((first, self._firsts[at] - 1))
                first = self._lasts[at] + 1
            if first <= last:
                left.append((first, last))
        return tuple(left)


def prefix(span: Span) -> tuple[int, int]:
    """(4 or 6, the longest prefix length that is no narrower than the span)."""
    first, last = span
    version, bits = (4, 32) if first >= _V4 and last <= _V4_LAST else (6, 128)
    return version, bits - (last - first).bit_length()


def cover(texts: Iterable[str]) -> Cover:
    """The addresses of an allow-list; what is no range is left out (the floors have refused it before)."""
    return Cover(span for text in texts for span in spans(text) or ())


def ranges_are_narrow(value: Any) -> str:
    """Floor of an allow-list of ranges: "" or why it is too weak. Neighbours count as the one range that they make."""
    if not isinstance(value, Sequence) or isinstance(value, str) or not all(isinstance(text, str) for text in value):
        return "is a list of addresses and CIDR ranges"
    unread = next((text for text in value if spans(text) is None), None)
    if unread is not None:
        return f"{unread!r} is neither an address nor a CIDR range"
    for span in merged(span for text in value for span in spans(text) or ()):
        version, length = prefix(span)
        if length < WIDEST[version]:
            return f"together the ranges reach a /{length}: no range may be wider than a /{WIDEST[version]}"
    return ""


def prefix_is_long(version: int) -> Any:
    """Floor of a shortest prefix length for IPv4 or IPv6."""
    bits = {4: 32, 6: 128}[version]

    def floor(value: Any) -> str:
        sound = isinstance(value, int) and not isinstance(value, bool) and WIDEST[version] <= value <= bits
        return "" if sound else f"is a prefix length from {WIDEST[version]} to {bits}"

    return floor


# What no packet from the Internet carries as its source: RFC 1918, 6598, 3927, 4193, 4291, loopback, and the address
# from which Azure's platform reaches every machine.
NOT_INTERNET = cover((
    "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16", "127.0.0.0/8",
    "168.63.129.16", "fc00::/7", "fe80::/10", "::1",
))
