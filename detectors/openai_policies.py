"""Azure OpenAI: what a content-filter policy stands on besides its filters, and the policy of a whole subscription.

An account's policies, blocklists and deployments are judged in the account's document. Enumerations: schema 2026-07-01.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from detectors import floors
from detectors.openai import (
    BOTH,
    DEPLOYMENTS,
    FILTERS,
    HARMS,
    INDIRECT,
    JAILBREAK,
    POINTER,
    POLICIES,
    RAI_EVENTS,
    RANKS,
    TEXT,
    WEAKEST_FIRST,
    custom_policies,
    letters,
    policy_blocks,
    strength,
)
from guardrail.documents import Node
from guardrail.paths import ABSENT, fold
from guardrail.values import Control, Drift, Parameters

ACCOUNT = "Microsoft.CognitiveServices/accounts"
SUBSCRIPTION_POLICY = "Microsoft.CognitiveServices/raiPolicy"      # singular, and under no account
BASE = "properties.basePolicyName"
BLOCKLISTS = "+raiBlocklists"
ATTACHED = "properties.customBlocklists"
PROVIDERS = "properties.safetyProviders"


def base_is_approved(account: Node, p: Parameters) -> Iterator[Drift]:
    """Drift in each custom policy whose base is not in `allowed_bases`. Absent: not verified.

    Whether the base of a policy that stands can be changed was not verified either.
    """
    allowed = set(map(fold, p["allowed_bases"]))
    for policy in custom_policies(account):
        if policy.text(BASE) not in allowed:
            yield from policy.undecided(BASE, "what is filtered where the policy is silent is not approved")


def blocklists_attached(account: Node, p: Parameters) -> Iterator[Drift]:
    """Drift in each custom policy that lacks a blocklist: a required one, or one that blocked when last good.

    Required lists are wanted for prompts and completions. A list that does not exist is reported: its items, which ARM
    shows only one list at a time, are known to nobody here; neither is how many it has.
    """
    exist = {one.text("name") for one in account.items(BLOCKLISTS, "name")}
    if any(path.startswith(BLOCKLISTS) for path in account.troubles):
        return          # unreadable, and said so: which lists there are cannot be told
    was = {one.text("name"): one for one in account.known_good.items(POLICIES, "name")}
    for policy in custom_policies(account):
        wanted = {(fold(name), fold(source)): (name, source) for name in p["required_blocklists"] for source in BOTH}
        before = was.get(policy.text("name"))
        for one in before.items(ATTACHED, "source", "blocklistName") if before else ():
            if one.get("blocking") is True:
                wanted[one.text("blocklistName"), one.text("source")] = (one.get("blocklistName"), one.get("source"))
        attached = {(one.text("blocklistName"), one.text("source")): one
                    for one in policy.items(ATTACHED, "source", "blocklistName")}
        for key, (name, source) in wanted.items():
            if key in attached:
                yield from attached[key].expect("blocking", one_of=(True,), absent=False)
            elif key[0] in exist:
                item = {"source": source, "blocklistName": name, "blocking": True}
                yield from policy.missing(ATTACHED, item, "source", "blocklistName")
        for name in sorted({name for name, _ in (*wanted, *attached)} - exist):
            yield from policy.undecided(ATTACHED, f"the account has no blocklist {name}")


def providers_are_approved(account: Node, p: Parameters) -> Iterator[Drift]:
    """Drift in each custom policy that sends content to a safety provider that is not approved, or not to a required one.

    Absent: none. What leaves for whom is a person's decision.
    """
    required = set(map(fold, p["required_providers"]))
    allowed = required | set(map(fold, p["allowed_providers"]))
    for policy in custom_policies(account):
        blocking = set[str]()
        for one in policy.items(PROVIDERS, "safetyProviderName", "source"):
            if one.text("safetyProviderName") not in allowed:
                yield from one.undecided("", "an external provider that is not approved receives what is checked")
            elif one.get("blocking") is True:
                blocking.add(one.text("safetyProviderName"))
        for name in sorted(required - blocking):
            yield from policy.undecided(PROVIDERS, f"the required provider {name} does not block here")


def needed_policies_stand(account: Node, p: Parameters) -> Iterator[Drift]:
    """Drift while a policy is gone that is required, or that a deployment used when it was last good.

    ARM deletes a policy only once no deployment uses it, so whoever removes one has re-pointed them first. It comes back
    as it was known good; without that a person decides. The service's own policies cannot be deleted.
    """
    stand = {policy.text("name") for policy in account.items(POLICIES, "name")}
    used = [one.text(POINTER) for node in (account.known_good, account) for one in node.items(DEPLOYMENTS, "name")]
    was = {one.text("name"): one for one in account.known_good.items(POLICIES, "name")}
    wanted = dict.fromkeys((*map(fold, p["required_policies"]), *used))
    for name in wanted:
        if not name or name in stand or name.startswith("microsoft."):
            continue
        if name in was:
            body = {key: was[name].get(key) for key in ("name", "properties", "tags")}
            item = {key: value for key, value in body.items() if value is not ABSENT}
            yield from account.missing(POLICIES, item, "name")
        else:
            yield from account.undecided(POLICIES, f"the policy {name} is gone, and what it said was never known good")


def subscription_policy_blocks(policy: Node, p: Parameters) -> Iterator[Drift]:
    """Drift while the policy of the subscription lets through what the filters' controls ask to block, or more than before.

    Gone, it is reported if it was known: what then holds for the accounts was not verified. The service's own passes.
    """
    was = policy.known_good
    if policy.get() is ABSENT:
        if was.get("properties") is not ABSENT:
            yield from policy.undecided("", "the policy of the subscription was deleted")
        return
    if policy.text("properties.type") == "systemmanaged":
        return
    before = strength(was)
    for harm in HARMS.values():
        for source in harm.sources:
            rank = max(RANKS[fold(p["max_threshold"])], before.get((letters(harm.name), fold(source)), 0))
            wanted = {"max_threshold": WEAKEST_FIRST[rank - 1], "sources": (source,)}
            yield from policy_blocks(policy, wanted, harm)
    for shield in (JAILBREAK, INDIRECT, TEXT):
        yield from policy_blocks(policy, p, shield)
    late = ("Asynchronous_filter", "Deferred")
    yield from policy.expect("properties.mode", one_of=("Default", "Blocking"), absent="Default", known=late)


STRICT = f"{POLICIES}[name='strict'].properties"


def _policies(id: str, **fields: Any) -> Control:
    return Control(f"openai-rai-policy-{id}", on=ACCOUNT,
                   also_reads=fields.pop("also_reads", (POLICIES,)), triggered_by=fields.pop("triggered_by", RAI_EVENTS),
                   **fields)


CONTROLS = (
    _policies(
        "base", check=base_is_approved, severity="low", response="report",
        title="Custom policy stands on an approved base",
        why="the base decides what is filtered where the policy itself is silent",
        breaks="filters that are not listed",
        parameters={"allowed_bases": ("Microsoft.Default", "Microsoft.DefaultV2")},
        floors={"allowed_bases": floors.names},
        drift={f"{STRICT}.basePolicyName": "permissive"}),
    _policies(
        "blocklists", check=blocklists_attached, severity="medium", response="revert", learns=True,
        also_reads=(POLICIES, BLOCKLISTS),
        triggered_by=(*RAI_EVENTS, f"{ACCOUNT}/raiBlocklists/delete",
                      *(f"{ACCOUNT}/raiBlocklists/raiBlocklistItems/{verb}" for verb in ("write", "delete"))),
        title="Policy keeps its blocklists",
        why="terms that the company forbids pass",
        breaks="texts that hold the listed terms",
        parameters={"required_blocklists": ()}, floors={"required_blocklists": floors.names},
        drift={f"{STRICT}.customBlocklists[source='Prompt',blocklistName='project-names'].blocking": False}),
    _policies(
        "safety-provider", check=providers_are_approved, severity="medium", response="report",
        title="Content goes to approved safety providers only",
        why="a foreign provider receives every prompt, or a mandated one is passed by",
        breaks="flows that rely on the provider",
        parameters={"allowed_providers": (), "required_providers": ()},
        floors={"allowed_providers": floors.names, "required_providers": floors.names},
        drift={f"{STRICT}.safetyProviders": [{"safetyProviderName": "elsewhere", "source": "Prompt", "blocking": False}]}),
    _policies(
        "unused-or-deleted", check=needed_policies_stand, severity="medium", response="revert", learns=True,
        also_reads=(POLICIES, DEPLOYMENTS), triggered_by=(f"{ACCOUNT}/raiPolicies/delete",),
        title="Policies that are needed stand",
        why="the policy that people agreed on is gone, and deployments use another",
        breaks="nothing",
        parameters={"required_policies": ()}, floors={"required_policies": floors.names},
        # as it happens: the deployments are pointed at another policy, then theirs is deleted
        drift={f"{DEPLOYMENTS}[name='chat-gpt'].{POINTER}": "Microsoft.DefaultV2",
               f"{DEPLOYMENTS}[name='chat-batch'].{POINTER}": "Microsoft.DefaultV2",
               f"{POLICIES}[name='strict']": ABSENT}),
    Control(
        "openai-subscription-rai-policy", subscription_policy_blocks, on=SUBSCRIPTION_POLICY, severity="high",
        response="revert", judges_gone=True, learns=True, asks="it rules every account of the subscription",
        triggered_by=tuple(f"{SUBSCRIPTION_POLICY}/{verb}" for verb in ("write", "delete")),
        title="Content filter of the whole subscription blocks",
        why="one write weakens the filter of many accounts at once",
        breaks="a planned change",
        parameters={"max_threshold": "Medium"}, floors={"max_threshold": floors.one_of("Medium", "Low")},
        drift={f"{FILTERS}[name='Hate',source='Prompt'].severityThreshold": "High"},
    ),
)
