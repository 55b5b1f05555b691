"""Azure OpenAI: content-filter policies (raiPolicies), and which of them the deployments use.

Both are judged in the account's document, where they are mounted: their events lead to the account, and the controls
of one policy make one PUT. Enumerations: schema 2026-07-01. `severityThreshold` is the level from which content is
blocked, so Low is the strictest and High the weakest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from guardrail.documents import Node
from guardrail.paths import ABSENT, fold
from guardrail.values import Check, Control, Drift, Parameters, Severity

ACCOUNT = "Microsoft.CognitiveServices/accounts"
POLICIES = "+raiPolicies"
DEPLOYMENTS = "+deployments"
FILTERS = "properties.contentFilters"
POINTER = "properties.raiPolicyName"
MOST_ALIKE = 20         # filters of one name: Azure shows one for each of six sources at most
WEAKEST_FIRST = ("High", "Medium", "Low")
RANKS = {fold(name): rank for rank, name in enumerate(WEAKEST_FIRST, 1)}
DEFAULT_POLICY = "Microsoft.DefaultV2"      # what GET shows where none was ever named (recorded, 2025-06-01)


@dataclass(frozen=True, slots=True)
class Filter:
    """A filter that a policy must hold for each of its sources; `graded` filters have a threshold."""

    name: str
    sources: tuple[str, ...]
    graded: bool = False

    def fits(self, item: Node) -> bool:
        return letters(item.text("name")) == letters(self.name)


@lru_cache(maxsize=1024)
def letters(name: str) -> str:
    """Self-Harm, SelfHarm and Selfharm are one filter."""
    return "".join(letter for letter in fold(name) if "a" <= letter <= "z")


BOTH = ("Prompt", "Completion")
HARMS = {name: Filter(name, BOTH, graded=True) for name in ("Hate", "Sexual", "Violence", "Selfharm")}
JAILBREAK = Filter("Jailbreak", ("Prompt",))
INDIRECT = Filter("Indirect Attack", ("Prompt",))
SPOTLIGHTING = Filter("Indirect Attack Spotlighting", ("Prompt",))
TEXT = Filter("Protected Material Text", ("Completion",))
CODE = Filter("Protected Material Code", ("Completion",))


def custom_policies(account: Node) -> Iterator[Node]:
    """The policies that people write: the service's own cannot be written, and are judged where they are used."""
    for policy in account.items(POLICIES, "name"):
        if policy.text("properties.type") != "systemmanaged":
            yield policy


def blocks(account: Node, p: Parameters, wanted: Filter) -> Iterator[Drift]:
    """Drift in each custom policy whose filter is off, only annotates, lets too much through, or is not there."""
    for policy in custom_policies(account):
        yield from policy_blocks(policy, p, wanted)


def policy_blocks(policy: Node, p: Parameters, wanted: Filter) -> Iterator[Drift]:
    """The same of one policy.

    An absent filter falls to the base policy in a way that was not verified: it counts as off. Absent enabled and
    blocking count as false, an absent threshold as High. Every match is judged, not the first: which of two filters for
    the same content counts is not known.
    """
    annotated = letters(wanted.name) in map(letters, p.get("annotate_only", ()))
    found = [item for item in policy.items(FILTERS, "name", "source") if wanted.fits(item)]
    if len(found) > MOST_ALIKE:
        yield from policy.undecided(FILTERS, f"{len(found)} filters for {wanted.name}")
        return
    for source in p.get("sources", wanted.sources):
        same = [item for item in found if item.text("source") == fold(source)]
        if not same:
            yield from policy.missing(FILTERS, _filter(wanted, source, p, not annotated), "name", "source")
        for item in same:
            yield from item.expect("enabled", one_of=(True,), absent=False)
            if wanted.graded:
                most = p["max_threshold"]
                yield from item.expect("severityThreshold", at_least=most, order=WEAKEST_FIRST, absent="High")
            if not annotated:
                yield from item.expect("blocking", one_of=(True,), absent=False)
                # None leaves it to `blocking`; what HITL and RETRY let through was not verified.
                fine = ("BLOCKING", "None")
                yield from item.expect("action", one_of=fine, absent="None", known=("ANNOTATING",))


def _filter(wanted: Filter, source: str, p: Parameters, blocking: bool) -> dict[str, Any]:
    item: dict[str, Any] = {"name": wanted.name, "source": source, "enabled": True, "blocking": blocking}
    return {**item, "severityThreshold": p["max_threshold"]} if wanted.graded else item


def check_of(*filters: Filter) -> Check:
    """The check that each of `filters` blocks."""
    def filter_blocks(account: Node, p: Parameters) -> Iterator[Drift]:
        for wanted in filters:
            yield from blocks(account, p, wanted)
    return filter_blocks


def indirect_attacks_blocked(account: Node, p: Parameters) -> Iterator[Drift]:
    """The prompt shield for documents; its spotlighting where a parameter asks for it."""
    yield from blocks(account, p, INDIRECT)
    if p["require_spotlighting"]:
        yield from blocks(account, {}, SPOTLIGHTING)


def filtered_before_shown(account: Node, p: Parameters) -> Iterator[Drift]:
    """Drift while a policy shows text before its verdict. Absent means Default.

    Deferred is the older name of Asynchronous_filter.
    """
    late = ("Asynchronous_filter", "Deferred")
    fine = ("Default", "Blocking", *(late if p["allow_async"] else ()))
    for policy in custom_policies(account):
        yield from policy.expect("properties.mode", one_of=fine, absent="Default", known=late)


def uses_strong_policy(account: Node, p: Parameters) -> Iterator[Drift]:
    """Drift in each deployment that was pointed at a weaker content-filter policy.

    Approved policies pass. A system policy passes if it blocks what the filters' controls ask for. A custom policy is
    judged by those controls itself, so it passes here unless the deployment is known to have used one that is stronger
    somewhere: then the pointer is what drifted. Wanted is the policy that was known good, if it still stands, else
    `required_policy`. Absent means the service's default, DefaultV2 (recorded), and passes unless `require_explicit`.
    """
    approved = {fold(name) for name in p["approved_policies"]}
    policies = {policy.text("name"): policy for policy in account.items(POLICIES, "name")}
    good = account.known_good
    was = {old.text("name"): old.text(POINTER) or fold(DEFAULT_POLICY) for old in good.items(DEPLOYMENTS, "name")}
    then = {**policies, **{policy.text("name"): policy for policy in good.items(POLICIES, "name")}}
    verdicts = dict[tuple[str, str], bool]()        # many deployments use one policy

    def is_strong(name: str, before: str) -> bool:
        if (name, before) not in verdicts:
            verdicts[name, before] = name in approved or _is_strong(policies.get(name), then.get(before), p)
        return verdicts[name, before]

    for deployment in account.items(DEPLOYMENTS, "name"):
        name = deployment.text(POINTER) or ("" if p["require_explicit"] else fold(DEFAULT_POLICY))
        before = was.get(deployment.text("name"), "")
        if is_strong(name, before):
            continue
        if any(path.startswith(POLICIES) for path in account.troubles):
            return          # unreadable, and said so: what a policy is worth cannot be told
        stands = before in policies and is_strong(before, "")
        wanted = str(policies[before].get("name") if stands else p["required_policy"])
        if fold(wanted) not in policies and not fold(wanted).startswith("microsoft."):
            yield from deployment.undecided(POINTER, f"the account has no policy {wanted}")
        else:
            now = deployment.get(POINTER)
            yield from deployment.expect(POINTER, one_of=(wanted,), known=(now,) if isinstance(now, str) else ())


def _is_strong(policy: Node | None, before: Node | None, p: Parameters) -> bool:
    if policy is None:
        return False
    if policy.text("properties.type") == "systemmanaged":
        return at_least_as_strong(strength(policy), {key: _needed(key, p) for key in STRONG})
    return before is None or at_least_as_strong(strength(policy), strength(before))


Key = tuple[str, str]       # letters of the filter's name, folded source
STRONG: tuple[Key, ...] = tuple(
    (letters(one.name), fold(source)) for one in (*HARMS.values(), JAILBREAK, INDIRECT, TEXT) for source in one.sources)


def _needed(key: Key, p: Parameters) -> int:
    return WEAKEST_FIRST.index(p["max_threshold"]) + 1 if key[0] in map(fold, HARMS) else 1


def strength(policy: Node) -> dict[Key, int]:
    """What a policy blocks: per filter and source 1 (High, or no threshold) to 3 (Low); 0 for anything else.

    Of two filters for the same content the weaker counts.
    """
    blocked = dict[Key, int]()
    for item in policy.items(FILTERS, "name", "source"):
        key = letters(item.text("name")), item.text("source")
        level = item.get("severityThreshold")
        rank = 1 if level is ABSENT else RANKS.get(item.text("severityThreshold"), 0)
        acts = item.get("enabled") is True and item.get("blocking") is True
        acts = acts and item.text("action") in ("", "none", "blocking")
        blocked[key] = min(rank if acts else 0, blocked.get(key, rank))
    return blocked


def at_least_as_strong(one: Mapping[Key, int], other: Mapping[Key, int]) -> bool:
    """The lattice: nowhere weaker. Policies that are each stronger somewhere are not comparable."""
    return all(one.get(key, 0) >= rank for key, rank in other.items())


def _flag(value: Any) -> str:
    return "" if isinstance(value, bool) else "must be true or false"


def _threshold(value: Any) -> str:
    """Floor: High would block the gravest content only."""
    return "" if value in ("Medium", "Low") else "must be Medium or Low"


def _names(value: Any) -> str:
    sound = isinstance(value, (list, tuple)) and all(_is_name(one) for one in value)
    return "" if sound else "must be a list of policy names, without wildcards"


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and bool(value) and all(letter.isalnum() or letter in "._-" for letter in value)


def _name(value: Any) -> str:
    return "" if _is_name(value) else "must be the name of a policy"


def _sources(value: Any) -> str:
    """Floor: prompts always, tool calls on top."""
    known = {"Prompt", "PreToolCall", "PostToolCall", "PreRun", "PostRun"}
    if not isinstance(value, (list, tuple)) or not all(isinstance(one, str) and one in known for one in value):
        return f"must be a list of {', '.join(sorted(known))}"
    return "" if "Prompt" in value else "leaves out Prompt"


def _code_only(value: Any) -> str:
    """Floor: text is always blocked."""
    listed = isinstance(value, (list, tuple)) and all(isinstance(one, str) for one in value)
    sound = listed and all(letters(one) == letters(CODE.name) for one in value)
    return "" if sound else "may hold protectedmaterialcode only"


RAI_EVENTS = (f"{ACCOUNT}/raiPolicies/write", f"{ACCOUNT}/raiPolicies/delete", f"{ACCOUNT}/deployments/write")


def _policy_control(id: str, check: Check, severity: Severity, title: str, why: str, drift: Mapping[str, Any],
                    **fields: Any) -> Control:
    return Control(f"openai-rai-policy-{id}", check, on=ACCOUNT, severity=severity, response="revert", title=title,
                   why=why, breaks=fields.pop("breaks", "applications approved for modified filters"),
                   also_reads=(POLICIES,), triggered_by=RAI_EVENTS,
                   drift={f"{POLICIES}[name='strict'].{path}": value for path, value in drift.items()}, **fields)


def _off(filter: Filter) -> dict[str, Any]:
    return {f"{FILTERS}[name='{filter.name}',source='{filter.sources[0]}'].blocking": False}


CONTROLS = (
    *(
        _policy_control(
            fold(name), check_of(harm), "high", f"Content filter blocks {name} in prompts and completions",
            f"{name} content passes to users or into the model", _off(harm),
            parameters={"max_threshold": "Medium"}, floors={"max_threshold": _threshold})
        for name, harm in HARMS.items()
    ),
    _policy_control(
        "jailbreak", check_of(JAILBREAK), "critical", "Prompt shield for direct attacks is on",
        "jailbreak prompts reach the model", _off(JAILBREAK)),
    _policy_control(
        "indirect-attack", indirect_attacks_blocked, "high", "Prompt shield for indirect attacks is on",
        "instructions hidden in documents or tool results steer the model or agent", _off(INDIRECT),
        parameters={"require_spotlighting": False, "sources": INDIRECT.sources},
        floors={"require_spotlighting": _flag, "sources": _sources}),
    _policy_control(
        "protected-material", check_of(TEXT, CODE), "medium", "Protected material detection is on",
        "copyrighted text or licensed code is returned to users", _off(TEXT),
        parameters={"annotate_only": ("protectedmaterialcode",)}, floors={"annotate_only": _code_only}),
    _policy_control(
        "mode", filtered_before_shown, "medium", "Content filter gives its verdict before text is shown",
        "harmful text is shown, and only then withdrawn", {"properties.mode": "Asynchronous_filter"},
        breaks="streaming gets slower", parameters={"allow_async": False}, floors={"allow_async": _flag}),
    Control(
        "openai-deployment-rai-policy", uses_strong_policy, on=ACCOUNT, severity="high", response="revert",
        title="Model deployment uses an approved or strong content-filter policy",
        why="harmful output and prompt attacks pass unfiltered on that deployment",
        breaks="applications tuned to the looser filter start to see content_filter errors",
        also_reads=(DEPLOYMENTS, POLICIES), learns=True, triggered_by=RAI_EVENTS,
        parameters={"required_policy": DEFAULT_POLICY, "approved_policies": (DEFAULT_POLICY,),
                    "require_explicit": False, "max_threshold": "Medium"},
        floors={"required_policy": _name, "approved_policies": _names, "require_explicit": _flag,
                "max_threshold": _threshold},
        drift={f"{DEPLOYMENTS}[name='chat-gpt'].properties.raiPolicyName": "Microsoft.Default"},
    ),
)
