"""What is decided: the file's form and floors, the ladder, and that nothing a drifter sets makes it weaker."""

from __future__ import annotations

import contextlib
import hashlib
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail import ids, policy_file
from guardrail.errors import ConfigError
from guardrail.paths import ABSENT
from guardrail.policy import (
    NOBODY,
    Actors,
    Policy,
    Rules,
    decide,
    enabled,
    exemption_for,
    is_held,
    parameters,
    pin,
    place,
    rules_from,
)
from guardrail.policy_schema import Exemption, Freeze, glob
from guardrail.values import (
    MODES,
    SEVERITIES,
    Control,
    Decision,
    Drift,
    Finding,
    Mode,
)

ROOT = Path(__file__).parent.parent
NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
PRODUCTION, DEVELOPMENT = (f"/subscriptions/00000000-0000-0000-0000-00000000000{n}" for n in (1, 2))
TYPE = "Microsoft.Storage/storageAccounts"
OPEN = Rules(switch="policy")
TRUSTED = "44444444-4444-4444-4444-444444444444"
DRIFT = Drift("properties.x", 1, 2)
BREAK_GLASS = "55555555-5555-5555-5555-555555555555"
OTHERS = ("66666666-6666-6666-6666-666666666666", "77777777-7777-7777-7777-777777777777")


def at(subscription: str = PRODUCTION, group: str = "rg-ai-dev", name: str = "st") -> ids.ResourceId:
    return ids.parse(f"{subscription}/resourceGroups/{group}/providers/{TYPE}/{name}")


def control(id: str = "storage-public-network-access", **fields: Any) -> Control:
    given = {
        "on": TYPE,
        "severity": "high",
        "response": "revert",
        "title": "",
        "why": "",
        "breaks": "",
        "parameters": {"ranges": (), "strict": True, "least": "TLS1_2", "days": 30},
        "floors": {
            "ranges": lambda value: "the whole Internet." if "0.0.0.0/0" in value else "",
            "least": lambda value: {"TLS1_0": "too old"}.get(value, ""),
        },
    }
    return Control(id, lambda node, p: iter(()), **{**given, **fields})


def finding(of: Control, id: ids.ResourceId | None = None, drift: Drift | None = DRIFT) -> Finding:
    return Finding(of.id, id or at(), of.severity, "", drift)


def load(text: str, controls: tuple[Control, ...] = ()) -> Policy:
    policy = policy_file.load(f"version: 1\n{text}".replace("CONTROL", control().id).encode())
    policy_file.check(policy, controls or (control(),), NOW)
    return policy


def decided(
    policy: Policy,
    *,
    subscription: str = PRODUCTION,
    group: str = "rg-ai-dev",
    tags: Any = None,
    of: Control | None = None,
    rules: Rules = OPEN,
    ceiling: Mode = "enforce",
    drift: Drift | None = DRIFT,
    actors: Actors = NOBODY,
    groups: tuple[str, ...] = (),
) -> Decision:
    of = of or control()
    id = at(subscription, group)
    return decide(
        finding(of, id, drift), of, place(id, policy, groups), tags or {}, policy, rules, ceiling, NOW, actors
    )


ENVIRONMENTS = f"environments: {{development: [{DEVELOPMENT}]}}\n"


# the file


@pytest.mark.threat("E7")
@pytest.mark.parametrize(
    ("text", "line", "key", "hint"),
    [
        ("version: 1", 2, "version", "twice"),
        ("rules:\n- {name: a, mode: report,\n   mode: enforce}", 4, "rules[0].mode", "twice"),
        ("controls: {parameters: {x: {y: 1, y: 2}}}", 2, "controls.parameters.x.y", "twice"),
        ("a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]", 2, "a", "anchors"),
        ("break_glass: &x []", 2, "break_glass", "anchors"),
        ("break_glass: *x", 2, "the file", "alias"),
        ("x: !!python/object/apply:os.system ['id']", 2, "x", "tags"),
        ("default: !mine {production: report}", 2, "default", "tags"),
        ("<<: {rules: []}", 2, "", ""),
        ("rule: []", 2, "rule", "no such key"),
        ("rules:\n- name: a\n  mod: report", 4, "rules[0].mod", "no such key"),
        ("rules:\n- name: a\n  mode: enforced", 4, "rules[0].mode", "report, approve, enforce"),
        ("rules:\n- name: a\n  mode: ignore", 4, "rules[0].mode", "report, approve, enforce"),
        ("rules: [{name: a, mode: report, group: []}]", 2, "rules[0].group", ""),
        ("rules: [{name: a, mode: report, group: ''}]", 2, "rules[0].group", ""),
        ("rules: [{name: a, mode: report, subscription: []}]", 2, "rules[0].subscription", ""),
        ("rules: [{name: a, mode: report, tag: {}}]", 2, "rules[0].tag", ""),
        ("rules: [{name: a, mode: report, subscription: mine}]", 2, "rules[0].subscription", "GUID"),
        ("rules: [{name: a, mode: report, environment: staging}]", 2, "rules[0].environment", "environments"),
        ("rules: [{name: a, mode: report}, {name: a, mode: approve}]", 2, "rules[1].name", "of its own"),
        ("rules: [{name: a, mode: report, control: storage-pubic*}]", 2, "rules[0].control", "nothing has this name"),
        (
            "rules: [{name: a, mode: report, type: Microsoft.Storage/accounts}]",
            2,
            "rules[0].type",
            "nothing has this name",
        ),
        (
            "rules: [{name: a, mode: report, tag: {x: y}, parameters: {CONTROL: {strict: false}}}]",
            2,
            "rules[0].parameters",
            "tag",
        ),
        ("controls: {disabled: [no-such-thing]}", 2, "controls.disabled[0]", "nothing has this name"),
        ("controls: {parameters: {no-such-thing: {x: 1}}}", 2, "controls.parameters.no-such-thing", "no control"),
        (
            "controls:\n  parameters:\n    storage-public-network-access:\n      rangs: []",
            5,
            "controls.parameters.storage-public-network-access.rangs",
            "ranges, strict",
        ),
        (
            "controls: {parameters: {storage-public-network-access: {ranges: [0.0.0.0/0]}}}",
            2,
            "controls.parameters.storage-public-network-access.ranges",
            "the whole Internet. Only an exemption",
        ),
        (
            "rules: [{name: a, mode: report, parameters: {storage-public-network-access: {least: TLS1_0}}}]",
            2,
            "rules[0].parameters.storage-public-network-access.least",
            "too old",
        ),
        (
            "controls: {parameters: {storage-public-network-access: {strict: 'false'}}}",
            2,
            "controls.parameters.storage-public-network-access.strict",
            "true or false",
        ),
        (
            "controls: {parameters: {storage-public-network-access: {ranges: 10.0.0.0/8}}}",
            2,
            "controls.parameters.storage-public-network-access.ranges",
            "list",
        ),
        ("environments: {development: [mine]}", 2, "environments.development[0]", "subscription"),
        (
            f"environments: {{development: [{DEVELOPMENT}], test: [{DEVELOPMENT.upper().replace('SUB', 'sub')}]}}",
            2,
            "environments.",
            "one environment",
        ),
        ("approvals: {expires: {critical: 5h}}", 2, "approvals.expires.critical", "4h or less"),
        ("approvals: {expires: {other: 9h}}", 2, "approvals.expires.other", "8h or less"),
        ("approvals: {expires: {other: soon}}", 2, "approvals.expires.other", ""),
        ("breakers: {flapping: {writes: 0}}", 2, "breakers.flapping.writes", ""),
        ("breakers: {flapping: {writes: 99999999999999999999999}}", 2, "breakers.flapping.writes", ""),
        ("break_glass: [someone]", 2, "break_glass[0]", ""),
        ("freezes: [{name: a, from: 2026-12-02, until: 2026-12-01}]", 2, "freezes[0].until", "after"),
        ("freezes: [{name: a, from: 2026-12-02T00:00:00, until: 2026-12-03}]", 2, "freezes[0].from", ""),
        (
            "exemptions: [{control: CONTROL, scope: SCOPE, reason: r, owner: o}]",
            2,
            "exemptions[0]",
            "until",
        ),
        (
            "exemptions: [{control: CONTROL, scope: SCOPE, reason: '', owner: o, until: 2026-12-01}]",
            2,
            "exemptions[0].reason",
            "",
        ),
        (
            "exemptions: [{control: CONTROL, scope: SCOPE, reason: r, owner: ' ', until: 2026-12-01}]",
            2,
            "exemptions[0]",
            "who answers",
        ),
        (
            "exemptions: [{control: storage-*, scope: SCOPE, reason: r, owner: o, until: 2026-12-01}]",
            2,
            "exemptions[0].control",
            "one control",
        ),
        (
            "exemptions: [{control: CONTROL, scope: SCOPE, reason: r, owner: o, until: 2027-03-01}]",
            2,
            "exemptions[0].until",
            "90 days",
        ),
        (
            f"exemptions: [{{control: CONTROL, scope: {PRODUCTION}, reason: r, owner: o, until: 2026-12-01}}]",
            2,
            "exemptions[0].scope",
            "one resource",
        ),
        ("default: {production: .nan}", 2, "default.production", ""),
        ("rules: null", 2, "rules", ""),
        ("? [a]\n: b", 2, "", ""),
        ("1: x", 2, "", "quotes"),
        ("---\nversion: 1", 2, "the file", "one document"),
        ("x: [", 2, "the file", ""),
        ("x: \x00", 0, "the file", ""),
        ("x: " + "[" * 3000, 0, "", ""),
        ("x: " + "{a: " * 40 + "1" + "}" * 40, 2, "x.a", "deeply"),
        ("hash: abc", 2, "hash", "no such key"),
        ("lines: {}", 2, "lines", "no such key"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_a_file_that_is_not_right_names_line_key_and_cure(text: str, line: int, key: str, hint: str) -> None:
    scope = f"{PRODUCTION}/resourceGroups/rg-open"
    with pytest.raises(ConfigError) as caught:
        load(text.replace("SCOPE", scope))
    error = caught.value
    assert error.where == (f"guardrail.yaml line {line}" if line else "guardrail.yaml")
    assert key in error.key
    assert hint in f"{error.value} {error.cure}"
    assert error.cure


@pytest.mark.threat("E7")
@pytest.mark.parametrize(
    "raw", [b"", b"#", b"x", b"[]", b"\xff", b"version: 2", b"rules: []", b"version: 1\n" + b"#" * 256 * 1024]
)
def test_a_file_that_is_no_policy_is_refused(raw: bytes) -> None:
    with pytest.raises(ConfigError):
        policy_file.load(raw)


@pytest.mark.threat("E7")
@given(st.text(st.sampled_from("abc:[]{}&*!?|>'\"#-, \n%@01~<"), max_size=60) | st.binary(max_size=60))
def test_any_text_is_a_policy_or_a_config_error(raw: str | bytes) -> None:
    with contextlib.suppress(ConfigError):
        policy_file.load(raw.encode() if isinstance(raw, str) else raw)


def test_a_large_file_is_read_in_time() -> None:
    rules = "".join(f"- {{name: r{n}, mode: report, group: g{n}, severity: [high, low]}}\n" for n in range(500))
    began = time.perf_counter()
    load("rules:\n" + rules)
    assert time.perf_counter() - began < 10


def test_without_a_file_everything_is_reported() -> None:
    policy = policy_file.load(None)
    assert policy.hash == ""
    assert decided(policy).mode == "report"
    assert decided(policy, of=control(severity="critical")).mode == "report"


def test_the_hash_is_that_of_the_bytes() -> None:
    raw = b"version: 1 # x\n"
    assert policy_file.load(raw).hash == hashlib.sha256(raw).hexdigest()


def test_durations_and_numbers_have_their_defaults() -> None:
    policy = load("approvals: {expires: {critical: 30m}}")
    assert policy.expires("critical") == timedelta(minutes=30)
    assert policy.expires("low") == timedelta(hours=8)
    assert (policy.breakers.flapping.writes, policy.breakers.flapping.window) == (2, timedelta(minutes=15))
    assert (policy.breakers.blast_radius.writes, policy.breakers.blast_radius.window) == (20, timedelta(hours=1))


def shipped_controls() -> tuple[Control, ...]:
    import importlib
    import pkgutil

    import detectors

    return tuple(
        one
        for module in pkgutil.iter_modules(detectors.__path__)
        for one in getattr(importlib.import_module(f"detectors.{module.name}"), "CONTROLS", ())
    )


@pytest.mark.parametrize("with_examples", [False, True])
def test_the_sample_is_valid_and_reports_only(with_examples: bool) -> None:
    text = (ROOT / "guardrail.yaml").read_text()
    if with_examples:
        text = "\n".join(line.removeprefix("#:") for line in text.splitlines())
    policy = policy_file.load(text.encode())
    policy_file.check(policy, shipped_controls(), NOW)
    if with_examples:
        named = {line.removeprefix("#:").split(":")[0] for line in text.splitlines() if line[:1].isalpha()}
        assert named == set(policy.__struct_fields__) - {"hash", "source", "lines"}
    else:
        for severity in SEVERITIES:
            assert decided(policy, of=control(severity=severity)).mode == "report"


def test_the_story_mends_development_and_asks_in_production() -> None:
    policy = policy_file.load((ROOT / "guardrail.story.yaml").read_bytes())
    policy_file.check(policy, shipped_controls(), NOW)
    modes = [
        decided(policy, subscription=f"/subscriptions/00000000-0000-0000-0000-00000000000{n}", group=group).mode
        for n, group in ((1, "rg-ai-dev"), (2, "rg-ai-prod"), (1, "rg-log"), (2, "rg-ai-dev"), (3, "rg-ai-dev"))
    ]
    assert modes == ["enforce", "approve", "report", "report", "report"]


# the ladder

RULES = (
    ENVIRONMENTS
    + """
default: {production: approve, other: report}
rules:
- {name: confidential, tag: {Class: [secret, confidential]}, mode: enforce}
- {name: low is told, severity: low, mode: report}
- {name: prod loose, environment: production, group: rg-loose*, mode: report}
- {name: dev, environment: development, group: rg-ai-*, mode: enforce, parameters: {CONTROL: {days: 7}}}
- {name: keys, control: "*-key-*", type: microsoft.storage/*, mode: enforce}
- {name: tenant, management_group: mg-sandbox, mode: enforce}
"""
)
KEYS = control("storage-key-age", parameters={})


@pytest.mark.parametrize(
    ("where", "mode", "rule"),
    [
        ({}, "approve", "default.production"),
        ({"subscription": DEVELOPMENT, "group": "other"}, "report", "default.other"),
        ({"subscription": DEVELOPMENT}, "enforce", "dev"),
        ({"subscription": DEVELOPMENT, "group": "RG-AI-X"}, "enforce", "dev"),
        ({"group": "rg-loose-1"}, "approve", "default.production"),
        ({"of": KEYS}, "enforce", "keys"),
        ({"of": control(severity="low")}, "report", "low is told"),
        ({"of": control(severity="low"), "tags": {"class": "secret"}}, "approve", "confidential"),
        ({"subscription": DEVELOPMENT, "group": "x", "tags": {"CLASS": "secret"}}, "enforce", "confidential"),
        ({"tags": {"class": "SECRET"}}, "approve", "default.production"),
        ({"groups": ("/providers/Microsoft.Management/managementGroups/MG-Sandbox",)}, "enforce", "tenant"),
    ],
)
def test_the_first_match_decides(where: dict[str, Any], mode: Mode, rule: str) -> None:
    found = decided(load(RULES, (control(), KEYS)), **where)
    assert (found.mode, found.rule, found.why) == (mode, rule, "")


@pytest.mark.parametrize(
    ("where", "mode", "cause"),
    [
        ({"ceiling": "report"}, "report", "ceiling"),
        ({"ceiling": "approve"}, "approve", "ceiling"),
        ({"rules": Rules()}, "report", "switch"),
        ({"rules": Rules(switch="approve")}, "approve", "switch"),
        (
            {"rules": replace(OPEN, freezes=(Freeze(name="f", start=NOW, until=NOW + timedelta(1)),))},
            "approve",
            "freeze: f",
        ),
        ({"rules": replace(OPEN, freezes=(Freeze(name="f", start=NOW - timedelta(1), until=NOW),))}, "enforce", ""),
        (
            {
                "rules": replace(
                    OPEN, freezes=(Freeze(name="f", start=NOW, until=NOW + timedelta(1), scope=PRODUCTION),)
                )
            },
            "enforce",
            "",
        ),
        ({"of": control(asks="it grants")}, "approve", "asks"),
        ({"of": control(response="report")}, "report", "control"),
        ({"of": control(response="isolate")}, "enforce", ""),
        ({"drift": None}, "report", "unreadable"),
        ({"drift": Drift("x", decided=False)}, "report", "undecided"),
        ({"actors": Actors(confirmed=frozenset({TRUSTED}))}, "report", "trusted"),
        ({"actors": Actors(claimed=frozenset({TRUSTED}), confirmed=frozenset({TRUSTED}))}, "report", "trusted"),
        ({"actors": Actors(confirmed=frozenset({TRUSTED})), "of": control(severity="critical")}, "enforce", ""),
        ({"actors": Actors(claimed=frozenset({TRUSTED}))}, "enforce", ""),
        ({"actors": Actors(confirmed=frozenset({TRUSTED}), unknown=True)}, "enforce", ""),
        ({"actors": Actors(confirmed=frozenset({TRUSTED, OTHERS[0]}))}, "enforce", ""),
        (
            {"actors": Actors(confirmed=frozenset({BREAK_GLASS})), "of": control(severity="critical")},
            "report",
            "break glass",
        ),
        ({"actors": Actors(confirmed=frozenset({BREAK_GLASS}), claimed=frozenset({OTHERS[0]}))}, "enforce", ""),
    ],
)
def test_everything_else_takes_the_minimum_and_says_why(where: dict[str, Any], mode: Mode, cause: str) -> None:
    policy = load(
        RULES + f"trusted_deployers: [{{object_id: {TRUSTED}, scope: {DEVELOPMENT}}}]\nbreak_glass: [{BREAK_GLASS}]\n",
        (control(), KEYS),
    )
    found = decided(policy, subscription=DEVELOPMENT, **where)
    assert found.mode == mode
    assert found.why.startswith(cause)
    assert bool(found.why) == bool(cause)


def test_an_ask_that_a_freeze_or_the_switch_makes_is_held() -> None:
    policy = load(RULES, (control(), KEYS))
    frozen = replace(OPEN, freezes=(Freeze(name="f", start=NOW, until=NOW + timedelta(1)),))
    for rules in (frozen, Rules(switch="approve")):
        assert is_held(decided(policy, subscription=DEVELOPMENT, rules=rules))
        assert not is_held(decided(policy, rules=rules))  # its rule asks anyway
    assert not is_held(decided(policy, subscription=DEVELOPMENT))


tag_maps = st.dictionaries(
    st.sampled_from(["Class", "class", "env", "ENV", "team", ""]),
    st.sampled_from(["secret", "dev", "prod", ""]) | st.integers() | st.none(),
    max_size=4,
)
one_rule = st.fixed_dictionaries(
    {"mode": st.sampled_from(["report", "approve", "enforce"])},
    optional={
        "tag": st.dictionaries(
            st.sampled_from(["class", "env", "team"]), st.sampled_from(["secret", "dev", "prod"]), min_size=1
        ),
        "group": st.sampled_from(["rg-*", "dev-*", "*"]),
        "severity": st.sampled_from(SEVERITIES),
        "environment": st.sampled_from(["production", "development"]),
        "subscription": st.sampled_from([PRODUCTION, DEVELOPMENT]),
    },
)


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    rules = [{"name": f"r{index}", **rule} for index, rule in enumerate(draw(st.lists(one_rule, max_size=6)))]
    modes = st.sampled_from(["report", "approve", "enforce"])
    return msgspec.convert(
        {
            "environments": {"development": [DEVELOPMENT]},
            "rules": rules,
            "default": {"production": draw(modes), "other": draw(modes)},
        },
        Policy,
    )


def rank(decision: Decision) -> int:
    return MODES.index(decision.mode)


@pytest.mark.threat("A1")
@given(
    policies(),
    tag_maps,
    st.sampled_from(SEVERITIES),
    st.sampled_from([PRODUCTION, DEVELOPMENT]),
    st.sampled_from(["rg-x", "dev-x"]),
)
def test_tags_never_weaken_and_never_pass_approve_in_production(
    policy: Policy, tags: dict[str, Any], severity: Any, subscription: str, group: str
) -> None:
    of = control(severity=severity)
    without = decided(policy, subscription=subscription, group=group, of=of)
    tagged = decided(policy, subscription=subscription, group=group, of=of, tags=tags)
    assert rank(tagged) >= rank(without)
    if subscription == PRODUCTION:
        assert rank(tagged) <= max(rank(without), MODES.index("approve"))


@pytest.mark.threat("A1")
@pytest.mark.parametrize("subscription", [PRODUCTION, DEVELOPMENT])
def test_a_tag_that_says_less_says_nothing(subscription: str) -> None:
    policy = load(
        ENVIRONMENTS + "default: {production: enforce, other: enforce}\n"
        "rules: [{name: a, tag: {env: dev}, mode: report}, {name: b, tag: {env: dev}, group: rg-*, mode: approve}]"
    )
    found = decided(policy, subscription=subscription, tags={"env": "dev"})
    assert found.mode == "enforce"
    assert found.rule.startswith("default.")


@pytest.mark.threat("A2")
@given(policies(), st.sampled_from(SEVERITIES), st.sampled_from(["rg-x", "dev-x", "other", ""]))
def test_a_group_s_name_never_weakens_in_production(policy: Policy, severity: Any, group: str) -> None:
    of = control(severity=severity)
    bare = msgspec.structs.replace(policy, rules=tuple(rule for rule in policy.rules if not rule.group))
    assert rank(decided(policy, group=group or "none", of=of)) >= rank(decided(bare, group=group or "none", of=of))


@pytest.mark.threat("B1")
@given(
    policies(),
    st.frozensets(st.sampled_from([TRUSTED, BREAK_GLASS, *OTHERS])),
    st.booleans(),
    st.booleans(),
    st.frozensets(st.sampled_from([TRUSTED, BREAK_GLASS, *OTHERS])),
    st.sampled_from(SEVERITIES),
)
def test_a_forged_actor_never_weakens(
    policy: Policy, claimed: frozenset[str], unknown: bool, production: bool, confirmed: frozenset[str], severity: Any
) -> None:
    policy = msgspec.structs.replace(
        policy,
        break_glass=(BREAK_GLASS,),
        trusted_deployers=load(
            f"trusted_deployers: [{{object_id: {TRUSTED}, scope: {DEVELOPMENT}}}]"
        ).trusted_deployers,
    )
    where: dict[str, Any] = {
        "subscription": PRODUCTION if production else DEVELOPMENT,
        "of": control(severity=severity),
    }
    nobody = decided(policy, **where)
    assert decided(policy, actors=Actors(claimed, frozenset(), unknown), **where) == nobody
    honest = decided(policy, actors=Actors(frozenset(), confirmed), **where)
    assert rank(decided(policy, actors=Actors(claimed, confirmed, unknown), **where)) >= rank(honest)


def test_production_is_what_is_not_named_otherwise() -> None:
    policy = load(
        f"environments: {{development: [{DEVELOPMENT}, /providers/Microsoft.Management/managementGroups/sandbox], "
        "test: [/providers/Microsoft.Management/managementGroups/test]}"
    )
    sandbox, test = "Sandbox", "/providers/Microsoft.Management/managementGroups/TEST"
    assert place(at(PRODUCTION), policy).is_production
    assert place(at(DEVELOPMENT), policy, (test,)).environment == "development"
    assert place(at(PRODUCTION), policy, (sandbox,)).environment == "development"
    assert place(at(PRODUCTION), policy, (test, sandbox)).is_production  # they disagree
    assert place(at(PRODUCTION), policy, ("other",)).is_production


def test_parameters_of_the_rule_go_before_the_policy_s() -> None:
    text = RULES + "controls: {parameters: {storage-public-network-access: {days: 20, ranges: [10.0.0.0/8]}}}\n"
    policy = load(text, (control(), KEYS))
    assert parameters(control(), place(at(DEVELOPMENT), policy), policy) == {
        "ranges": ["10.0.0.0/8"],
        "strict": True,
        "least": "TLS1_2",
        "days": 7,
    }
    assert parameters(control(), place(at(PRODUCTION), policy), policy)["days"] == 20
    assert parameters(control(), place(at(), Policy()), Policy())["days"] == 30


@pytest.mark.threat("A2")
def test_a_group_s_name_gives_no_parameters_in_production() -> None:
    policy = load(
        "rules: [{name: a, group: dev-*, mode: approve, parameters: {storage-public-network-access: {strict: false}}}]"
    )
    assert parameters(control(), place(at(PRODUCTION, "dev-mine"), policy), policy)["strict"] is True


def test_controls_are_switched_off_by_glob() -> None:
    policy = load("controls: {disabled: [storage-key-*]}", (control(), KEYS))
    assert [one.id for one in enabled((control(), KEYS), policy)] == ["storage-public-network-access"]


@pytest.mark.parametrize(
    ("pattern", "text", "fits"),
    [
        ("*", "", True),
        ("*", "x", True),
        ("a*", "ab", True),
        ("a*", "b", False),
        ("*b", "ab", True),
        ("a*b*c", "axbxc", True),
        ("a*b*c", "acb", False),
        ("ab*ba", "aba", False),
        ("rg-AI*", "RG-ai-1", True),
        ("[a]*", "a", False),
        ("?", "a", False),
        ("a.c", "abc", False),
        ("a**b", "ab", True),
        ("\u212a*", "k", False),
        ("*ab*ab*", "xab", False),
        ("*ab*ab*", "xabab", True),
        ("a*a*a*a*a*a*a*a*a*b", "a" * 5000, False),
    ],
)
def test_globs_know_the_star_alone(pattern: str, text: str, fits: bool) -> None:
    assert glob(pattern, text) is fits


# the runtime row


@pytest.mark.threat("C5")
@pytest.mark.parametrize(
    "raw",
    [None, b"", b"{", b"[]", b'{"switch":"enforce"}', b'{"switch":null}', b'{"switch":"policy","freezes":7}', b"\xff"],
)
def test_a_missing_or_broken_row_reports(raw: bytes | None) -> None:
    assert rules_from(raw) == Rules()
    assert Rules().switch == "report"


def test_the_row_comes_back_as_it_was() -> None:
    one = Exemption(control="c", scope=at(), reason="r", owner="o", until=NOW)
    rules = Rules("policy", 3, (Freeze(name="f", start=NOW, until=NOW),), (one,), frozenset({TYPE.lower()}))
    rules = pin(rules, one, finding(control()), place(at(), Policy()))
    assert rules_from(msgspec.json.encode(rules)) == rules


# exemptions

EXEMPT = Exemption(control=control().id, scope=at(), reason="open data", owner="team", until=NOW + timedelta(days=90))


def exempt(
    rules: Rules = OPEN,
    id: ids.ResourceId | None = None,
    observed: Any = "Enabled",
    incarnation: str = "one",
    one: Exemption = EXEMPT,
    now: datetime = NOW,
) -> bool:
    id = id or at()
    found = finding(control(), id, Drift("properties.x", observed, "Disabled"))
    where = replace(place(id, Policy()), incarnation=incarnation)
    holds = exemption_for(found, where, Policy(), replace(rules, exemptions=(one,)), now)
    assert decide(found, control(), where, {}, Policy(), replace(rules, exemptions=(one,)), "enforce", now).mode == (
        "ignore" if holds else "report"
    )
    return holds is not None


@pytest.mark.threat("A14")
def test_an_exemption_holds_for_one_place_and_until_its_end() -> None:
    group = msgspec.structs.replace(EXEMPT, scope=f"{PRODUCTION}/resourceGroups/RG-ai-dev")
    assert exempt()
    assert exempt(one=group)
    assert exempt(now=EXEMPT.until - timedelta(seconds=1))
    assert not exempt(now=EXEMPT.until)
    assert not exempt(now=NOW - timedelta(seconds=1))  # more than 90 days ahead
    assert not exempt(id=at(name="st2"))
    assert not exempt(id=at(group="rg-ai-dev2"), one=group)
    assert not exempt(one=msgspec.structs.replace(EXEMPT, scope=PRODUCTION))
    assert not exempt(one=msgspec.structs.replace(EXEMPT, control="*"))
    assert (
        exemption_for(
            finding(control(), drift=None), place(at(), Policy()), Policy(), replace(OPEN, exemptions=(EXEMPT,)), NOW
        )
        is None
    )


@pytest.mark.threat("A14", "A7")
@pytest.mark.parametrize("worse", [["0.0.0.0/0"], None, ABSENT, "enabled", 1])
def test_an_exemption_is_pinned_to_the_value_and_the_life_first_seen(worse: Any) -> None:
    where = replace(place(at(), Policy()), incarnation="one")
    seen = finding(control(), at(), Drift("properties.x", "Enabled", "Disabled"))
    rules = pin(OPEN, EXEMPT, seen, where)
    assert pin(rules, EXEMPT, seen, where) is rules
    assert exempt(rules)
    assert not exempt(rules, observed=worse)
    assert not exempt(rules, incarnation="two")
    assert exempt(pin(OPEN, EXEMPT, finding(control(), drift=Drift("properties.x")), where), observed=None)
