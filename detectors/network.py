"""Network security groups: what the Internet reaches through them. Facts: published types, 2025-09-01.

The first rule that fits a packet decides, by ascending priority; the default rules behind them let in only the
virtual network and the load balancer. Only denials hide a rule that allows: what is shadowed by another allowance would
open as soon as that one is mended.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from detectors import addresses
from guardrail.documents import Node
from guardrail.paths import fold
from guardrail.values import Control, Drift, Parameters

NSG = "Microsoft.Network/networkSecurityGroups"
EVENTS = (NSG + "/write", NSG + "/securityRules/write", NSG + "/securityRules/delete", NSG + "/delete")

INTERNET = frozenset(("*", "any", "internet"))
PROTOCOLS = {"*": ("tcp", "udp"), "any": ("tcp", "udp"), "tcp": ("tcp",), "udp": ("udp",),
             "icmp": (), "esp": (), "ah": ()}       # without ports
LAST_PORT = 65535
REMOTE_LOGIN = (22, 3389)
MOST_RULES = 1_000      # Azure takes no more a group, and 4,000 addresses on each side
MOST_ENTRIES = 10_000   # of all their lists
WORK = 40_000           # questions to the covers: some 100 ms

Ports = tuple[tuple[int, int], ...]
EVERY = ("*",)      # destination

TOO_LARGE = "too many rules to follow"

_FIELDS = {fold(name): name for name in (
    "access", "direction", "priority", "protocol", "sourcePortRange", "sourcePortRanges", "destinationPortRange",
    "destinationPortRanges", "sourceAddressPrefix", "sourceAddressPrefixes", "sourceApplicationSecurityGroups",
    "destinationAddressPrefix", "destinationAddressPrefixes", "destinationApplicationSecurityGroups",
    "description", "provisioningState",
)}
_SPELLED = frozenset(_FIELDS.values())
_TAG = re.compile(r"[A-Za-z][A-Za-z0-9._-]*", re.ASCII)
_PORTS = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Rule:
    """An inbound rule for TCP or UDP. Of one that allows, `sources` are those on the Internet that nobody approved."""

    node: Node
    priority: int
    allows: bool
    protocols: tuple[str, ...]
    ports: Ports
    sources: tuple[addresses.Span, ...]
    destination: tuple[str, ...]


class _Odd(Exception):
    """A rule says something that we cannot follow."""


class _TooLarge(Exception):
    """More than we follow in the time that a check has."""


def inbound(nsg: Node, parameters: Parameters) -> tuple[list[Rule], list[Node]]:
    """(inbound rules that matter, in their order; those that may allow and we cannot follow). Errors: _TooLarge."""
    listed = nsg.get("properties.securityRules")
    if isinstance(listed, list) and len(listed) > MOST_RULES:
        raise _TooLarge
    approved = addresses.cover(parameters["allowed_source_prefixes"])
    tags = INTERNET.union(map(fold, parameters["internet_service_tags"]))
    rules, odd, entries = list[Rule](), list[Node](), 0
    for node in nsg.items("properties.securityRules", "name"):
        properties = node.get("properties")
        if not isinstance(properties, Mapping):
            odd.append(node)
            continue
        said = properties if _SPELLED.issuperset(properties) else _respelled(properties)
        if _word(said, "direction") == "outbound":
            continue
        entries += sum(len(value) for value in said.values() if isinstance(value, list))
        if entries > MOST_ENTRIES:
            raise _TooLarge
        try:
            rule = _rule(node, said, tags, approved)
        except _Odd:
            if _word(said, "access") != "deny":     # a denial that we cannot follow hides nothing
                odd.append(node)
        else:
            if rule is not None:
                rules.append(rule)
    rules.sort(key=lambda rule: (rule.priority, not rule.allows))
    return rules, odd


def _respelled(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {_FIELDS.get(fold(name), name): value for name, value in properties.items()}


def _word(said: Mapping[str, Any], name: str) -> str:
    value = said.get(name)
    return fold(value) if isinstance(value, str) else ""


def _rule(node: Node, said: Mapping[str, Any], tags: frozenset[str], approved: addresses.Cover) -> Rule | None:
    """None for a rule that neither opens nor hides anything. Errors: _Odd."""
    access, priority = _word(said, "access"), said.get("priority")
    protocols = PROTOCOLS.get(_word(said, "protocol"))
    if _word(said, "direction") != "inbound" or access not in ("allow", "deny") or protocols is None:
        raise _Odd
    if not isinstance(priority, int) or isinstance(priority, bool):
        raise _Odd
    allows = access == "allow"
    sources = _sources(said, tags if allows else INTERNET)
    if allows:
        sources = approved.rest(addresses.NOT_INTERNET.rest(sources))
    elif _ports(said, "sourcePortRange") != ((0, LAST_PORT),):
        return None         # the one who comes chooses the port to come from
    if not sources or not protocols:
        return None
    ports = _ports(said, "destinationPortRange")
    return Rule(node, priority, allows, protocols, ports, sources, _destination(said))


def _destination(said: Mapping[str, Any]) -> tuple[str, ...]:
    texts = {fold(text) for text in _texts(said, "destinationAddressPrefix", "destinationAddressPrefixes")}
    groups = said.get("destinationApplicationSecurityGroups")
    if not texts and not groups:
        raise _Odd
    return EVERY if texts & {"*", "any"} else (*sorted(texts), fold(repr(groups or "")))


def _texts(said: Mapping[str, Any], one: str, many: str) -> list[str]:
    """The values of the singular and the plural form together: a rule holds either."""
    single, several = said.get(one), said.get(many)
    texts = list(several) if isinstance(several, list) else []
    if single is not None and single != "":
        texts.append(single)
    if (several is not None and not isinstance(several, list)) or not all(isinstance(text, str) for text in texts):
        raise _Odd
    return texts


def _sources(said: Mapping[str, Any], tags: frozenset[str]) -> tuple[addresses.Span, ...]:
    """Where packets may come from. Service tags other than `tags`, and security groups, are not the Internet."""
    texts = _texts(said, "sourceAddressPrefix", "sourceAddressPrefixes")
    if not texts and not said.get("sourceApplicationSecurityGroups"):
        raise _Odd
    found = list[addresses.Span]()
    for text in texts:
        covered = addresses.EVERYWHERE if fold(text) in tags else addresses.spans(text)
        if covered is None and not _TAG.fullmatch(text):
            raise _Odd
        found += covered or ()
    return addresses.merged(found)


def _ports(said: Mapping[str, Any], one: str) -> Ports:
    texts = _texts(said, one, one + "s")
    if not texts:
        raise _Odd
    return addresses.merged(map(_port_range, texts))


def _port_range(text: str) -> tuple[int, int]:
    if text == "*" or fold(text) == "any":
        return 0, LAST_PORT
    found = _PORTS.fullmatch(text)
    first = int(found[1]) if found else LAST_PORT + 1
    last = int(found[2]) if found and found[2] else first
    if not first <= last <= LAST_PORT:
        raise _Odd
    return first, last


def openings(rules: Sequence[Rule], points: Sequence[int]) -> list[tuple[Rule, list[int]]]:
    """Each rule that lets the Internet reach some of `points` (ports, sorted), with these. Errors: _TooLarge.

    A denial is subtracted, not merely looked for: it counts a protocol and port, for the sources it names, and only if
    it holds for every destination or for the very same ones.
    """
    asked = ((_within(points, ports), rule) for rule in rules for ports in rule.ports)
    if sum((within.stop - within.start) * len(rule.sources) for within, rule in asked) > WORK:
        raise _TooLarge
    found = list[tuple[Rule, list[int]]]()
    denied = dict[tuple[str, int, tuple[str, ...]], addresses.Cover]()
    for rule in rules:
        at = [point for ports in rule.ports for point in points[_within(points, ports)]]
        if rule.allows:
            opened = [point for point in at if any(_reaches(rule, one, point, denied) for one in rule.protocols)]
            if opened:
                found.append((rule, opened))
            continue
        for point in at:
            for protocol in rule.protocols:
                key = (protocol, point, rule.destination)
                if key not in denied:
                    denied[key] = addresses.Cover()
                denied[key].add(rule.sources)
    return found


def _within(points: Sequence[int], ports: tuple[int, int]) -> slice:
    return slice(bisect_left(points, ports[0]), bisect_right(points, ports[1]))


def _reaches(rule: Rule, protocol: str, point: int, denied: Mapping[Any, addresses.Cover]) -> bool:
    everywhere, there = (denied.get((protocol, point, destination)) for destination in (EVERY, rule.destination))
    left = there.rest(rule.sources) if there else rule.sources
    return bool(left) and not (everywhere and everywhere.holds(left))


def management_ports_closed(nsg: Node, parameters: Parameters) -> Iterator[Drift]:
    """Each rule through which the Internet reaches a port of remote management, over TCP or UDP, is unwanted."""
    try:
        rules, odd = inbound(nsg, parameters)
        found = openings(rules, sorted(set(parameters["management_ports"])))
    except _TooLarge:
        yield from nsg.undecided("properties.securityRules", TOO_LARGE)
        return
    for rule, opened in found:
        yield from rule.node.unwanted(f"the Internet reaches {_shown((port, port) for port in opened)}")
    yield from _not_followed(odd)


def few_ports_open(nsg: Node, parameters: Parameters) -> Iterator[Drift]:
    """Each rule through which the Internet reaches more ports than may be open is unwanted.

    Few, but not meant for the public, are left to a person: a rule for one port may well be a service.
    """
    public = set(parameters["allowed_public_ports"])
    try:
        rules, odd = inbound(nsg, parameters)
        starts = {0, LAST_PORT + 1, *(edge for port in public for edge in (port, port + 1)),
                  *(edge for rule in rules for first, last in rule.ports for edge in (first, last + 1))}
        points = sorted(starts)                                 # from one to the next all ports fare alike
        found = openings(rules, points)
    except _TooLarge:
        yield from nsg.undecided("properties.securityRules", TOO_LARGE)
        return
    ends = dict(pairwise(points))
    for rule, opened in found:
        ranges = [(point, ends[point] - 1) for point in opened if point not in public]
        count = sum(last - first + 1 for first, last in ranges)
        if count > parameters["max_open_ports"]:
            yield from rule.node.unwanted(f"the Internet reaches {count} ports: {_shown(ranges)}")
        elif count:
            yield from rule.node.undecided("", f"the Internet reaches {_shown(ranges)}: not meant for the public")
    yield from _not_followed(odd)


def _shown(ranges: Iterable[tuple[int, int]]) -> str:
    texts = [str(first) if first == last else f"{first}-{last}" for first, last in addresses.merged(ranges)]
    return "port " + ", ".join(texts[:5]) + (f" and {len(texts) - 5} more" if len(texts) > 5 else "")


def _not_followed(odd: Iterable[Node]) -> Iterator[Drift]:
    for node in odd:
        yield from node.undecided("", "the rule says something that we cannot follow")


def _are_ports(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str) and all(
        isinstance(port, int) and not isinstance(port, bool) and 0 <= port <= LAST_PORT for port in value)


def holds_remote_login(value: Any) -> str:
    """Floor of management_ports."""
    sound = _are_ports(value) and set(REMOTE_LOGIN) <= set(value)
    return "" if sound else "is a list of ports with 22 and 3389 among them"


def holds_no_remote_login(value: Any) -> str:
    """Floor of allowed_public_ports."""
    sound = _are_ports(value) and not set(REMOTE_LOGIN) & set(value) and len(set(value)) <= 100
    return "" if sound else "is a list of at most 100 ports, without 22 and 3389"


def is_few(value: Any) -> str:
    """Floor of max_open_ports."""
    sound = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 100
    return "" if sound else "is a number from 0 to 100"


def are_words(value: Any) -> str:
    """Floor of internet_service_tags: they only add, so that none is too weak."""
    sound = isinstance(value, Sequence) and not isinstance(value, str) and all(isinstance(text, str) for text in value)
    return "" if sound else "is a list of service tags"


SOURCES: Parameters = {"allowed_source_prefixes": (), "internet_service_tags": ("Internet", "*")}
SOURCE_FLOORS = {"allowed_source_prefixes": addresses.ranges_are_narrow, "internet_service_tags": are_words}


def _sample(name: str, port: str, source: str) -> dict[str, Any]:
    """An inbound rule as ARM shows it."""
    return {"name": name, "properties": {
        "protocol": "Tcp", "sourcePortRange": "*", "destinationPortRange": port, "sourceAddressPrefix": source,
        "destinationAddressPrefix": "*", "access": "Allow", "priority": 200, "direction": "Inbound"}}


CONTROLS = (
    Control(
        "nsg-inbound-internet-management-ports", management_ports_closed, on=NSG, severity="critical",
        response="revert",
        title="The Internet reaches no management port",
        why="brute force and unpatched remote-login services become reachable by anyone",
        breaks="whoever administers from outside the approved ranges, and access granted just in time, loses the port",
        triggered_by=EVENTS,
        parameters={"management_ports": (22, 3389, 5985, 5986, 23, 2376, 10250), **SOURCES},
        floors={"management_ports": holds_remote_login, **SOURCE_FLOORS},
        drift={"properties.securityRules[name='allow-ssh']": _sample("allow-ssh", "22", "*")},
    ),
    Control(
        "nsg-inbound-internet-any", few_ports_open, on=NSG, severity="critical", response="revert",
        title="The Internet reaches few ports, and these on purpose",
        why="a rule that allows everything puts every listening service on the Internet",
        breaks="services that listen on a wide range of ports, such as media relays",
        triggered_by=EVENTS,
        parameters={"allowed_public_ports": (80, 443), "max_open_ports": 10, **SOURCES},
        floors={"allowed_public_ports": holds_no_remote_login, "max_open_ports": is_few, **SOURCE_FLOORS},
        drift={"properties.securityRules[name='allow-range']": _sample("allow-range", "8000-8999", "Internet")},
    ),
)
