"""AI Search services: network, keys, identity, and the private links that lead out of them. Published types, 2025-05-01."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from detectors import addresses, floors
from guardrail import ids
from guardrail.documents import Node
from guardrail.errors import Malformed
from guardrail.paths import ABSENT, fold
from guardrail.values import Control, Drift, Parameters

SERVICE = "Microsoft.Search/searchServices"
LINKS = "properties.sharedPrivateLinkResources"
ACCESS = "properties.publicNetworkAccess"
RULES = "properties.networkRuleSet.ipRules"
MOST_RULES = 1_000
SKUS = ("basic", "standard", "standard2", "standard3", "storage_optimized_l1", "storage_optimized_l2")


def public_endpoint_closed(service: Node, p: Parameters) -> Iterator[Drift]:
    """Drift while the public endpoint is open. Absent means Enabled (recorded); a free service cannot be closed."""
    if p["allow_selected_ips"] and any(True for _ in service.items(RULES, "value")):
        return
    closed = ("Disabled", "SecuredByPerimeter") if p["allow_perimeter"] else ("Disabled",)
    drifts = service.expect(ACCESS, one_of=closed, absent="Enabled", known=("SecuredByPerimeter",))
    if service.text("sku.name") != "free":
        yield from drifts
    else:
        for _ in drifts:
            yield from service.undecided(ACCESS, "a free service has neither rules nor private links")


def narrow_rules_only(service: Node, p: Parameters) -> Iterator[Drift]:
    """Drift for each IP rule that is wide or not approved, and for a bypass that is not. An absent bypass means None.

    An open service without rules is open to all, so where none would stay the public endpoint is closed as well.
    """
    allowed = addresses.cover(p["allowed_ip_ranges"])
    rules = list(islice(service.items(RULES, "value"), MOST_RULES + 1))
    if len(rules) > MOST_RULES:
        yield from service.undecided(RULES, "too many rules to follow")
        return
    unwanted, kept = list[Node](), 0
    for rule in rules:
        covered = addresses.spans(rule.text("value"))
        if covered is None:
            kept += 1
            yield from rule.undecided("", "the rule names no address that we can read")
        elif allowed.rest(covered) or any(_is_wide(span, p["min_prefix_length"]) for span in covered):
            unwanted.append(rule)
        else:
            kept += 1
    for rule in unwanted:
        yield from rule.unwanted("wider than min_prefix_length, or outside the approved ranges")
    if unwanted and not kept:
        yield from service.expect(ACCESS, one_of=("Disabled", "SecuredByPerimeter"), absent="Enabled")
    yield from service.expect(
        "properties.networkRuleSet.bypass", one_of=p["allowed_bypass"], absent="None", known=("None", "AzureServices"))


def _is_wide(span: addresses.Span, shortest: int) -> bool:
    version, length = addresses.prefix(span)
    return version != 4 or length < shortest


def keys_off(service: Node, _: Parameters) -> Iterator[Drift]:
    """Drift while admin and query keys open the service. Absent means false (recorded).

    authOptions say how keys and tokens go together; Azure refuses them beside disableLocalAuth, so they go with the keys.
    """
    yield from service.expect("properties.disableLocalAuth", one_of=(True,), absent=False)
    if service.get("properties.disableLocalAuth") in (False, ABSENT):
        options = service.get("properties.authOptions")
        yield from service.expect("properties.authOptions", one_of=(ABSENT,), known=(options,))


def customer_keys_enforced(service: Node, p: Parameters) -> Iterator[Drift]:
    """Drift unless indexes without a key of ours are refused. Absent means Unspecified: they are not (recorded).

    Indexes that were made before stay as they are: those a person has to make anew.
    """
    if not p["require_cmk"]:
        return
    at = "properties.encryptionWithCmk"
    drifts = list(service.expect(f"{at}.enforcement", one_of=("Enabled",), absent="Unspecified",
                                 known=("Disabled", "Unspecified")))
    yield from drifts
    if not drifts and service.text(f"{at}.encryptionComplianceStatus") == "noncompliant":
        yield from service.undecided(f"{at}.encryptionComplianceStatus", "some indexes have no key of ours")


def has_identity(service: Node, _: Parameters) -> Iterator[Drift]:
    """Drift while the service has no managed identity. Absent means None (recorded); some answers leave out the blank."""
    kind = service.text("identity.type").replace(" ", "")
    if kind != "systemassigned,userassigned":
        yield from service.expect("identity.type", one_of=("SystemAssigned", "UserAssigned"), absent="None")


def exfiltration_blocked(service: Node, p: Parameters) -> Iterator[Drift]:
    """Drift unless every way out for data is blocked. Absent means none is."""
    found = list(service.items("properties.dataExfiltrationProtections"))
    if p["require_block_all"] and not any(one.text() == "blockall" for one in found[:MOST_RULES]):
        yield from service.missing("properties.dataExfiltrationProtections", "BlockAll")


def links_approved(service: Node, p: Parameters) -> Iterator[Drift]:
    """Drift for each shared private link to a resource outside our subscriptions, or to a sub-resource not approved."""
    trusted = {fold(one) for one in (*p["trusted_subscriptions"], ids.subscription(service.id))}
    groups = {fold(one) for one in p["allowed_group_ids"]}
    for link in islice(service.items(LINKS, "name"), MOST_RULES):
        target = link.get("properties.privateLinkResourceId")
        subscription = _subscription(target)
        if not subscription:
            yield from link.undecided("properties.privateLinkResourceId", "the link names no resource that we can read")
        elif subscription not in trusted or (groups and link.text("properties.groupId") not in groups):
            yield from link.unwanted("a private way into a resource that is not approved")


def _subscription(target: Any) -> str:
    try:
        return fold(ids.subscription(ids.parse(target))) if isinstance(target, str) else ""
    except Malformed:
        return ""


def can_be_private(service: Node, _: Parameters) -> Iterator[Drift]:
    """Drift if the service has a SKU without private links: free, or one that we do not know. Fixed at creation."""
    sku = service.text("sku.name")
    if sku not in SKUS:
        note = "a free service cannot be isolated, nor moved to another SKU" if sku == "free" else "an unknown SKU"
        yield from service.undecided("sku.name", note)


WRITE = (f"{SERVICE}/write",)

CONTROLS = (
    Control(
        "search-public-network-access", public_endpoint_closed, on=SERVICE, severity="high", response="revert",
        triggered_by=WRITE,
        title="Search service is closed to the public network",
        why="the index behind the AI application can be queried from anywhere",
        breaks="indexers, the portal and clients without a private endpoint",
        parameters={"allow_selected_ips": False, "allow_perimeter": False},
        floors={"allow_selected_ips": floors.flag, "allow_perimeter": floors.flag},
        drift={ACCESS: "Enabled"},
    ),
    Control(
        "search-network-rules", narrow_rules_only, on=SERVICE, severity="medium", response="revert", triggered_by=WRITE,
        title="Search firewall lets in approved, narrow ranges only",
        why="a broad range, or every Azure service, undoes the firewall",
        breaks="clients behind the removed ranges",
        parameters={"allowed_ip_ranges": (), "min_prefix_length": 24, "allowed_bypass": ("None", "AzureServices")},
        floors={"allowed_ip_ranges": addresses.ranges_are_narrow, "min_prefix_length": addresses.prefix_is_long(4),
                "allowed_bypass": floors.some_of(("None", "AzureServices"))},
        drift={f"{RULES}[value='0.0.0.0/1']": {"value": "0.0.0.0/1"}},
    ),
    Control(
        "search-local-auth", keys_off, on=SERVICE, severity="high", response="revert",
        triggered_by=(*WRITE, f"{SERVICE}/listAdminKeys/action", f"{SERVICE}/regenerateAdminKey/action"),
        title="Search service takes no keys",
        why="an admin key rules the index and a query key reads every document, both without a name",
        breaks="clients and indexers that use keys",
        drift={"properties.disableLocalAuth": False, "properties.authOptions": {"apiKeyOnly": {}}},
    ),
    Control(
        "search-cmk-enforcement", customer_keys_enforced, on=SERVICE, severity="low", response="revert", triggered_by=WRITE,
        title="Search service enforces customer-managed keys",
        why="indexes that nobody can revoke access to may be created",
        breaks="creating indexes without a key", asks="teams that have no key yet could create no index",
        parameters={"require_cmk": True}, floors={"require_cmk": floors.flag},
        drift={"properties.encryptionWithCmk.enforcement": "Disabled"},
    ),
    Control(
        "search-identity", has_identity, on=SERVICE, severity="low", response="revert", triggered_by=WRITE,
        title="Search service has a managed identity",
        why="without one its indexers hold connection strings and keys",
        breaks="nothing; removing one that indexers use would",
        drift={"identity.type": "None"},
    ),
    Control(
        "search-data-exfiltration-protection", exfiltration_blocked, on=SERVICE, severity="low", response="report",
        triggered_by=WRITE,
        title="Search service blocks ways out for data",
        why="indexers and skillsets can push content to resources outside",
        breaks="skillsets that call outside endpoints; what else it stops was not verified, so only a person sets it",
        parameters={"require_block_all": True}, floors={"require_block_all": floors.flag},
        drift={"properties.dataExfiltrationProtections[='BlockAll']": ABSENT},
    ),
    Control(
        "search-shared-private-link", links_approved, on=SERVICE, severity="medium", response="revert",
        triggered_by=(*WRITE, f"{SERVICE}/sharedPrivateLinkResources/write", f"{SERVICE}/sharedPrivateLinkResources/delete"),
        title="Shared private links lead to approved resources only",
        why="a private way out of the index, into another team's or tenant's resource",
        breaks="indexers that use it; put back, it has to be approved at its target again",
        parameters={"trusted_subscriptions": (), "allowed_group_ids": ()},
        floors={"trusted_subscriptions": floors.guids, "allowed_group_ids": floors.names},
        drift={f"{LINKS}[name='elsewhere']": {"name": "elsewhere", "properties": {
            "privateLinkResourceId": "/subscriptions/00000000-0000-0000-0000-0000000000ff/resourceGroups/rg-else/providers/"
                                     "Microsoft.Storage/storageAccounts/stelsewhere",
            "groupId": "blob", "requestMessage": "Please approve", "status": "Approved", "provisioningState": "Succeeded"}}},
    ),
    Control(
        "search-private-link-capable-sku", can_be_private, on=SERVICE, severity="low", response="report", triggered_by=WRITE,
        title="Search service has a SKU that can be private",
        why="a free service is open to everybody and cannot be isolated",
        breaks="cannot be changed: it takes a new service",
        drift={"sku.name": "free"},
    ),
)

LEFT_OUT: tuple[tuple[str, str], ...] = (
    ("search-diagnostic-logs", "diag-search looks at the same settings, and at where they lead as well"),
)
