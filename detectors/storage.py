"""Storage accounts: who reaches the data, over which wire, with which key. Facts: published types, 2026-04-01."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from detectors import addresses
from guardrail.documents import Node
from guardrail.paths import ABSENT, fold
from guardrail.values import Control, Drift, Parameters

ACCOUNT = "Microsoft.Storage/storageAccounts"
WRITTEN = (ACCOUNT + "/write",)

MOST_RULES = 2_000      # Azure takes some hundred
TLS = ("TLS1_0", "TLS1_1", "TLS1_2", "TLS1_3")

KEY_SOURCE = "properties.encryption.keySource"
VAULT_URI = "properties.encryption.keyvaultproperties.keyvaulturi"
KEY_VERSION = "properties.encryption.keyvaultproperties.keyversion"
KEY_IDENTITY = "properties.encryption.identity.userAssignedIdentity"
KEY = (KEY_SOURCE, VAULT_URI, "properties.encryption.keyvaultproperties.keyname", KEY_VERSION, KEY_IDENTITY,
       "properties.encryption.identity.federatedIdentityClientId")


def public_endpoint_closed(account: Node, parameters: Parameters) -> Iterator[Drift]:
    """Drift unless publicNetworkAccess is Disabled. Absent means Enabled; a perimeter is as good as its own rules."""
    closed = ("Disabled", "SecuredByPerimeter") if parameters["allow_perimeter"] else ("Disabled",)
    yield from account.expect(
        "properties.publicNetworkAccess", one_of=closed, absent="Enabled", known=("SecuredByPerimeter",))


def firewall_denies_by_default(account: Node, _: Parameters) -> Iterator[Drift]:
    """Drift where the public endpoint is open and its firewall allows by default. Absent networkAcls allow everyone."""
    if account.text("properties.publicNetworkAccess") != "disabled":
        yield from account.expect("properties.networkAcls.defaultAction", one_of=("Deny",), absent="Allow")


def ip_rules_approved(account: Node, parameters: Parameters) -> Iterator[Drift]:
    """Each IP rule outside the approved ranges, or wider than the shortest prefix, is unwanted. None is fine."""
    allowed = addresses.cover(parameters["allowed_ip_ranges"])
    shortest = {4: parameters["min_prefix_v4"], 6: parameters["min_prefix_v6"]}
    for field in ("ipRules", "ipv6Rules"):
        listed = f"properties.networkAcls.{field}"
        rules = list(islice(account.items(listed, "value"), MOST_RULES + 1))
        if len(rules) > MOST_RULES:
            yield from account.undecided(listed, "too many rules to follow")
            continue
        for rule in rules:
            covered = addresses.spans(rule.text("value"))
            if covered is None:
                yield from rule.undecided("", "the rule names no address that we can read")
            elif allowed.rest(covered) or any(_is_wide(span, shortest) for span in covered):
                yield from rule.unwanted("an address outside the approved ranges")


def _is_wide(span: addresses.Span, shortest: Mapping[int, int]) -> bool:
    version, length = addresses.prefix(span)
    return length < shortest[version]


def anonymous_blobs_refused(account: Node, parameters: Parameters) -> Iterator[Drift]:
    """Drift unless allowBlobPublicAccess is false. Absent means false today, and true for accounts of older days."""
    absent = not parameters["absent_is_ok"]
    yield from account.expect("properties.allowBlobPublicAccess", one_of=(False,), absent=absent)


def https_only(account: Node, parameters: Parameters) -> Iterator[Drift]:
    """Drift unless supportsHttpsTrafficOnly is true, the default since 2019-04-01. NFS 3.0 works without it only."""
    if parameters["exempt_nfs"] and account.get("properties.isNfsV3Enabled") is True:
        return
    yield from account.expect("properties.supportsHttpsTrafficOnly", one_of=(True,), absent=True)


def tls_is_current(account: Node, parameters: Parameters) -> Iterator[Drift]:
    """Drift below the wanted minimumTlsVersion. Absent means TLS 1.0."""
    wanted = parameters["minimum_tls"]
    yield from account.expect("properties.minimumTlsVersion", at_least=wanted, order=TLS, absent="TLS1_0")


def shared_keys_refused(account: Node, _: Parameters) -> Iterator[Drift]:
    """Drift unless account keys open nothing. Absent or null allowSharedKeyAccess means true; a service may differ."""
    yield from account.expect("properties.allowSharedKeyAccess", one_of=(False,), absent=True)
    for service in ("blob", "file", "queue", "table"):
        path = f"properties.allowSharedKeyAccessForServices.{service}.enabled"
        yield from account.expect(path, one_of=(False,), absent=False)


def replication_stays_in_tenant(account: Node, parameters: Parameters) -> Iterator[Drift]:
    """Drift unless allowCrossTenantReplication is false. Absent is false on new accounts, and true on older ones."""
    absent = not parameters["absent_is_ok"]
    yield from account.expect("properties.allowCrossTenantReplication", one_of=(False,), absent=absent)


def customer_key_kept(account: Node, parameters: Parameters) -> Iterator[Drift]:
    """Drift unless the data is encrypted with a key of ours, from an approved vault, of the newest version.

    Absent keySource means the platform's key. What is wanted is what was known good, and nothing else: a wrong key
    makes the data unreadable. Without that, or with its identity gone, a person decides.
    """
    was = account.known_good
    if account.text(KEY_SOURCE) != "microsoft.keyvault":
        if parameters["required"] or was.text(KEY_SOURCE) == "microsoft.keyvault":
            yield from _as_it_was(account, was, KEY, parameters, "no customer-managed key, and none is known good")
        return
    if not _is_approved(account, was, parameters):
        yield from _as_it_was(account, was, KEY, parameters, "the key comes from a vault that is not approved")
    elif parameters["require_autorotate"] and account.text(KEY_VERSION):
        yield from _as_it_was(account, was, (KEY_VERSION,), parameters, "the key is pinned to one version")


def _as_it_was(account: Node, was: Node, paths: Sequence[str], parameters: Parameters, note: str) -> Iterator[Drift]:
    identity = was.text(KEY_IDENTITY)
    assigned = account.get("identity.userAssignedIdentities")
    is_there = not identity or identity in map(fold, assigned if isinstance(assigned, Mapping) else ())
    if was.text(KEY_SOURCE) != "microsoft.keyvault" or not _is_approved(was, was, parameters) or not is_there:
        yield from account.undecided(paths[0] if account.get(paths[0]) is not ABSENT else KEY_SOURCE, note)
        return
    for path in paths:
        known = ("Microsoft.Storage", "Microsoft.Keyvault") if path == KEY_SOURCE else (account.get(path),)
        yield from account.expect(path, one_of=(was.get(path),), known=known)


def _is_approved(account: Node, was: Node, parameters: Parameters) -> bool:
    """By the list of vaults; without a list by what was known good, and what was first seen passes."""
    host = vault_host(account.text(VAULT_URI))
    if not host or parameters["allowed_vaults"]:
        return host in map(fold, parameters["allowed_vaults"])
    return host == (vault_host(was.text(VAULT_URI)) or host)


_VAULT_URI = re.compile(r"https://([a-z0-9-]+(?:\.[a-z0-9-]+)+)(?::443)?/?", re.ASCII)


def vault_host(uri: str) -> str:
    """The host of a vault's URI in lower case; "" for anything but https://host/."""
    found = _VAULT_URI.fullmatch(fold(uri))
    return found[1] if found else ""


def vaults_are_named(value: Any) -> str:
    """Floor of allowed_vaults: each a whole host name."""
    named = isinstance(value, Sequence) and not isinstance(value, str) and all(
        isinstance(host, str) and vault_host(f"https://{host}") for host in value)
    return "" if named else "is a list of host names such as kv-ai-dev.vault.azure.net"


def tls_is_settable(value: Any) -> str:
    """Floor of minimum_tls. The service takes no minimum of TLS1_3 (types of 2026-04-01): it would never end."""
    return "" if value == "TLS1_2" else "is TLS1_2: less is weak, and Azure accepts no minimum of TLS1_3"


CONTROLS = (
    Control(
        "storage-public-network-access", public_endpoint_closed, on=ACCOUNT, severity="high", response="revert",
        title="The public endpoint is closed",
        why="an open public endpoint leaves training data one leaked key or SAS away from the Internet",
        breaks="callers without a private endpoint: CI agents, browsing in the portal, content shares of Functions",
        triggered_by=(*WRITTEN, "Microsoft.Network/networkSecurityPerimeters/resourceAssociations/write",
                      "Microsoft.Network/networkSecurityPerimeters/resourceAssociations/delete"),
        parameters={"allow_perimeter": False},
        drift={"properties.publicNetworkAccess": "Enabled"},
    ),
    Control(
        "storage-network-default-action", firewall_denies_by_default, on=ACCOUNT, severity="high", response="revert",
        title="The firewall denies by default",
        why="a firewall that allows by default makes its rules decoration",
        breaks="clients outside the listed subnets and addresses",
        triggered_by=WRITTEN,
        # closed to the public the firewall is not asked, so this cannot drift without the endpoint
        drift={"properties.publicNetworkAccess": "Enabled", "properties.networkAcls.defaultAction": "Allow"},
    ),
    Control(
        "storage-network-ip-rules", ip_rules_approved, on=ACCOUNT, severity="high", response="revert",
        title="Each IP rule is narrow and approved",
        why="half the Internet or a personal address in the allow-list reopens the account quietly",
        breaks="the operator or partner who added the address",
        triggered_by=WRITTEN,
        parameters={"allowed_ip_ranges": (), "min_prefix_v4": 24, "min_prefix_v6": 48},
        floors={"allowed_ip_ranges": addresses.ranges_are_narrow, "min_prefix_v4": addresses.prefix_is_long(4),
                "min_prefix_v6": addresses.prefix_is_long(6)},
        drift={"properties.networkAcls.ipRules[value='0.0.0.0/1']": {"value": "0.0.0.0/1", "action": "Allow"}},
    ),
    Control(
        "storage-blob-anonymous-access", anonymous_blobs_refused, on=ACCOUNT, severity="critical", response="revert",
        title="Anonymous access to blobs is refused",
        why="one container flipped to public shows the data sets to search engines",
        breaks="public web assets and open data sets served straight from blobs",
        triggered_by=WRITTEN,
        parameters={"absent_is_ok": False},
        drift={"properties.allowBlobPublicAccess": True},
    ),
    Control(
        "storage-https-only", https_only, on=ACCOUNT, severity="high", response="revert",
        title="Secure transfer is required",
        why="clear text leaks data and SAS tokens",
        breaks="NFS 3.0 accounts, clients of HTTP and SMB 2.1",
        triggered_by=WRITTEN,
        parameters={"exempt_nfs": True},
        drift={"properties.supportsHttpsTrafficOnly": False},
    ),
    Control(
        "storage-minimum-tls", tls_is_current, on=ACCOUNT, severity="medium", response="revert",
        title="TLS 1.2 or better is required",
        why="old TLS can be downgraded and read",
        breaks="very old clients",
        triggered_by=WRITTEN,
        parameters={"minimum_tls": "TLS1_2"},
        floors={"minimum_tls": tls_is_settable},
        drift={"properties.minimumTlsVersion": "TLS1_0"},
    ),
    Control(
        "storage-shared-key-access", shared_keys_refused, on=ACCOUNT, severity="high", response="report",
        title="Account keys open nothing",
        why="keys bypass Entra identities, conditional access and the trail of who did what",
        breaks="key-based datastores of Azure ML, connection strings of Functions, SAS of accounts, Azure Files",
        triggered_by=WRITTEN,
        drift={"properties.allowSharedKeyAccess": True},
    ),
    Control(
        "storage-cross-tenant-replication", replication_stays_in_tenant, on=ACCOUNT, severity="high", response="revert",
        title="Objects are not replicated to other tenants",
        why="object replication to a foreign tenant is an exfiltration channel that Azure itself runs",
        breaks="replication to a partner's tenant",
        triggered_by=(*WRITTEN, ACCOUNT + "/objectReplicationPolicies/write"),
        parameters={"absent_is_ok": False},
        drift={"properties.allowCrossTenantReplication": True},
    ),
    Control(
        "storage-cmk", customer_key_kept, on=ACCOUNT, severity="medium", response="revert",
        title="The data is encrypted with a customer-managed key",
        why="without a key of our own nobody can revoke access to training data and models",
        breaks="the data is unreadable if key or identity are wrong",
        triggered_by=WRITTEN, learns=True,
        parameters={"required": True, "allowed_vaults": (), "require_autorotate": True},
        floors={"allowed_vaults": vaults_are_named},
        # as Azure does it: going back to the platform's key drops the vault's properties (recorded)
        drift={KEY_SOURCE: "Microsoft.Storage", "properties.encryption.keyvaultproperties": ABSENT,
               "properties.encryption.identity": ABSENT},
    ),
)
