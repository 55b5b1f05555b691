"""Cognitive Services accounts (Azure OpenAI, AI services, Foundry): network, keys, outbound traffic, identity.

Defaults and enumerations: schema 2026-07-01; what GET leaves out when never set: recorded at 2025-06-01.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from detectors import addresses, floors
from guardrail import ids
from guardrail.documents import Node
from guardrail.errors import Malformed
from guardrail.paths import ABSENT, fold
from guardrail.values import Control, Drift, Parameters

ACCOUNT = "Microsoft.CognitiveServices/accounts"
IP_RULES = "properties.networkAcls.ipRules"
BYPASS = "properties.networkAcls.bypass"
SUBDOMAIN = "properties.customSubDomainName"
ENDPOINTS = "properties.privateEndpointConnections"
STATUS = "properties.privateLinkServiceConnectionState.status"

# Rows of the catalogue that are no control of their own, and why.
LEFT_OUT: tuple[tuple[str, str], ...] = (
    ("cognitive-diagnostic-logs", "diag-cognitiveservices judges the same settings, their workspace and categories too"),
)


def public_endpoint_closed(account: Node, p: Parameters) -> Iterator[Drift]:
    """Drift while the public endpoint is open. Absent means Enabled; selected networks pass if a parameter says so."""
    if p["allow_selected_networks"] and account.text("properties.networkAcls.defaultAction") == "deny":
        return
    yield from account.expect("properties.publicNetworkAccess", one_of=("Disabled",), absent="Enabled")


def networks_denied_by_default(account: Node, _p: Parameters) -> Iterator[Drift]:
    """Drift while an open endpoint lets in every network that no rule names. No networkAcls at all means Allow."""
    if account.text("properties.publicNetworkAccess") == "disabled":
        return
    action = "properties.networkAcls.defaultAction"
    drifts = account.expect(action, one_of=("Deny",), absent="Allow")
    if account.text("properties.customSubDomainName"):
        yield from drifts
    else:
        for _ in drifts:
            yield from account.undecided(action, "networkAcls needs a customSubDomainName, which can be set only once")


def narrow_ranges_only(account: Node, p: Parameters) -> Iterator[Drift]:
    """Drift for each IP rule outside `allowed_ip_ranges` (if there are any), or wider than `min_prefix_length`.

    Without `allowed_ip_ranges` rules that touch are summed: 0.0.0.0/1 and 128.0.0.0/1 are the whole Internet. A value
    that is no IPv4 address or CIDR is left to a person: what Azure would make of it is not known.
    """
    allowed, shortest = addresses.cover(p["allowed_ip_ranges"]), p["min_prefix_length"]
    narrow = list[tuple[Node, addresses.Span]]()
    for rule in account.items(IP_RULES, "value"):
        value = rule.get("value")
        covered = addresses.spans(value) if isinstance(value, str) else None
        version, length = addresses.prefix(covered[0]) if covered else (0, 0)
        if covered is None or version != 4:
            yield from rule.undecided("", "no IPv4 address or CIDR")
        elif length < shortest or (p["allowed_ip_ranges"] and allowed.rest(covered)):
            yield from rule.unwanted("wider than min_prefix_length, or outside the approved ranges")
        else:
            narrow.append((rule, covered[0]))
    if not p["allowed_ip_ranges"]:
        sums = addresses.merged(span for _, span in narrow)
        wide = addresses.Cover(span for span in sums if addresses.prefix(span)[1] < shortest)
        for rule, span in narrow:
            if not wide.rest((span,)):
                yield from rule.unwanted("with its neighbours it is wider than min_prefix_length")


def keys_off(account: Node, p: Parameters) -> Iterator[Drift]:
    """Drift while keys work. Absent means false.

    Without a customSubDomainName tokens do not work either, so there a person decides.
    """
    if account.text("kind") in map(fold, p["exempt_kinds"]):
        return
    drifts = account.expect("properties.disableLocalAuth", one_of=(True,), absent=False)
    if account.text("properties.customSubDomainName"):
        yield from drifts
    else:
        for _ in drifts:
            yield from account.undecided("properties.disableLocalAuth", "without a subdomain only keys let anybody in")


def outbound_restricted(account: Node, p: Parameters) -> Iterator[Drift]:
    """Drift while the service may call any host, or one that is not in `allowed_fqdns`. Absent means false."""
    yield from account.expect("properties.restrictOutboundNetworkAccess", one_of=(True,), absent=False)
    allowed = {fold(host) for host in p["allowed_fqdns"]}
    for host in account.items("properties.allowedFqdnList"):
        value = host.get()
        if not isinstance(value, str) or fold(value) not in allowed:
            yield from host.unwanted()


def has_identity(account: Node, p: Parameters) -> Iterator[Drift]:
    """Drift while the account has no managed identity (absent means None), or not the kind that is required.

    Both spellings of the combined type occur: with a blank after the comma here, without in other services.
    """
    both = ("SystemAssigned, UserAssigned", "SystemAssigned,UserAssigned")
    if fold(p["required_identity_type"]) == "any":
        yield from account.expect("identity.type", one_of=("SystemAssigned", "UserAssigned", *both), absent="None")
    elif account.text("identity.type") == "userassigned":
        yield from account.expect("identity.type", one_of=both, known=("UserAssigned",))
    else:
        yield from account.expect("identity.type", one_of=("SystemAssigned", *both), absent="None")


def trusted_bypass_as_allowed(account: Node, p: Parameters) -> Iterator[Drift]:
    """Drift while trusted Azure services pass the firewall though they may not, or did not when last good.

    Absent is taken for AzureServices: the schema (2026-07-01) allows null and names no default.
    """
    was_closed = account.known_good.text(BYPASS) == "none"
    allowed = ("None",) if was_closed else ("None", *p["allowed_bypass"])
    drifts = account.expect(BYPASS, one_of=allowed, absent="AzureServices", known=("AzureServices",))
    if account.text(SUBDOMAIN):
        yield from drifts
    else:
        for _ in drifts:
            yield from account.undecided(BYPASS, "networkAcls needs a customSubDomainName, which can be set only once")


def subdomain_is_set(account: Node, _p: Parameters) -> Iterator[Drift]:
    """Drift without a custom subdomain, or while the endpoint is not that of the subdomain. Absent: regional endpoint.

    It can be set once and is unique in the world, so nothing picks one; setting it moves `endpoint` at once (recorded).
    """
    name = account.text(SUBDOMAIN)
    if not name:
        yield from account.undecided(SUBDOMAIN, "without one only keys work: no tokens, private endpoints or network rules")
    elif not account.text("properties.endpoint").startswith(f"https://{name}."):
        yield from account.undecided(SUBDOMAIN, "the endpoint is not that of the subdomain")


def private_endpoints_are_ours(account: Node, p: Parameters) -> Iterator[Drift]:
    """Drift for each approved connection from a subscription that is neither the account's own nor trusted.

    Rejecting keeps the connection and shuts it. States: schema 2026-07-01, an open list.
    """
    trusted = {ids.subscription(account.id), *map(fold, p["trusted_subscriptions"])}
    approved = 0
    for connection in account.items(ENDPOINTS, "name"):
        status = connection.text(STATUS)
        if status in ("pending", "rejected"):
            continue
        approved += status == "approved"
        owner = _subscription(connection.get("properties.privateEndpoint.id"))
        if status != "approved" or not owner:
            yield from connection.undecided(STATUS, "a state or an endpoint that we do not know")
        elif owner not in trusted:
            yield from connection.expect(STATUS, one_of=("Rejected",), known=("Approved",))
    if p["require_private_endpoint"] and not approved:
        yield from account.undecided(ENDPOINTS, "no approved private endpoint: making one takes a subnet")


def _subscription(id: Any) -> str:
    """The folded subscription of an id, "" if it is none."""
    try:
        return "" if id is ABSENT else ids.subscription(ids.parse(id))
    except (Malformed, TypeError):
        return ""


def _kinds(value: Any) -> str:
    """Floor: kinds by name; the kinds that serve models are never exempt."""
    if not isinstance(value, (list, tuple)) or not all(isinstance(one, str) and one.isalnum() for one in value):
        return "must be a list of kinds, without wildcards"
    serving = {"openai", "aiservices"} & {fold(one) for one in value}
    return f"exempts {', '.join(sorted(serving))}" if serving else ""


def _identity(value: Any) -> str:
    return "" if value in ("any", "SystemAssigned") else "must be any or SystemAssigned"


WRITE = (f"{ACCOUNT}/write",)

CONTROLS = (
    Control(
        "cognitive-public-network-access", public_endpoint_closed, on=ACCOUNT, severity="high", response="revert",
        triggered_by=WRITE,
        title="AI services account is closed to the public network",
        why="anyone on the Internet who gets hold of a key or token can call the models and read stored files",
        breaks="callers without a private endpoint, the playground from outside, services on the trusted bypass",
        parameters={"allow_selected_networks": False}, floors={"allow_selected_networks": floors.flag},
        drift={"properties.publicNetworkAccess": "Enabled"},
    ),
    Control(
        "cognitive-network-acls-default-deny", networks_denied_by_default, on=ACCOUNT, severity="high",
        response="revert", triggered_by=WRITE,
        title="Networks that no rule names are denied",
        why="selected networks are for show while the default action is Allow",
        breaks="callers from addresses that are not in the rules yet",
        drift={"properties.publicNetworkAccess": "Enabled", "properties.networkAcls.defaultAction": "Allow"},
    ),
    Control(
        "cognitive-network-acls-ip-rules", narrow_ranges_only, on=ACCOUNT, severity="high", response="revert",
        triggered_by=WRITE,
        title="Firewall lets in approved, narrow IP ranges only",
        why="0.0.0.0/0, or a broad range, undoes deny by default",
        breaks="clients behind the removed range",
        parameters={"allowed_ip_ranges": (), "min_prefix_length": 24},
        floors={"allowed_ip_ranges": addresses.ranges_are_narrow, "min_prefix_length": addresses.prefix_is_long(4)},
        drift={f"{IP_RULES}[value='0.0.0.0/0']": {"value": "0.0.0.0/0"}},
    ),
    Control(
        "cognitive-local-auth-disabled", keys_off, on=ACCOUNT, severity="high", response="revert",
        triggered_by=(*WRITE, f"{ACCOUNT}/regenerateKey/action", f"{ACCOUNT}/listKeys/action"),
        title="Keys are switched off",
        why="a leaked key is full access to the data plane without a name, Conditional Access or roles",
        breaks="clients that send an api-key header, older studio features, and connections that use keys",
        parameters={"exempt_kinds": ()}, floors={"exempt_kinds": _kinds},
        drift={"properties.disableLocalAuth": False},
    ),
    Control(
        "cognitive-outbound-restricted", outbound_restricted, on=ACCOUNT, severity="medium", response="revert",
        triggered_by=WRITE,
        title="Outbound traffic is restricted to approved hosts",
        why="the service can be made to fetch from or push to any URL: a way out for data",
        breaks="image and document URLs, on-your-data and speech batch sources outside the list",
        parameters={"allowed_fqdns": ()}, floors={"allowed_fqdns": floors.hosts},
        drift={"properties.restrictOutboundNetworkAccess": False},
    ),
    Control(
        "cognitive-managed-identity", has_identity, on=ACCOUNT, severity="medium", response="revert",
        triggered_by=WRITE,
        title="Account has a managed identity",
        why="without one it needs keys or connection strings for storage, Key Vault and Search",
        breaks="nothing; removing one that customer-managed keys use would",
        parameters={"required_identity_type": "any"}, floors={"required_identity_type": _identity},
        drift={"identity.type": "None"},
    ),
    Control(
        "cognitive-network-acls-bypass", trusted_bypass_as_allowed, on=ACCOUNT, severity="low", response="revert",
        triggered_by=WRITE, learns=True,
        title="Trusted Azure services pass the firewall only where they may",
        why="any resource of a trusted service, whoever owns it, can reach the account around the rules",
        breaks="AI Search indexers, Foundry and other trusted callers that come with a managed identity",
        parameters={"allowed_bypass": ("AzureServices", "None")},
        floors={"allowed_bypass": floors.some_of(("AzureServices", "None"), always=("None",))},
        drift={BYPASS: "AzureServices"},
    ),
    Control(
        "cognitive-custom-subdomain", subdomain_is_set, on=ACCOUNT, severity="medium", response="report",
        triggered_by=WRITE,
        title="Account has a custom subdomain",
        why="without it neither Entra tokens nor private endpoints nor network rules can be used",
        breaks="clients that know the regional endpoint", drift={SUBDOMAIN: ABSENT},
    ),
    Control(
        "cognitive-private-endpoint-approved", private_endpoints_are_ours, on=ACCOUNT, severity="medium",
        response="revert", asks="a rejected connection may never be approved again",
        triggered_by=(*WRITE, *(f"{ACCOUNT}/privateEndpointConnections/{verb}" for verb in ("write", "delete"))),
        title="Private endpoints come from our own subscriptions",
        why="one approved from a foreign subscription is a hidden way in that survives the public lockdown",
        breaks="the network behind that endpoint, also a managed network of a Microsoft service",
        parameters={"trusted_subscriptions": (), "require_private_endpoint": False},
        floors={"trusted_subscriptions": floors.guids, "require_private_endpoint": floors.flag},
        drift={f"{ENDPOINTS}[name='pe-foreign']": {
            "name": "pe-foreign", "properties": {
                "privateEndpoint": {"id": "/subscriptions/00000000-0000-0000-0000-00000000000f/resourceGroups/rg"
                                          "/providers/Microsoft.Network/privateEndpoints/pe-foreign"},
                "groupIds": ["account"],
                "privateLinkServiceConnectionState": {"status": "Approved", "description": "Approved",
                                                      "actionsRequired": "None"}}}},
    ),
)
