"""Cognitive Services accounts: what they keep and under whose key, who watches them, and whether they should be there.

Defaults and enumerations: schema 2026-07-01; what GET leaves out when never set: recorded at 2025-06-01.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from detectors import floors
from guardrail.documents import Node
from guardrail.paths import ABSENT, fold
from guardrail.values import Control, Drift, Parameters

ACCOUNT = "Microsoft.CognitiveServices/accounts"
KEY_SOURCE = "properties.encryption.keySource"
KEY = "properties.encryption.keyVaultProperties"        # one object: half a key is none
CAPABILITIES = "properties.capabilities"
COMPLETIONS = "properties.storedCompletionsDisabled"
DEFENDER = "+defenderForAISettings"
SERVING = ("openai", "aiservices")      # kinds that serve models

_KEY_URI = re.compile(r"(https://([a-z0-9.-]+)/)keys/([a-z0-9-]+)/([a-z0-9]+)", re.ASCII | re.IGNORECASE)

# Kinds that the built-in policy "should encrypt data at rest with a customer-managed key" leaves out by default.
NO_KEY_OF_OURS = (
    "CognitiveServices", "ContentSafety", "ImmersiveReader", "HealthInsights", "LUIS.Authoring", "LUIS", "QnAMaker",
    "QnAMaker.V2", "AIServices", "MetricsAdvisor", "SpeechTranslation", "Internal.AllInOne",
    "ConversationalLanguageUnderstanding", "knowledge", "TranscriptionIntelligence", "HealthDecisionSupport")


def customer_key_kept(account: Node, p: Parameters) -> Iterator[Drift]:
    """Drift unless the data is encrypted with a key of ours, from an approved vault. Absent: the service's own key.

    What is wanted is the key that was known good, else `cmk_key_uri`, and nothing else: with a wrong one the account
    stops. A key that was there is missed in excluded kinds too.
    """
    was = account.known_good
    had = was.text(KEY_SOURCE) == "microsoft.keyvault"
    if account.text(KEY_SOURCE) != "microsoft.keyvault":
        if had or account.text("kind") not in map(fold, p["excluded_kinds"]):
            yield from _key_as_wanted(account, was, p, "no customer-managed key, and none is known good")
    elif not _is_approved(account, was, p):
        yield from _key_as_wanted(account, was, p, "the key comes from a vault that is not approved")


def _is_approved(account: Node, was: Node, p: Parameters) -> bool:
    """By the list of vaults; without a list by what was known good, and what was first seen passes."""
    vault, before = (node.text(f"{KEY}.keyVaultUri").rstrip("/") for node in (account, was))
    if p["allowed_vaults"]:
        return vault in {f"https://{fold(host)}" for host in p["allowed_vaults"]}
    return bool(vault) and before in ("", vault)


def _key_as_wanted(account: Node, was: Node, p: Parameters, note: str) -> Iterator[Drift]:
    wanted: Any = ABSENT
    if was.text(KEY_SOURCE) == "microsoft.keyvault" and _is_approved(was, was, p):
        wanted = was.get(KEY)
    elif (uri := _KEY_URI.fullmatch(p["cmk_key_uri"])) is not None:
        wanted = {"keyVaultUri": uri[1], "keyName": uri[3], "keyVersion": uri[4]}
    if wanted is ABSENT:
        yield from account.undecided(KEY_SOURCE, note)
        return
    yield from account.expect(KEY_SOURCE, one_of=("Microsoft.KeyVault",), absent="Microsoft.CognitiveServices",
                              known=("Microsoft.CognitiveServices",))
    yield from account.expect(KEY, one_of=(wanted,), known=(account.get(KEY),))


def storage_is_ours(account: Node, p: Parameters) -> Iterator[Drift]:
    """Drift while an account that could keep uploads in storage of ours does not, or in storage that is not approved.

    Absent userOwnedStorage: the service's own storage. Which account to use is a person's choice.
    """
    able = any(one.text("name") == "customermanagedstorage" for one in account.items(CAPABILITIES, "name"))
    stores = list(account.items("properties.userOwnedStorage", "resourceId"))
    if able and not stores:
        yield from account.undecided("properties.userOwnedStorage", "uploads are kept in the service's own storage")
    for store in stores:
        if p["allowed_storage_account_ids"] and store.text("resourceId") not in map(fold, p["allowed_storage_account_ids"]):
            yield from store.undecided("", "a storage account that is not approved")


def completions_not_stored(account: Node, p: Parameters) -> Iterator[Drift]:
    """Drift while prompts and answers are kept where a parameter forbids it, or where they were not when last good.

    Absent means not disabled (2026-07-01); whether something is stored then depends on the caller.
    """
    if p["require_disabled"] or account.known_good.get(COMPLETIONS) is True:
        yield from account.expect(COMPLETIONS, one_of=(True,), absent=False)


def misuse_is_watched(account: Node, p: Parameters) -> Iterator[Drift]:
    """Drift while abuse monitoring is not as expected, or the service punishes the account for misuse.

    The capability ContentLogging is listed only where it was switched off ("false"). Both are written by Microsoft.
    """
    off = [one for one in account.items(CAPABILITIES, "name")
           if one.text("name") == "contentlogging" and one.text("value") != "true"]
    if p["expected_abuse_monitoring"] == "on":
        for one in off:
            yield from one.undecided("", "abuse monitoring was switched off for this account")
    elif not off:
        yield from account.undecided(CAPABILITIES, "abuse monitoring is on: prompts may be kept for review")
    if account.get("properties.abusePenalty") is not ABSENT:
        yield from account.undecided("properties.abusePenalty", "the service throttles or blocks the account for misuse")


def kind_is_approved(account: Node, p: Parameters) -> Iterator[Drift]:
    """Drift for a kind that is not in `allowed_kinds` (empty: any), or a SKU in `denied_skus`. Neither can be changed."""
    if p["allowed_kinds"] and account.text("kind") not in map(fold, p["allowed_kinds"]):
        yield from account.undecided("kind", "a kind that is not approved")
    if account.text("sku.name") in map(fold, p["denied_skus"]):
        yield from account.undecided("sku.name", "a SKU that is not approved")


def workspace_is_approved(account: Node, p: Parameters) -> Iterator[Drift]:
    """Drift while a machine learning workspace is linked that is not in `allowed_workspace_ids`. Absent: none."""
    linked = "properties.amlWorkspace.resourceId"
    if account.get(linked) is not ABSENT and account.text(linked) not in map(fold, p["allowed_workspace_ids"]):
        yield from account.undecided(linked, "a workspace that is not approved reads this account's data")


def defender_is_on(account: Node, _p: Parameters) -> Iterator[Drift]:
    """Drift while the account's Defender setting is off. Every account has one, Default (published client, 2026).

    A setting without a state counts as off. One that serves models and shows none is left to a person: whether the
    subscription's plan covers it was not verified.
    """
    settings = list(account.items(DEFENDER, "name"))
    for setting in settings:
        yield from setting.expect("properties.state", one_of=("Enabled",), absent="Disabled", known=("Disabled",))
    if not settings and account.text("kind") in SERVING:
        yield from account.undecided(DEFENDER, "the account shows no Defender setting")


def account_stands(account: Node, _p: Parameters) -> Iterator[Drift]:
    """Drift once the account is gone. It is only softly deleted: who restores it gets its old settings back."""
    if account.get() is ABSENT:
        yield from account.undecided("", "deleted; until it is purged it can be restored with its old settings")


def _key_uri(value: Any) -> str:
    sound = value == "" or (isinstance(value, str) and _KEY_URI.fullmatch(value) is not None)
    return "" if sound else "must be the versioned URI of a key: https://<vault>/keys/<name>/<version>"


WRITE = (f"{ACCOUNT}/write",)

CONTROLS = (
    Control(
        "cognitive-cmk-encryption", customer_key_kept, on=ACCOUNT, severity="medium", response="revert",
        triggered_by=WRITE, learns=True,
        title="Data at rest is under a customer-managed key",
        why="without a key of ours nobody can revoke access to stored prompts, files and fine-tuning data",
        breaks="the account stops if its identity cannot unwrap the key",
        parameters={"excluded_kinds": NO_KEY_OF_OURS, "allowed_vaults": (), "cmk_key_uri": ""},
        floors={"excluded_kinds": floors.none_of("OpenAI"), "allowed_vaults": floors.hosts, "cmk_key_uri": _key_uri},
        drift={KEY_SOURCE: "Microsoft.CognitiveServices", "properties.encryption.keyVaultProperties": ABSENT},
    ),
    Control(
        "cognitive-user-owned-storage", storage_is_ours, on=ACCOUNT, severity="low", response="report",
        triggered_by=WRITE,
        title="Uploads are kept in storage of our own",
        why="elsewhere they are out of reach of our own storage controls and logs",
        breaks="what the service holds already is not moved",
        parameters={"allowed_storage_account_ids": ()}, floors={"allowed_storage_account_ids": floors.resource_ids},
        drift={f"{CAPABILITIES}[name='CustomerManagedStorage']": {"name": "CustomerManagedStorage"}},
    ),
    Control(
        "cognitive-stored-completions", completions_not_stored, on=ACCOUNT, severity="low", response="revert",
        triggered_by=WRITE, learns=True,
        title="Prompts and answers are not stored where they should not be",
        why="whoever has the data role reads what users asked and were told",
        breaks="distillation and evaluation that read stored completions",
        parameters={"require_disabled": False}, floors={"require_disabled": floors.flag},
        drift={COMPLETIONS: False},
    ),
    Control(
        "cognitive-abuse-monitoring", misuse_is_watched, on=ACCOUNT, severity="medium", response="report",
        triggered_by=WRITE,
        title="Abuse monitoring is as agreed with Microsoft",
        why="misuse by insiders or stolen credentials is reviewed by nobody, or data is kept that should not be",
        breaks="",
        parameters={"expected_abuse_monitoring": "on"}, floors={"expected_abuse_monitoring": floors.one_of("on", "off")},
        drift={f"{CAPABILITIES}[name='ContentLogging']": {"name": "ContentLogging", "value": "false"}},
    ),
    Control(
        "cognitive-account-kind-and-sku", kind_is_approved, on=ACCOUNT, severity="low", response="report",
        triggered_by=WRITE,
        title="Account is of an approved kind and SKU",
        why="a kind with fewer controls, or a free tier without private networking, slips past review",
        breaks="",
        parameters={"allowed_kinds": (), "denied_skus": ("F0",)},
        floors={"allowed_kinds": floors.names, "denied_skus": floors.names},
        drift={"sku": {"name": "F0"}},
    ),
    Control(
        "cognitive-aml-workspace-link", workspace_is_approved, on=ACCOUNT, severity="low", response="report",
        triggered_by=WRITE,
        title="Only approved machine learning workspaces are linked",
        why="the linked workspace reads the account's data across trust zones",
        breaks="the linked feature",
        parameters={"allowed_workspace_ids": ()}, floors={"allowed_workspace_ids": floors.resource_ids},
        drift={"properties.amlWorkspace.resourceId":
               "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/rg-ai-dev"
               "/providers/Microsoft.MachineLearningServices/workspaces/ml-elsewhere"},
    ),
    Control(
        "cognitive-defender-for-ai", defender_is_on, on=ACCOUNT, severity="high", response="revert",
        also_reads=(DEFENDER,),
        triggered_by=tuple(f"{ACCOUNT}/defenderForAISettings/{verb}" for verb in ("write", "delete")),
        title="Defender for AI is on for the account",
        why="prompt attacks and abused credentials raise no alert",
        breaks="nothing; costs the plan",
        drift={f"{DEFENDER}[name='Default'].properties.state": "Disabled"},
    ),
    Control(
        "cognitive-account-deleted-soft", account_stands, on=ACCOUNT, severity="medium", response="report",
        triggered_by=(f"{ACCOUNT}/delete",), judges_gone=True,
        title="Account still stands",
        why="an outage, and the name can be taken again with weaker settings",
        breaks="a deliberate deletion", drift={"": ABSENT},
    ),
)
