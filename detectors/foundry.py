"""Foundry: projects, their connections, capability hosts, applications, and the networks that agents run in.

Connections and capability hosts stand under an account and under each of its projects, in the same form: one check,
two controls. Enumerations: schema 2026-07-01. ARM never shows a connection's secret.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from detectors import floors
from guardrail import ids
from guardrail.documents import Node
from guardrail.errors import Malformed
from guardrail.paths import ABSENT, fold, show
from guardrail.values import Check, Control, Drift, Parameters, Severity

ACCOUNT = "Microsoft.CognitiveServices/accounts"
PROJECT = f"{ACCOUNT}/projects"
CONNECTIONS = "+connections"
HOSTS = "+capabilityHosts"
NETWORKS = "+managedNetworks"
APPLICATIONS = "+applications"
PROJECTS_ALLOWED = "properties.allowProjectManagement"
INJECTIONS = "properties.networkInjections"
ISOLATION = ("Disabled", "AllowInternetOutbound", "AllowOnlyApprovedOutbound")      # weakest first
KEYLESS = ("AAD", "ManagedIdentity", "None")        # every other authType stores a secret
STORES = tuple(f"properties.{name}" for name in ("threadStorageConnections", "storageConnections", "vectorStoreConnections"))

_URL = re.compile(r"https://([a-z0-9](?:[a-z0-9.-]*[a-z0-9])?)(?::\d{1,5})?(?:[/?#][^\s\\]*)?", re.ASCII)


def no_secret_stored(place: Node, p: Parameters) -> Iterator[Drift]:
    """Drift for each connection that signs in with a stored key or secret. authType is required.

    Another way to sign in needs a role on the target first, so a person changes it.
    """
    allowed, exempt = set(map(fold, p["allowed_auth_types"])), set(map(fold, p["exempt_categories"]))
    for connection in place.items(CONNECTIONS, "name"):
        if connection.text("properties.authType") not in allowed and connection.text("properties.category") not in exempt:
            yield from connection.undecided("properties.authType", "a key or secret is stored, or none that we know of")


def target_is_approved(place: Node, p: Parameters) -> Iterator[Drift]:
    """Drift for each connection to another place than the approved ones: https, and a host of `allowed_target_hosts`.

    A resource id passes in the same subscription. Without a list the host that was known good is the approved one, and
    what was first seen passes. Wanted is the target that was known good; else, with a list, the connection goes.
    """
    was = {one.text("name"): one for one in place.known_good.items(CONNECTIONS, "name")}
    is_first = place.known_good.get(CONNECTIONS) is ABSENT
    listed, categories = set(map(fold, p["allowed_target_hosts"])), set(map(fold, p["allowed_categories"]))
    for connection in place.items(CONNECTIONS, "name"):
        before = was.get(connection.text("name"))
        old = before.text("properties.target") if before else ""
        first = {_host(connection.text("properties.target"))} if is_first else set[str]()
        hosts = listed or ({_host(old)} if before else first)
        if categories and connection.text("properties.category") not in categories:
            yield from connection.unwanted("a category that is not approved")
        elif not _is_approved(connection, hosts, old):
            now = connection.get("properties.target")
            if before and old and _is_approved(before, hosts, ""):
                known = (now,) if isinstance(now, str) else ()
                yield from connection.expect("properties.target", one_of=(before.get("properties.target"),), known=known)
            elif listed:
                yield from connection.unwanted("it leads to a place that is not approved")
            else:
                note = "allowed_target_hosts is empty, and it was not there before"
                yield from connection.undecided("properties.target", note)


def _is_approved(connection: Node, hosts: set[str], old: str) -> bool:
    target = connection.text("properties.target")
    if target.startswith("/subscriptions/"):
        return _subscription(target) == ids.subscription(connection.id)
    if not target:      # some categories name their target in metadata alone
        return connection.get("properties.target") is ABSENT and not old
    return _host(target) in hosts - {""}


def _subscription(id: str) -> str:
    try:
        return ids.subscription(ids.parse(id))
    except Malformed:
        return ""


def _host(target: str) -> str:
    """The host of a folded https URL, "" for anything else: user names, blanks and backslashes are no part of one."""
    found = _URL.fullmatch(target)
    return found[1] if found else ""


def secret_not_shared(place: Node, p: Parameters) -> Iterator[Drift]:
    """Drift while a connection with a stored secret is shared to all. What an absent isSharedToAll means: not verified."""
    allowed = set(map(fold, p["allowed_auth_types"]))
    for connection in place.items(CONNECTIONS, "name"):
        if connection.text("properties.authType") in allowed:
            continue
        if connection.get("properties.isSharedToAll") is ABSENT:
            yield from connection.undecided("properties.isSharedToAll", "whether the secret is shared is not told")
        yield from connection.expect("properties.isSharedToAll", one_of=(False,), absent=False)


def stores_are_ours(place: Node, p: Parameters) -> Iterator[Drift]:
    """Drift while agents keep threads, files or vectors in stores of the service, though they may not or did not before.

    Absent lists: the service's stores. A host can only be made anew, and with it all agents: a person decides.
    """
    was = {one.text("name"): one for one in place.known_good.items(HOSTS, "name")}
    for host in place.items(HOSTS, "name"):
        before = was.get(host.text("name"))
        for store in STORES:
            had = before is not None and any(True for _ in before.items(store))
            if (p["require_byo"] or had) and not any(True for _ in host.items(store)):
                yield from host.undecided(store, "agents keep this in a store of the service")


def agents_keep_to_us(account: Node, p: Parameters) -> Iterator[Drift]:
    """The same, and drift while a host is public, or in a subnet that is not approved. Absent: not public."""
    yield from stores_are_ours(account, p)
    subnets = set(map(fold, p["allowed_subnet_ids"]))
    for host in account.items(HOSTS, "name"):
        for _ in host.expect("properties.enablePublicHostingEnvironment", one_of=(False,), absent=False):
            yield from host.undecided("properties.enablePublicHostingEnvironment", "agents are hosted in public")
        if subnets and host.get("properties.customerSubnet") is not ABSENT and host.text(
                "properties.customerSubnet") not in subnets:
            yield from host.undecided("properties.customerSubnet", "a subnet that is not approved")


def agents_in_our_subnet(account: Node, p: Parameters) -> Iterator[Drift]:
    """Drift while an account with projects does not inject its agents into an approved or a managed network.

    Whether an injection can be changed after creation was not verified, so nothing changes it. Absent: none.
    """
    allows = account.get(PROJECTS_ALLOWED)
    if allows is ABSENT or allows is False:
        return
    agents = [one for one in account.items(INJECTIONS, "scenario") if one.text("scenario") == "agent"]
    subnets = set(map(fold, p["allowed_subnet_ids"]))
    for agent in agents:
        subnet = agent.text("subnetArmId")
        if agent.get("useMicrosoftManagedNetwork") is True or (subnet and (not subnets or subnet in subnets)):
            return
    if agents or p["require_injection"]:
        yield from account.undecided(INJECTIONS, "agents run outside the approved subnets")


def outbound_is_approved(account: Node, p: Parameters) -> Iterator[Drift]:
    """Drift while a managed network lets more out than `minimum_mode`, or to a host not in `allowed_outbound_fqdns`.

    Absent isolationMode counts as Disabled. Which modes can still be chosen is told by changeableIsolationModes, and
    V2 never goes back to V1: a person chooses. No managed network: nothing to judge.
    """
    allowed = set(map(fold, p["allowed_outbound_fqdns"]))
    for network in account.items(NETWORKS, "name"):
        mode = "properties.managedNetwork.isolationMode"
        for drift in network.expect(mode, at_least=p["minimum_mode"], order=ISOLATION, absent="Disabled"):
            yield from network.undecided(mode, drift.note or f"it lets out more than {p['minimum_mode']}")
        rules = network.get("properties.managedNetwork.outboundRules")
        for name in rules if allowed and isinstance(rules, Mapping) else ():
            destination = show(("properties", "managedNetwork", "outboundRules", name, "destination"))
            host = network.get(destination)
            if isinstance(host, str) and fold(host) not in allowed:      # only an FQDN rule has a text there
                yield from network.undecided(destination, "a host that is not approved")


def projects_are_wanted(account: Node, p: Parameters) -> Iterator[Drift]:
    """Drift while projects can be made on an account where they may not, or could not when last good. Absent: no."""
    allows, was = account.get(PROJECTS_ALLOWED), account.known_good
    if allows is ABSENT or allows is False:
        return
    stood = was.get("properties") is ABSENT or was.get(PROJECTS_ALLOWED) is True
    if allows is not True or not p["allow_projects"] or not stood:
        yield from account.undecided(PROJECTS_ALLOWED, "projects can be made here; what turning it off does is not known")


def project_has_identity(project: Node, _p: Parameters) -> Iterator[Drift]:
    """Drift while the project has no managed identity. Absent means None."""
    fine = ("SystemAssigned", "UserAssigned", "SystemAssigned, UserAssigned")
    yield from project.expect("identity.type", one_of=fine, absent="None")


def callers_are_chosen(project: Node, p: Parameters) -> Iterator[Drift]:
    """Drift while a published agent is open to channels or the whole organisation; Default is by role.

    Absent: not verified. A PUT of the application would have to carry all its identities and routes: a person's.
    """
    allowed = set(map(fold, p["allowed_policies"]))
    for application in project.items(APPLICATIONS, "name"):
        if application.text("properties.authorizationPolicy.type") not in allowed:
            yield from application.undecided("properties.authorizationPolicy.type", "more people can call the agent")


def _written(type: str, child: str) -> tuple[str, ...]:
    return tuple(f"{type}/{child}/{verb}" for verb in ("write", "delete"))


def _connections(type: str, prefix: str) -> tuple[Control, ...]:
    """The three controls of connections, of an account's or of a project's."""
    at = f"{CONNECTIONS}[name='search-docs'].properties"

    def control(id: str, check: Check, severity: Severity, **fields: Any) -> Control:
        return Control(f"{prefix}-connection-{id}", check, on=type, severity=severity, also_reads=(CONNECTIONS,),
                       triggered_by=_written(type, "connections"), **fields)

    unsure = "whether a changed connection keeps its stored secret was not verified"
    return (
        control("key-auth", no_secret_stored, "high", response="report",
                title="Connection stores no key or secret",
                why="whoever may use the project spends the stored secret without having it",
                breaks="agents and indexes that use the connection",
                parameters={"allowed_auth_types": KEYLESS, "exempt_categories": ()},
                floors={"allowed_auth_types": floors.some_of(KEYLESS), "exempt_categories": floors.names},
                drift={f"{at}.authType": "ApiKey"}),
        control("target", target_is_approved, "high", response="revert", learns=True, asks=unsure,
                title="Connection leads to an approved place",
                why="prompts and data go to an attacker's endpoint under a trusted name",
                breaks="agents that use the connection",
                parameters={"allowed_target_hosts": (), "allowed_categories": ()},
                floors={"allowed_target_hosts": floors.hosts, "allowed_categories": floors.names},
                drift={f"{at}.target": "https://search.attacker.example/"}),
        control("shared", secret_not_shared, "medium", response="revert", asks=unsure,
                title="Connection with a secret is not shared to all",
                why="one project's credential becomes every project's",
                breaks="other projects that rely on it",
                parameters={"allowed_auth_types": KEYLESS}, floors={"allowed_auth_types": floors.some_of(KEYLESS)},
                drift={f"{at}.authType": "ApiKey", f"{at}.isSharedToAll": True}),
    )


def _capability_host(type: str, id: str, check: Check, drift: Mapping[str, Any], **parameters: Any) -> Control:
    known: dict[str, floors.Floor] = {"require_byo": floors.flag, "allowed_subnet_ids": floors.resource_ids}
    return Control(
        id, check, on=type, severity="medium", response="report", also_reads=(HOSTS,), learns=True,
        triggered_by=_written(type, "capabilityHosts"),
        title="Agents keep their data in stores of ours",
        why="threads, files and vectors land outside our storage, database and search",
        breaks="all agents of the account or project",
        parameters=parameters, floors={name: known[name] for name in parameters},
        drift={f"{HOSTS}[name='agents'].properties.{path}": value for path, value in drift.items()})


CONTROLS = (
    Control(
        "cognitive-network-injection-agent", agents_in_our_subnet, on=ACCOUNT, severity="medium", response="report",
        triggered_by=(f"{ACCOUNT}/write",),
        title="Agents run in a subnet of ours or in a managed network",
        why="what an agent's tools fetch and send leaves over a network that nobody here controls",
        breaks="agents, which have to be made anew",
        parameters={"allowed_subnet_ids": (), "require_injection": True},
        floors={"allowed_subnet_ids": floors.resource_ids, "require_injection": floors.flag},
        drift={PROJECTS_ALLOWED: True},
    ),
    Control(
        "cognitive-managed-network-isolation", outbound_is_approved, on=ACCOUNT, severity="medium", response="report",
        also_reads=(NETWORKS,),
        triggered_by=(*_written(ACCOUNT, "managedNetworks"), *_written(ACCOUNT, "managedNetworks/outboundRules")),
        title="Managed network lets out approved traffic only",
        why="agents and hosted compute can carry data anywhere",
        breaks="tools that call hosts without a rule",
        parameters={"minimum_mode": "AllowOnlyApprovedOutbound", "allowed_outbound_fqdns": ()},
        floors={"minimum_mode": floors.one_of(*ISOLATION[1:]), "allowed_outbound_fqdns": floors.hosts},
        drift={f"{NETWORKS}[name='default'].properties.managedNetwork.isolationMode": "AllowInternetOutbound"},
    ),
    Control(
        "cognitive-project-management", projects_are_wanted, on=ACCOUNT, severity="low", response="report",
        triggered_by=(f"{ACCOUNT}/write",), learns=True,
        title="Projects can be made only where they are wanted",
        why="each project is a new container with connections, agents and an identity of its own",
        breaks="projects that stand there",
        parameters={"allow_projects": True}, floors={"allow_projects": floors.flag},
        drift={PROJECTS_ALLOWED: True},
    ),
    *_connections(ACCOUNT, "cognitive"),
    _capability_host(ACCOUNT, "cognitive-capability-host", agents_keep_to_us, {"enablePublicHostingEnvironment": True},
                     require_byo=False, allowed_subnet_ids=()),
    Control(
        "cognitive-project-identity", project_has_identity, on=PROJECT, severity="medium", response="revert",
        triggered_by=(f"{PROJECT}/write",),
        title="Project has a managed identity",
        why="without one its connections fall back to keys",
        breaks="nothing", drift={"identity.type": "None"},
    ),
    *_connections(PROJECT, "cognitive-project"),
    _capability_host(PROJECT, "cognitive-project-capability-host", stores_are_ours, {"storageConnections": []},
                     require_byo=False),
    Control(
        "cognitive-agent-application-authorization", callers_are_chosen, on=PROJECT, severity="medium",
        response="report", also_reads=(APPLICATIONS,),
        triggered_by=(*_written(PROJECT, "applications"), *_written(PROJECT, "applications/agentDeployments")),
        title="Published agent is called by chosen people only",
        why="an agent answers people it was not built for",
        breaks="users without a role on it",
        parameters={"allowed_policies": ("Default",)},
        floors={"allowed_policies": floors.some_of(("Default", "Channels"), always=("Default",))},
        drift={f"{APPLICATIONS}[name='support'].properties.authorizationPolicy.type": "OrganizationScope"},
    ),
)
