"""Microsoft.Network: a write is a PUT of the whole, PATCH takes tags; rules, subnets, routes stand in their parent."""

from __future__ import annotations

from collections.abc import Callable

from simulator.paths import drop, items, read, section
from simulator.types.habits import Answer, Birth, Body, Habits, Part

NETWORK = "Microsoft.Network"
NSG, VNET, ROUTES = f"{NETWORK}/networkSecurityGroups", f"{NETWORK}/virtualNetworks", f"{NETWORK}/routeTables"
VERSION = "2025-07-01"


def _long(type: str, **more: object) -> Habits:
    """What all of them share: 201 or 200 with Azure-AsyncOperation, ETag in header and body, DELETE 202."""
    habits: dict[str, object] = {
        "new": Answer(201, "aao", "Updating"),
        "existing": Answer(200, "aao", "Updating"),
        "patch": Answer(200),
        "patchable": ("tags",),
        "delete": Answer(202, "aao loc", body=""),
        "etag": "reads",
        "weak": True,
        "keep": (),
        "system_data": "",
        "orphan": "ResourceNotFound",
        "version": VERSION,
        **more,
    }
    return Habits(type, **habits)  # type: ignore[arg-type]


def _guid(body: Body, birth: Birth) -> None:
    section(body, "properties").setdefault("resourceGuid", birth.guid("resource"))


# security groups

DEFAULT_RULES = (
    (
        "AllowVnetInBound",
        "Allow inbound traffic from all VMs in VNET",
        "*",
        "VirtualNetwork",
        "VirtualNetwork",
        "Allow",
        65000,
        "Inbound",
    ),
    (
        "AllowAzureLoadBalancerInBound",
        "Allow inbound traffic from azure load balancer",
        "*",
        "AzureLoadBalancer",
        "*",
        "Allow",
        65001,
        "Inbound",
    ),
    ("DenyAllInBound", "Deny all inbound traffic", "*", "*", "*", "Deny", 65500, "Inbound"),
    (
        "AllowVnetOutBound",
        "Allow outbound traffic from all VMs to all VMs in VNET",
        "*",
        "VirtualNetwork",
        "VirtualNetwork",
        "Allow",
        65000,
        "Outbound",
    ),
    (
        "AllowInternetOutBound",
        "Allow outbound traffic from all VMs to Internet",
        "*",
        "*",
        "Internet",
        "Allow",
        65001,
        "Outbound",
    ),
    ("DenyAllOutBound", "Deny all outbound traffic", "*", "*", "*", "Deny", 65500, "Outbound"),
)
LISTS = ("sourcePortRanges", "destinationPortRanges", "sourceAddressPrefixes", "destinationAddressPrefixes")


def group_finished(view: Body, version: str) -> None:
    """The six default rules that every group has; they never change and are shown with the group's ETag."""
    section(view, "properties")["defaultSecurityRules"] = [
        {
            "name": name,
            "id": f"{view.get('id')}/defaultSecurityRules/{name}",
            "etag": view.get("etag"),
            "type": f"{NSG}/defaultSecurityRules",
            "properties": {
                "provisioningState": "Succeeded",
                "description": text,
                "protocol": protocol,
                "sourcePortRange": "*",
                "destinationPortRange": "*",
                "sourceAddressPrefix": source,
                "destinationAddressPrefix": target,
                "access": access,
                "priority": priority,
                "direction": direction,
                **{key: [] for key in LISTS},
            },
        }
        for name, text, protocol, source, target, access, priority, direction in DEFAULT_RULES
    ]


GROUPS = (
    _long(
        NSG,
        readonly=(
            "properties.resourceGuid",
            "properties.defaultSecurityRules",
            "properties.networkInterfaces",
            "properties.subnets",
            "properties.flowLogs",
        ),
        finish=group_finished,
        parts={"properties.securityRules": Part(f"{NSG}/securityRules")},
        born=_guid,
    ),
    _long(
        f"{NSG}/securityRules",
        patch=None,
        shown={f"properties.{key}": [] for key in LISTS},
    ),
)

# virtual networks


SUBNET = f"{VNET}/subnets"
DELEGATED = {
    "microsoft.web/serverfarms": ("action",),
    "microsoft.sql/managedinstances": (
        "join/action",
        "prepareNetworkPolicies/action",
        "unprepareNetworkPolicies/action",
    ),
}
"""Service -> what a delegation to it allows on the subnet."""


def subnet_finished(view: Body, version: str) -> None:
    """Delegations are shown as resources of their own, with what the service may do."""
    for item in items(view, "properties.delegations"):
        item.update(id=f"{view['id']}/delegations/{item.get('name')}", etag=view.get("etag"), type=f"{SUBNET}/delegations")
        properties = section(item, "properties")
        properties["provisioningState"] = "Succeeded"
        actions = DELEGATED.get(str(properties.get("serviceName")).lower(), ("join/action",))
        properties["actions"] = [f"{SUBNET}/{action}" for action in actions]


NETWORKS = (
    _long(
        VNET,
        readonly=("properties.resourceGuid",),
        shown={
            "properties.enableDdosProtection": False,
            "properties.enableVmProtection": False,
            "properties.dhcpOptions?.dnsServers": [],
            "properties.encryption?.enforcement": "AllowUnencrypted",
        },
        until={"properties.enableVmProtection": "2019-01-01"},
        parts={
            "properties.subnets": Part(f"{VNET}/subnets", kept_from="2023-09-01"),
            "properties.virtualNetworkPeerings": Part(f"{VNET}/virtualNetworkPeerings", kept_from="0"),
        },
        born=_guid,
    ),
    _long(
        f"{VNET}/subnets",
        patch=None,
        finish=subnet_finished,
        readonly=("properties.ipConfigurations", "properties.privateEndpoints", "properties.purpose"),
        shown={
            "properties.delegations": [],
            "properties.privateEndpointNetworkPolicies": "Disabled",
            "properties.privateLinkServiceNetworkPolicies": "Enabled",
            "properties.serviceEndpoints[].locations": ["*"],
            "properties.serviceEndpoints[].provisioningState": "Succeeded",
        },
    ),
    _long(
        f"{VNET}/virtualNetworkPeerings",
        patch=None,
        missing="NotFound",
        readonly=("properties.resourceGuid", "properties.peeringState", "properties.peeringSyncLevel"),
        since={"properties.peeringSyncLevel": "2021-01-01", "properties.peerCompleteVnets": "2021-01-01"},
        shown={
            "properties.peerCompleteVnets": True,
            "properties.routeServiceVips": {},
            "properties.peeringState": "Initiated",
            "properties.peeringSyncLevel": "RemoteNotInSync",
            "properties.doNotVerifyRemoteGateways": False,
            "properties.useRemoteGateways": False,
            "properties.allowForwardedTraffic": False,
            "properties.allowGatewayTransit": False,
            "properties.allowVirtualNetworkAccess": True,
        },
        born=_guid,
    ),
)

# routes, firewalls, plans, private endpoints, flow logs

FIREWALL, ENDPOINT = f"{NETWORK}/azureFirewalls", f"{NETWORK}/privateEndpoints"


def _items(type: str, *lists: str) -> Callable[[Body, str], None]:
    """Items of these lists are shown as resources of their own: id, type, the parent's ETag, provisioningState."""

    def finish(view: Body, version: str) -> None:
        for name in lists:
            for item in items(view, f"properties.{name}"):
                item.update(id=f"{view['id']}/{name}/{item.get('name')}", etag=view.get("etag"), type=f"{type}/{name}")
                section(item, "properties")["provisioningState"] = "Succeeded"

    return finish


def policy_settled(before: Body | None, after: Body, sent: Body) -> None:
    """What is off is not kept; the name of the private ranges is kept as the ranges."""
    for path, off in (
        ("properties.dnsSettings.enableProxy", False),
        ("properties.snat.autoLearnPrivateRanges", "Disabled"),
    ):
        if read(after, path) == off:
            drop(after, path)
    ranges = read(after, "properties.snat.privateRanges")
    if isinstance(ranges, list) and "IANAPrivateRanges" in ranges:
        at = ranges.index("IANAPrivateRanges")
        ranges[at : at + 1] = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"]


def flow_log_born(body: Body, birth: Birth) -> None:
    section(body, "properties").setdefault("targetResourceGuid", birth.guid("target"))


def flow_log_finished(view: Body, version: str) -> None:
    """Until 2022 an analytics configuration that was never made is shown as one that is off, later as an empty one."""
    known = section(view, "properties.flowAnalyticsConfiguration")
    if version and version < "2023-01-01":
        section(known, "networkWatcherFlowAnalyticsConfiguration").setdefault("enabled", False)


COLLECTIONS = ("networkRuleCollections", "applicationRuleCollections", "natRuleCollections")
RULES: dict[str, Body] = {
    "networkRuleCollections": {
        key: []
        for key in (
            "sourceAddresses",
            "destinationAddresses",
            "sourceIpGroups",
            "destinationIpGroups",
            "destinationFqdns",
        )
    },
    "applicationRuleCollections": {
        "actions": [],
        "direction": "Inbound",
        "fqdnTags": [],
        "priority": 0,
        "sourceAddresses": [],
        "sourceIpGroups": [],
    },
    "natRuleCollections": {"sourceAddresses": [], "sourceIpGroups": []},
}
STATE = "properties.privateLinkServiceConnections[].properties.privateLinkServiceConnectionState"
MANUAL = STATE.replace("privateLink", "manualPrivateLink", 1)
REST = (
    _long(
        ROUTES,
        parts={"properties.routes": Part(f"{ROUTES}/routes")},
        shown={"properties.disableBgpRoutePropagation": False},
        readonly=("properties.resourceGuid", "properties.subnets"),
        born=_guid,
    ),
    _long(
        f"{ROUTES}/routes",
        patch=None,
        missing="NotFound",
        shown={"properties.hasBgpOverride": False},
        since={"properties.hasBgpOverride": "2020-01-01"},
    ),
    _long(
        FIREWALL,
        shown={
            "properties.sku.name": "AZFW_VNet",
            "properties.threatIntelMode": "Alert",
            "properties.sku.tier": "Standard",
            "properties.additionalProperties": {},
            "properties.ipConfigurations": [],
            **{f"properties.{name}": [] for name in COLLECTIONS},
            **{
                f"properties.{name}[].properties.rules[].{key}": value
                for name, keys in RULES.items()
                for key, value in keys.items()
            },
        },
        finish=_items(FIREWALL, *COLLECTIONS, "ipConfigurations"),
    ),
    _long(
        f"{NETWORK}/firewallPolicies",
        weak=False,
        delete=Answer(200, body=""),
        readonly=("properties.childPolicies", "properties.ruleCollectionGroups", "properties.firewalls"),
        shown={
            "properties.threatIntelMode": "Alert",
            "properties.sku.tier": "Standard",
            "properties.childPolicies": [],
            "properties.ruleCollectionGroups": [],
            "properties.firewalls": [],
            "properties.intrusionDetection?.configuration?.bypassTrafficSettings": [],
        },
        since={"properties.sku": "2020-07-01"},
        settle=policy_settled,
    ),
    _long(f"{NETWORK}/ddosProtectionPlans", readonly=("properties.resourceGuid", "properties.virtualNetworks")),
    _long(
        ENDPOINT,
        patch=None,
        readonly=("properties.resourceGuid", "properties.networkInterfaces", "properties.customDnsConfigs"),
        shown={
            "properties.customDnsConfigs": [],
            "properties.customNetworkInterfaceName": "",
            "properties.ipConfigurations": [],
            "properties.privateLinkServiceConnections": [],
            "properties.manualPrivateLinkServiceConnections": [],
            "properties.ipVersionType": "IPv4",
            f"{STATE}.status": "Approved",
            f"{STATE}.description": "Auto-Approved",
            f"{STATE}.actionsRequired": "None",
            f"{MANUAL}.status": "Pending",
            f"{MANUAL}.description": "Awaiting Approval",
            f"{MANUAL}.actionsRequired": "None",
        },
        since={"properties.ipVersionType": "2024-01-01"},
        finish=_items(ENDPOINT, "privateLinkServiceConnections", "manualPrivateLinkServiceConnections", "ipConfigurations"),
        born=_guid,
    ),
    _long(
        f"{NETWORK}/networkWatchers/flowLogs",
        etag="body",
        readonly=("properties.targetResourceGuid",),
        shown={
            "properties.format.type": "JSON",
            "properties.format.version": 1,
            "properties.retentionPolicy.days": 0,
            "properties.retentionPolicy.enabled": False,
        },
        finish=flow_log_finished,
        born=flow_log_born,
    ),
    _long(f"{NETWORK}/networkWatchers"),
)

TYPES: tuple[Habits, ...] = (*GROUPS, *NETWORKS, *REST)
