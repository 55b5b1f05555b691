"""Every fact of Azure in our tables against the published types: paths, values of enumerations, api-versions, read-only
and write-only properties, operations, permissions, the good documents, and the bodies that the fixes send.

`python -m pytest tests/test_schemas.py -s -k figures` prints what was held against what, and what the index cannot tell.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from detectors import CONTROLS
from guardrail.paths import fold, show
from guardrail.values import Control, ResourceType, Route
from remediators import TYPES
from tests import published
from tests.facts import (
    ACTING,
    asked_by,
    faults_of_control,
    faults_of_fix,
    faults_of_isolation,
    faults_of_sample,
    faults_of_type,
    fix_of,
    isolation_of,
    of_route,
    permissions,
    unchecked,
    written,
)

# (control, type or *; beginning of the fault): why we know better than the index, or live with it. One without use fails.
EXCEPTIONS: Mapping[tuple[str, str], str] = {
    ("*", "Microsoft.Insights/diagnosticSettings@2021-05-01-preview: 2016-09-01"):
        "the stable version of 2016 knows one unnamed setting a resource; the preview is what everybody uses",
    ("*", "properties.networkAcls.virtualNetworkRules['#0'].state: read-only"):
        "lists go whole, and a Route cannot say `of each item`. Other services were recorded to ignore what comes back"
        " unchanged; of storage there is no recording with such a rule",
    ("Microsoft.KeyVault/vaults", "properties.provisioningState: is not read-only"): "ARM writes it, whatever the type says",
    ("Microsoft.CognitiveServices/accounts", "properties.currentCapacity: is not read-only"):
        "recorded: it follows sku.capacity, whatever the type says",
    ("Microsoft.BotService/botServices", "etag: is not read-only"): "it is the service's, and a client may only match it",
    ("Microsoft.BotService/botServices/channels", "etag: is not read-only"): "as the bot's",
    ("Microsoft.BotService/botServices/channels", "properties.etag: is not read-only"): "new with every read (recorded)",
    ("Microsoft.BotService/botServices/channels", "properties.properties.sites['#0']."):
        "the route's own write leaves out what is read-only of each site",
    ("Microsoft.Search/searchServices", "properties.provisioningState: is not read-only (properties.shared"):
        "a link's state is the service's, whatever the type says",
    ("Microsoft.Search/searchServices", "properties.status: is not read-only (properties.shared"):
        "only the target's owner approves a link",
    ("cognitive-managed-identity", "identity.type: 'SystemAssigned,UserAssigned'"):
        "some services answer without the blank; it counts as good and is never written",
    ("Microsoft.MachineLearningServices/workspaces/onlineEndpoints", "properties.keys: may be left out"):
        "sets the keys of a new endpoint and reads as null ever after; every client moves traffic by a PUT without it",
    ("ml-compute-instance-idle-shutdown", "POST with a body"): "the action takes the new value in its body",
    ("ml-amlcompute-remote-login", "properties.properties.scaleSettings: no such"):
        "PATCH has a model of its own (ClusterUpdateParameters) without the kind that decides the shape in a PUT",
    ("Microsoft.MachineLearningServices/workspaces/computes", "properties.properties.scaleSettings: no such"):
        "as above",
}


def everything() -> Iterator[tuple[str, str]]:
    """(subject, fault) of all that the tests below look at."""
    for type in TYPES:
        yield from ((type.name, fault) for fault in (
            *faults_of_type(type.name), *faults_of_sample(type.name), *faults_of_isolation(type.name)))
    for control in CONTROLS:
        yield from ((control.id, fault) for fault in faults_of_control(control.id))
    for control in ACTING:
        yield from ((control.id, fault) for fault in faults_of_fix(control.id))


def excuses(subject: str, fault: str) -> list[tuple[str, str]]:
    return [key for key in EXCEPTIONS if key[0] in (subject, "*") and fault.startswith(key[1])]


def assert_none(subject: str, faults: tuple[str, ...]) -> None:
    left = [fault for fault in faults if not excuses(subject, fault)]
    assert not left, "\n".join(left)


by_type = pytest.mark.parametrize("type", TYPES, ids=lambda type: type.name)


@by_type
def test_what_a_type_says_of_itself_is_published(type: ResourceType) -> None:
    """Its version is the newest; what is called read-only, secret, an object or a list is that; nothing else would be sent."""
    assert_none(type.name, faults_of_type(type.name))


@by_type
def test_the_good_document_is_one_of_its_type(type: ResourceType) -> None:
    assert_none(type.name, faults_of_sample(type.name))


@by_type
def test_what_its_isolation_asks_and_sends_is_published(type: ResourceType) -> None:
    assert_none(type.name, faults_of_isolation(type.name))


@pytest.mark.parametrize("control", CONTROLS, ids=lambda control: control.id)
def test_what_a_control_names_exists(control: Control) -> None:
    """Each path that its check looks at, each value that it compares with or wants, its drift, triggers and permissions."""
    assert asked_by(control.id).paths
    assert_none(control.id, faults_of_control(control.id))


@pytest.mark.parametrize("control", ACTING, ids=lambda control: control.id)
def test_what_its_fix_sends_is_taken(control: Control) -> None:
    """Known properties alone, none read-only, and all that a PUT requires; the undo's requests too."""
    assert fix_of(control.id)
    assert_none(control.id, faults_of_fix(control.id))


def test_each_exception_still_excuses_something() -> None:
    used = {key for subject, fault in everything() for key in excuses(subject, fault)}
    assert sorted(set(EXCEPTIONS) - used) == []


def test_the_schemas_are_those_that_we_name() -> None:
    """A type or a version that nobody names any more goes: python -m tools.import_schemas GIT_DIR."""
    named = {of_route(type, route).name for type in TYPES for route in (Route(), *written(type))}
    stored = {name.stem.split("@")[0] for name in published.FOLDER.glob("*@*.json")}
    assert stored == {fold(name).replace("/", ".") for name in named}


def test_figures() -> None:
    """What was held against what. Run with -s to see it."""
    paths, values, operations = set[Any](), set[Any](), set[str]()
    for control in CONTROLS:
        asked = asked_by(control.id)
        paths |= {(control.on, show(path)) for path in asked.paths}
        values |= {(control.on, show(path), value) for path, value in (*asked.values, *asked.compared)}
        operations |= {*control.triggered_by, *permissions(control)}
    sent = [step for control in ACTING for step in fix_of(control.id)]
    sent += [step for type in TYPES for step in isolation_of(type.name)[1]]
    schemas = list(published.FOLDER.glob("*@*.json"))
    print(f"\n{len(CONTROLS)} controls on {len(TYPES)} types, {len(schemas)} types and versions of the index:"
          f" {len(paths)} paths, {len(values)} values, {len(operations)} operations and permissions, {len(sent)} requests of"
          f" fixes, isolations and undos, {len(EXCEPTIONS)} exceptions")
    print("not in the index, so unchecked: what a PATCH takes, and the actions",
          ", ".join(sorted(one for one in operations if unchecked(one))))
    assert paths
    assert values
    assert sent
