"""What hangs on a machine learning workspace and is judged in its document: outbound rules, datastores, connections,
marketplace subscriptions, batch endpoints.

They are mounted lists: the sweep finds the workspace, and none of these by itself. Enumerations: schema 2026-05-01.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from detectors import floors
from detectors.ml_common import SPACE, is_known, listed, noted, subscription_of
from guardrail.documents import Node
from guardrail.paths import ABSENT, fold
from guardrail.values import Control, Drift, Parameters

RULES, STORES, LINKS = "+outboundRules", "+datastores", "+connections"
OFFERS, BATCH = "+marketplaceSubscriptions", "+batchEndpoints"
SERVICES_OWN = ("required", "recommended", "dependency")
CREDENTIALS = "properties.credentials.credentialsType"
KEYLESS = ("AAD", "ManagedIdentity", "None")
KINDS = ("AccountKey", "Certificate", "Sas", "ServicePrincipal", "None")


def rules_approved(space: Node, p: Parameters) -> Iterator[Drift]:
    """Drift for each outbound rule of the users' that opens a host, service tag or resource which is not approved.

    A private endpoint to the workspace's own subscription is. The service's own rules stay, by their category: whether
    the service believes a category that a client sends was not verified.
    """
    for rule in space.items(RULES, "name"):
        troubles = len(rule.troubles)
        if rule.text("properties.category") in SERVICES_OWN:
            continue
        kind = rule.text("properties.type")
        if kind == "fqdn":
            fine = rule.text("properties.destination") in map(fold, p["allowed_fqdns"])
        elif kind == "servicetag":
            fine = _is_fine_tag(rule, p)
        elif kind == "privateendpoint":
            target = subscription_of(rule.get("properties.destination.serviceResourceId"))
            fine = bool(target) and is_known(target, rule, p)
        else:
            yield from rule.undecided("properties.type", "a kind of rule that we do not know")
            continue
        if not fine and len(rule.troubles) == troubles:     # of another shape: a finding, and nothing to delete
            yield from rule.unwanted("opens a destination that is not approved")


def _is_fine_tag(rule: Node, p: Parameters) -> bool:
    """addressPrefixes, where there are any, make the service ignore the tag. An absent action allows."""
    if rule.text("properties.destination.action") == "deny":
        return True
    tag = rule.text("properties.destination.serviceTag")
    return not rule.get("properties.destination.addressPrefixes") and tag in map(fold, p["allowed_service_tags"])


def no_secret_kept(space: Node, p: Parameters) -> Iterator[Drift]:
    """Drift for each datastore that keeps a key, signature or password. The kind is required."""
    for store in space.items(STORES, "name"):
        drifts = store.expect(CREDENTIALS, one_of=tuple(p["allowed_credentials"]), known=KINDS)
        yield from noted(drifts, "whether the identity has a role on the storage is not seen here")


def known_storage_only(space: Node, p: Parameters) -> Iterator[Drift]:
    """Drift for each datastore on storage of another subscription, or outside `allowed_storage_accounts`, or on http.

    An absent subscription counts as the workspace's. One with a secret could not be put back, and the default one is
    needed: there a person decides.
    """
    allowed = [fold(one) for one in p["allowed_storage_accounts"]]
    for store in space.items(STORES, "name"):
        troubles = len(store.troubles)
        subscription, account = store.text("properties.subscriptionId"), store.text("properties.accountName")
        is_foreign = bool(subscription) and not is_known(subscription, store, p)
        is_listed = not allowed or not account or account in allowed
        if is_foreign or not is_listed or store.text("properties.protocol") == "http":
            is_spare = store.text(CREDENTIALS) == "none" and store.get("properties.isDefault") in (False, ABSENT)
            if is_spare and len(store.troubles) == troubles:
                yield from store.unwanted("it points to storage that is not approved")
            else:
                yield from store.undecided("", "it keeps a secret that nobody could put back, or is the default one")


def connections_without_secret(space: Node, p: Parameters) -> Iterator[Drift]:
    """Drift for each connection that stores a secret; one shared by a hub is shared with all its projects."""
    for link in space.items(LINKS, "name"):
        drifts = link.expect("properties.authType", one_of=tuple(p["allowed_auth_types"]))
        yield from noted(drifts, "its secret could not be put back: make it anew with an identity")


def offers_approved(space: Node, p: Parameters) -> Iterator[Drift]:
    """Drift for each subscription to a marketplace model outside `allowed_marketplace_models` (with any version)."""
    allowed = [fold(one) for one in p["allowed_marketplace_models"]]
    for offer in space.items(OFFERS, "name"):
        troubles = len(offer.troubles)
        model = offer.text("properties.modelId")
        if len(offer.troubles) == troubles and not any(model == one or model.startswith(one + "/versions/") for one in allowed):
            yield from offer.unwanted("not an approved model")


def batch_needs_tokens(space: Node, _: Parameters) -> Iterator[Drift]:
    """Drift for each batch endpoint that takes keys. The mode is required, and the service takes no other any more."""
    for batch in space.items(BATCH, "name"):
        drifts = batch.expect("properties.authMode", one_of=("AADToken",), known=("Key", "AMLToken"))
        yield from noted(drifts, "only an endpoint from before can have it: make it anew")


_HOST = re.compile(r"(?:\*\.)?(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,63}", re.ASCII | re.IGNORECASE)
_MODEL = re.compile(r"azureml://registries/[\w-]+/models/[\w.-]+(?:/versions/[\w.-]+)?", re.ASCII | re.IGNORECASE)


def _hosts(value: Any) -> str:
    """Floor: host names; a rule's own `*.` must be listed as it stands, and stands for one domain."""
    sound = isinstance(value, (list, tuple)) and all(
        isinstance(one, str) and _HOST.fullmatch(one) and one.count(".") > one.startswith("*.") for one in value)
    return "" if sound else "must be a list of host names, or of *.domain with two labels at least"


def _sound_tags(value: Any) -> str:
    """Floor: tags by name; those that mean the whole Internet are no restriction."""
    why = floors.names(value)
    wide = {"internet", "azurecloud", "virtualnetwork"} & {fold(one).split(".")[0] for one in value} if not why else set()
    return why or (f"{', '.join(sorted(wide))} stands for far more than one service" if wide else "")


def _events(kind: str, *more: str) -> tuple[str, ...]:
    return tuple(f"{SPACE}/{kind}/{verb}" for verb in ("write", "delete", *more))


CONTROLS = (
    Control(
        "ml-outbound-rule-allow-list", rules_approved, on=SPACE, severity="high", response="revert", also_reads=(RULES,),
        triggered_by=(*_events("outboundRules"), *_events("managedNetworks/outboundRules"), f"{SPACE}/write"),
        title="Outbound rules open approved destinations only",
        why="one rule for a host is enough to carry training data out",
        breaks="jobs that need the host",
        parameters={"allowed_fqdns": (), "allowed_service_tags": (), "trusted_subscriptions": ()},
        floors={"allowed_fqdns": _hosts, "allowed_service_tags": _sound_tags, "trusted_subscriptions": floors.guids},
        drift={f"{RULES}[name='paste']": {
            "name": "paste", "properties": {"type": "FQDN", "destination": "paste.example.net", "category": "UserDefined"}}},
    ),
    Control(
        "ml-datastore-credentials", no_secret_kept, on=SPACE, severity="high", response="report", also_reads=(STORES,),
        triggered_by=_events("datastores", "listSecrets/action"),
        title="Datastores keep no key, signature or password",
        why="who reads the workspace can list the secret and walk off with the data", breaks="",
        parameters={"allowed_credentials": ("None",)},
        floors={"allowed_credentials": floors.some_of(("None", "Certificate", "ServicePrincipal"))},
        drift={f"{STORES}[name='curated'].{CREDENTIALS}": "AccountKey"},
    ),
    Control(
        "ml-datastore-target", known_storage_only, on=SPACE, severity="medium", response="revert", also_reads=(STORES,),
        triggered_by=_events("datastores"),
        title="Datastores point to known storage",
        why="training data is pulled from, or results pushed to, somebody else's storage",
        breaks="jobs that use the datastore; the data stays",
        parameters={"allowed_storage_accounts": (), "trusted_subscriptions": ()},
        floors={"allowed_storage_accounts": floors.names, "trusted_subscriptions": floors.guids},
        drift={f"{STORES}[name='curated'].properties.subscriptionId": "00000000-0000-0000-0000-0000000000f1"},
    ),
    Control(
        "ml-connection-key-auth", connections_without_secret, on=SPACE, severity="high", response="report",
        also_reads=(LINKS,), triggered_by=_events("connections", "listsecrets/action"),
        title="Connections of workspace and hub use identities",
        why="a secret on a hub is shared by every project", breaks="",
        parameters={"allowed_auth_types": KEYLESS}, floors={"allowed_auth_types": floors.some_of(KEYLESS)},
        drift={f"{LINKS}[name='search'].properties.authType": "ApiKey"},
    ),
    Control(
        "ml-marketplace-subscription", offers_approved, on=SPACE, severity="medium", response="revert",
        also_reads=(OFFERS,), triggered_by=_events("marketplaceSubscriptions"),
        title="Marketplace models are approved ones",
        why="a paid model of a third party, with terms of its own, enters the workspace",
        breaks="serverless endpoints on that model are suspended",
        asks="the offer's terms would have to be accepted anew",
        parameters={"allowed_marketplace_models": ()},
        floors={"allowed_marketplace_models": listed(_MODEL, "ids azureml://registries/NAME/models/NAME")},
        drift={f"{OFFERS}[name='paid']": {
            "name": "paid", "properties": {"modelId": "azureml://registries/azureml-vendor/models/Vendor-Large"}}},
    ),
    Control(
        "ml-batch-endpoint-auth", batch_needs_tokens, on=SPACE, severity="medium", response="report",
        also_reads=(BATCH,), triggered_by=_events("batchEndpoints"),
        title="Batch endpoints take tokens, not keys",
        why="a static key on bulk scoring", breaks="",
        drift={f"{BATCH}[name='score-nightly'].properties.authMode": "Key"},
    ),
)
