"""The simulator answers as Azure did: every recorded sequence is sent again and compared, step by step.

What cannot be matched stands in the three tables below with its reason, and nowhere else; an entry that excuses nothing
fails as well. The figures are kept in tests/data/fidelity.json for the documentation to quote; after a change of habits
or recordings `python -m tests.simulator.replay` prints and renews them.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from simulator.ids import type_of
from simulator.types import TYPES
from tests.simulator import replay

FIGURES = Path(__file__).parent.parent / "data" / "fidelity.json"

OUTSIDE = {
    "PrincipalNotFound": "Entra ID had not yet heard of the new principal",
    "InvalidPrincipalId": "the principal belongs to a directory that is not in the recording",
    "RetryableError": "another operation of the recorded run held the parent",
    "429": "the recorded run was throttled",
    "StorageProvisioningStateNotSucceeded": "the storage account of the flow log was still being made",
    "NetworkSecurityGroupNotFoundForFlowLog": "the group of the flow log was still being made",
    "InUseDdosProtectionPlanCannotBeDeleted": "the network that uses the plan is not in the recording",
}
"""Error code -> why another resource decided it. Such a step is not sent."""

MADE: dict[str, dict[str, str]] = {
    "authorization.roleassignments": {
        r"properties\.createdby": "null in a write's answer, the principal in a read",
        r"properties\.candelegate": "of a preview, on some subscriptions",
    },
    "authorization.roledefinitions": {r"properties\.createdby": "null in a write's answer, the principal in a read"},
    "botservice.botservices": {r"properties\.configuredchannels.*": "follows channels, which are not in the recording"},
    "cognitiveservices.accounts": {r"properties\.(callratelimit|capabilities|endpoints).*": "the service's catalogue"},
    "cognitiveservices.accounts.deployments": {r"properties\.(capabilities|ratelimits).*": "the model's catalogue"},
    "cognitiveservices.accounts.projects": {r"properties\.endpoints.*": "the service's catalogue"},
    "containerregistry.registries": {
        r"identity\.userassigned.*\.clientid": "made where the identity was made",
        r".*encryption\.keyvaultproperties\.(versionedkey|lastkey|keyrotation).*": "read from the key vault",
    },
    "eventgrid.eventsubscriptions": {
        r"properties\.filter(\.includedeventtypes.*)?": "all event types of the topic's own service",
    },
    "insights.diagnosticsettings": {r"properties\.metrics\[0\]\.timegrain": "the category's own, seen once"},
    "machinelearningservices.registries": {
        r"properties\.(managedresourcegroup\.|discoveryurl|mlflow|regiondetails).*": "names of what the service makes",
    },
    "machinelearningservices.workspaces": {
        r"properties\.(notebookinfo|discoveryurl|mlflow|sdktelemetry).*": "names of what the service makes",
    },
    "machinelearningservices.workspaces.computes": {
        r"properties\.properties\.(address|ipaddress|virtualmachinesize)": "read from the attached machine",
    },
    "machinelearningservices.workspaces.onlineendpoints": {
        r"properties\.(scoringuri|swaggeruri|properties).*": "names of what the service makes",
    },
    "machinelearningservices.workspaces.onlineendpoints.deployments": {r"properties\.properties.*": "operation's URL"},
    "network.ddosprotectionplans": {r"properties\.virtualnetworks.*": "networks that are not in the recording"},
    "network.privateendpoints": {
        r"properties\.(customdnsconfigs|networkinterfaces).*": "made in a network that is not in the recording",
        r".*connectionstate\.description": "`Auto Approved` in the answer, `Auto-Approved` later",
    },
    "network.virtualnetworks": {
        r".*ipampoolprefixallocations": "came region by region, at the same api-version",
        r"properties\.privateendpointvnetpolicies": "came region by region, at the same api-version",
        r"properties\.bgpcommunities\.regionalcommunity": "a number of the region",
    },
    "network.virtualnetworks.subnets": {r".*ipampoolprefixallocations": "came region by region, at the same api-version"},
    "network.virtualnetworks.virtualnetworkpeerings": {
        r"properties\.(remote|local)(virtualnetwork)?addressspace.*": "the other network is not in the recording",
        r"properties\.(remotegateways.*|peeringstate|peeringsynclevel)": "the other network is not in the recording",
    },
    "operationalinsights.workspaces": {
        r"properties\.source|etag": "changed when workspaces moved to a newer service, at the same api-version",
    },
    "purview.accounts": {
        r"properties\.managedresource.*": "names of what the service makes",
        r"properties\.createdby": "the caller's own name",
    },
    "search.searchservices": {r"properties\.status": "provisioning or running at once, in the same call"},
    "security.pricings": {r"properties\.extensions\[\d\]\.(operationstatus|additional).*": "the extension's own work"},
    "storage.storageaccounts": {
        r".*encryption\.keyvaultproperties\.(currentversioned|lastkeyrotation).*": "read from the key vault",
        r"identity\.userassigned.*\.(identityurl|certrenewafter|tenantid)": "seen in one region in 2021",
    },
    "storage.storageaccounts.objectreplicationpolicies": {r"properties\.enabledtime": "set when the other account agrees"},
}
"""Type -> path of a difference -> why its value is the service's and cannot be known from the sequence."""


class Excuse(NamedTuple):
    """Differences of one sequence (all its steps, or those named) that match `what`."""

    sequence: str
    what: str
    why: str
    steps: tuple[int, ...] = ()


EXCUSED = (
    Excuse("authorization.roleassignments#3", r"properties\.principaltype", "the directory knew it as a user"),
    Excuse("cognitiveservices.accounts.deployments#0", r"(id|name)", "the recorder replaced it in answers only"),
    Excuse("cognitiveservices.accounts#6", r"azure-asyncoperation header", "done at once, 1 of 7", (0,)),
    Excuse("containerregistry.registries#8", r"status|azure-asyncoperation header", "synchronous in 2019", (0,)),
    Excuse("eventgrid.eventsubscriptions#4", r"properties\.eventdeliveryschema", "kept, but not in this answer", (2,)),
    Excuse("insights.diagnosticsettings#2", r"location|properties\.metrics.*", "added by a later GET", (1,)),
    Excuse("keyvault.vaults#8", r"systemdata", "missing in one read of several at one api-version", (4,)),
    Excuse("keyvault.vaults.privateendpointconnections#0", r"etag", "no ETag before the first write", (0,)),
    Excuse("keyvault.vaults.privateendpointconnections#1", r"etag", "no ETag before the first write", (0,)),
    Excuse("machinelearningservices.registries#0", r"status", "404 while it was being made", (1,)),
    Excuse("machinelearningservices.workspaces#0", r"properties\.allowpublic.*", "ignored at creation", (1,)),
    Excuse("machinelearningservices.workspaces#5", r"properties\.allow.*", "ignored at creation", (1,)),
    Excuse("network.firewallpolicies#4", r"etag header", "absent in this recording only"),
    Excuse("network.privateendpoints#5", r".*privatelinkserviceconnectionstate.*", "rejected meanwhile", (1,)),
    *(
        Excuse(f"operationalinsights.workspaces#{line}", r"location header", "the service of 2021-22 sent none", (0,))
        for line in (6, 7, 9, 10)
    ),
    Excuse("storage.storageaccounts#3", r"properties\.allowcrosstenantreplication", "a canary region hid it in 2024"),
    Excuse("storage.storageaccounts.objectreplicationpolicies#3", r"id|name|properties\.policyid",
           "`default` lets the service make the id", (0,)),
)  # fmt: skip

SEQUENCES = {sequence.name: sequence for sequence in replay.sequences()}


class Outcome(NamedTuple):
    """A replayed sequence: steps left alone, differences excused (by whom), differences left."""

    skipped: int
    excused: dict[int, list[str]]
    left: dict[int, list[str]]


@cache
def outcome(name: str) -> Outcome:
    sequence = SEQUENCES[name]
    skipped, excused, left = 0, {}, {}  # type: ignore[var-annotated]
    for number, differences in replay.replay(sequence, OUTSIDE):
        if differences is None:
            skipped += 1
            continue
        for difference in differences:
            reason = reason_for(sequence, number, difference.partition(":")[0])
            (excused.setdefault(number, []) if reason else left.setdefault(number, [])).append(reason or difference)
    return Outcome(skipped, excused, left)


def reason_for(sequence: replay.Sequence, step: int, what: str) -> str:
    """The entry that excuses a difference, as `table: key`; empty if none does."""
    for pattern in MADE.get(sequence.type, ()):
        if re.fullmatch(pattern, what):
            return f"{sequence.type}: {pattern}"
    for excuse in EXCUSED:
        is_step = not excuse.steps or step in excuse.steps
        if excuse.sequence == sequence.name and is_step and re.fullmatch(excuse.what, what):
            return f"{excuse.sequence}: {excuse.what}"
    return ""


def figures() -> dict[str, Any]:
    """What docs and reports quote: how many sequences and steps there are, match, and match but for an entry above."""
    outcomes = {name: outcome(name) for name in SEQUENCES}
    steps = sum(len(sequence.steps) for sequence in SEQUENCES.values())
    skipped = sum(it.skipped for it in outcomes.values())
    excused = sum(len(it.excused.keys() - it.left.keys()) for it in outcomes.values())
    left = sum(len(it.left) for it in outcomes.values())
    exact = sum(not (it.skipped or it.excused or it.left) for it in outcomes.values())
    return {
        "types": len({sequence.type for sequence in SEQUENCES.values()}),
        "sequences": {
            "all": len(SEQUENCES),
            "to the last value": exact,
            "but for named differences": sum(not it.left for it in outcomes.values()) - exact,
            "not matched": sum(bool(it.left) for it in outcomes.values()),
        },
        "steps": {
            "all": steps,
            "to the last value": steps - skipped - excused - left,
            "but for named differences": excused,
            "not sent": skipped,
            "not matched": left,
        },
    }


@pytest.mark.parametrize("name", SEQUENCES)
def test_the_simulator_answers_as_azure_did(name: str) -> None:
    left = outcome(name).left
    told = [f"step {number}, {SEQUENCES[name].steps[number].method}: {it}" for number, all in left.items() for it in all]
    assert not told, "\n".join([SEQUENCES[name].source, *told])


def test_every_recorded_type_has_habits_of_its_own() -> None:
    """Only what the simulator claims to know is replayed; ARM's general rules are nobody's habits."""
    assert {type_of(sequence.path).lower() for sequence in SEQUENCES.values()} <= TYPES.keys()


def test_every_excuse_is_needed() -> None:
    """An entry whose difference has gone is a claim of nothing, and hides the next one."""
    used = {reason for name in SEQUENCES for reasons in outcome(name).excused.values() for reason in reasons}
    codes = {replay.error_code(step.body) for sequence in SEQUENCES.values() for step in sequence.steps}
    entries = {f"{type}: {pattern}" for type, patterns in MADE.items() for pattern in patterns}
    entries |= {f"{excuse.sequence}: {excuse.what}" for excuse in EXCUSED}
    assert not entries - used
    assert not OUTSIDE.keys() - codes


def test_the_published_figures_are_those_of_this_run() -> None:
    assert json.loads(FIGURES.read_text(encoding="utf-8")) == figures(), "python -m tests.simulator.replay renews them"


def test_a_lost_habit_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison can fail: with arrays merged, tags kept or a status changed it does."""
    from simulator import merge

    monkeypatch.setattr(merge, "merged", lambda target, change: change)
    broken = [name for name in SEQUENCES if any(step.method == "PATCH" for step in SEQUENCES[name].steps)]
    outcome.cache_clear()
    assert sum(bool(outcome(name).left) for name in broken[:8]) >= 4
    outcome.cache_clear()


def main() -> None:
    """Prints the figures and every difference that is left, and renews the file."""
    told = figures()
    FIGURES.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    for name, sequence in SEQUENCES.items():
        for number, differences in outcome(name).left.items():
            print(f"{name} step {number}, {sequence.steps[number].method} {sequence.steps[number].version}")
            for difference in differences:
                print("   ", difference[:200])
    by_type = Counter(sequence.type for sequence in SEQUENCES.values())
    for type, count in by_type.items():
        matched = sum(not outcome(name).left for name, sequence in SEQUENCES.items() if sequence.type == type)
        print(f"{matched:3} of {count:3}  {type}")
    print(json.dumps(told, indent=2))
