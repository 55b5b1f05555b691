"""What comes in: any bytes become changes, ignored or rejected items, and subjects only ever lie upward."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail import ids
from guardrail.errors import Malformed
from guardrail.events import ALL, ENTRIES, MIB, Ignored, Rejected, from_queue, load, read, subjects
from guardrail.values import Change, Control, ResourceType, to_json

ROOT = Path(__file__).parent.parent
NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
SUB = "/subscriptions/00000000-0000-0000-0000-000000000001"
GROUP = f"{SUB}/resourceGroups/rg-ai-dev"
ACCOUNT = f"{GROUP}/providers/Microsoft.CognitiveServices/accounts/aoai"
OID = "12345678-1234-1234-1234-1234567890ab"
CLAIM = "http://schemas.microsoft.com/identity/claims/objectidentifier"

any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=20,
)


def event(**fields: Any) -> dict[str, Any]:
    given = {
        "id": "1",
        "eventType": "Microsoft.Resources.ResourceWriteSuccess",
        "subject": ACCOUNT,
        "eventTime": "2026-11-24T10:00:00.1234567Z",
        "data": {
            "operationName": "Microsoft.CognitiveServices/accounts/write",
            "correlationId": "c",
            "claims": {CLAIM: OID, "appid": "AAAAAAAA-1234-1234-1234-1234567890ab"},
        },
    }
    return {**given, **fields}


def only(found: list[Change | Ignored | Rejected]) -> Any:
    assert len(found) == 1
    return found[0]


# load: the one reader of JSON from outside


@pytest.mark.threat("B4")
@pytest.mark.parametrize(
    "raw",
    [
        "[" * 1000 + "]" * 1000,
        "[" * 100_000,
        '{"a":' * 65 + "1" + "}" * 65,
        "9" * 5000,
        str(2**64),
        str(-(2**63) - 1),
        "NaN",
        "[Infinity]",
        "-Infinity",
        "1e999",
        "-1e999",
        "1" * 400 + ".0",
        "",
        " ",
        "{",
        '{"a":1,}',
        "nul",
        '"\n"',
        b"\xff\xfe",
        b"\xc3(",
        b"[\xed\xa0\x80]",
        "[" + "0," * ENTRIES + "0]",
        '{"a": [' + "0," * ENTRIES + "0]}",
        '"' + "x" * MIB + '"',
        "1 2",
        "\x00",
        "[1]\x00",
    ],
    ids=lambda raw: repr(raw[:20]),
)
def test_what_json_should_not_be_is_malformed(raw: str | bytes) -> None:
    with pytest.raises(Malformed):
        load(raw)


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        ("[" * 64 + "]" * 64, None),
        (str(2**64 - 1), 2**64 - 1),
        (str(-(2**63)), -(2**63)),
        ("1e300", 1e300),
        (b"\xef\xbb\xbf1", 1),
        ('{"a":1,"a":2}', {"a": 2}),
        ('"[[[["', "[[[["),
        ('"' + "[" * 100 + '"', "[" * 100),
        ("-0", 0),
        ('"\\ud83d\\ude00"', "😀"),
    ],
)
def test_what_is_json_is_read(raw: str | bytes, value: Any) -> None:
    assert load(raw) == value or value is None


@pytest.mark.threat("B4")
def test_a_lone_surrogate_becomes_text_that_can_be_encoded() -> None:
    for raw in ('{"\\ud800": ["\\udfff"]}', '{"\ud800": ["\udfff"]}'):
        value = load(raw)
        assert value == {"\\ud800": ["\\udfff"]}
        assert to_json(value)


def test_a_key_that_stands_twice_is_refused_where_the_input_is_ours() -> None:
    with pytest.raises(Malformed, match="twice"):
        load('{"v":1,"a":{"b":1,"b":2}}', unique=True)


@pytest.mark.parametrize("raw", ['"' + '\\"' * 500_000, "[" * 70 + '"' + '\\"' * 500_000, '[[],"' + "\\" * 900_000])
def test_hostile_text_is_scanned_in_linear_time(raw: str) -> None:
    with pytest.raises(Malformed):
        load(raw)
    assert read(raw, NOW)


@given(any_json)
def test_any_json_comes_back_as_it_was_or_is_malformed(value: Any) -> None:
    raw = json.dumps(value)
    try:
        found = load(raw)
    except Malformed:
        return
    assert to_json(found) is not None


@given(st.binary(max_size=200) | st.text(st.characters(exclude_categories=()), max_size=200))
def test_any_bytes_are_read_without_an_exception(raw: bytes | str) -> None:
    assert read(raw, NOW)


# read: events


@pytest.mark.threat("B4")
@given(any_json, any_json, any_json)
def test_any_fields_are_read_without_an_exception(subject: Any, data: Any, time: Any) -> None:
    raw = json.dumps([event(subject=subject, data=data, eventTime=time, id=data), event()])
    found = read(raw, NOW)
    assert found[-1] == only(read(json.dumps(event()), NOW))


def test_an_event_is_reduced_to_a_change() -> None:
    assert only(read(json.dumps(event()), NOW)) == Change(
        "1",
        "Microsoft.CognitiveServices/accounts/write",
        ids.parse(ACCOUNT),
        OID,
        "aaaaaaaa-1234-1234-1234-1234567890ab",
        "c",
        datetime(2026, 11, 24, 10, 0, 0, 123456, UTC),
    )


def test_cloudevents_say_the_same() -> None:
    cloud = event(type=event()["eventType"], time=event()["eventTime"], specversion="1.0", source=SUB)
    del cloud["eventType"], cloud["eventTime"]
    assert read(json.dumps(cloud), NOW) == read(json.dumps([event()]), NOW)


@pytest.mark.parametrize(("kind", "operation"), [("CreatedOrUpdated", "write"), ("Deleted", "delete")])
def test_a_resource_notification_names_no_actor(kind: str, operation: str) -> None:
    raw = {"type": f"Microsoft.ResourceNotifications.Resources.{kind}", "data": {"resourceInfo": {"id": ACCOUNT}}}
    change = only(read(json.dumps(raw), NOW))
    assert (change.operation, change.resource, change.actor, change.at) == (
        f"Microsoft.CognitiveServices/accounts/{operation}",
        ACCOUNT,
        "",
        NOW,
    )


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"eventType": "Microsoft.Resources.ResourceWriteFailure"}, Change),
        ({"eventType": "Microsoft.Resources.ResourceDeleteCancel"}, Change),
        ({"eventType": "microsoft.resources.RESOURCEWRITESUCCESS"}, Change),
        ({"eventType": "Microsoft.Storage.BlobCreated"}, Ignored),
        ({"eventType": "Microsoft.Resources.ResourceWriteSuccessful"}, Ignored),
        ({"eventType": None}, Rejected),
        ({"eventType": 7}, Rejected),
        ({"eventType": ["x"]}, Rejected),
        ({"subject": None, "data": None}, Rejected),
        ({"subject": "", "data": {"resourceUri": "/x"}}, Rejected),
        ({"subject": None, "data": {"resourceUri": ACCOUNT}}, Change),
        ({"data": None}, Change),
        ({"data": "x"}, Change),
        ({"subject": "https://evil/" + ACCOUNT}, Rejected),
    ],
)
def test_foreign_failed_and_broken_events_are_told_apart(fields: dict[str, Any], expected: type) -> None:
    assert isinstance(only(read(json.dumps(event(**fields)), NOW)), expected)


def test_the_soundest_name_of_the_resource_is_taken() -> None:
    broken = ACCOUNT + "/raiPolicies/%2f"
    for subject, uri, resource in (
        (broken, GROUP + "/x", ACCOUNT),
        (GROUP + "/x", broken, ACCOUNT),
        (broken, ACCOUNT + "/raiPolicies/a", ACCOUNT + "/raiPolicies/a"),
        (ACCOUNT, SUB, ACCOUNT),
    ):
        assert only(read(json.dumps(event(subject=subject, data={"resourceUri": uri})), NOW)).resource == resource


@pytest.mark.threat("B5")
def test_a_handshake_is_rejected_and_its_address_never_used() -> None:
    raw = event(
        eventType="Microsoft.EventGrid.SubscriptionValidationEvent", data={"validationUrl": "http://169.254.169.254/"}
    )
    assert isinstance(only(read(json.dumps(raw), NOW)), Rejected)


@pytest.mark.threat("B4", "R31")
@pytest.mark.parametrize(
    "bad", ["NaN", '{"a": ' + "[" * 70 + "]" * 70 + "}", "1" * 30, '{"eventType": "x",}', "\udcff", "", '"']
)
def test_one_bad_event_among_ten_leaves_nine(bad: str) -> None:
    good = [json.dumps(event(id=str(number))) for number in range(9)]
    raw = "[" + ",".join([*good[:4], bad, *good[4:]]) + "]"
    found = read(raw.encode("utf-8", "surrogateescape"), NOW)
    if bad == '"':  # an open string swallows what follows: nothing can be told apart
        assert isinstance(only(found), Rejected)
        return
    assert [type(item) for item in found] == [Change] * 4 + [Rejected] + [Change] * 5
    assert [item.event_id for item in found if isinstance(item, Change)] == [str(number) for number in range(9)]


@pytest.mark.parametrize(
    ("claims", "actor"),
    [
        ({CLAIM: OID}, OID),
        ({CLAIM: OID.upper()}, OID),
        ({CLAIM: OID.replace("-", "")}, OID),
        ({"oid": OID}, OID),
        (json.dumps({CLAIM: OID}), OID),
        ({CLAIM.upper(): OID}, OID),
        ({}, ""),
        (None, ""),
        ([], ""),
        ("{nonsense", ""),
        ({CLAIM: "nobody"}, ""),
        ({CLAIM: 7}, ""),
        ({CLAIM: OID + "\n"}, ""),
        ({CLAIM: "{" + OID + "}"}, ""),
    ],
)
def test_a_claimed_actor_is_a_guid_or_nobody(claims: Any, actor: str) -> None:
    change = only(read(json.dumps(event(data={"claims": claims})), NOW))
    assert change.actor == actor


@pytest.mark.parametrize(
    ("time", "at"),
    [
        ("2018-07-19T18:38:04.6117357Z", datetime(2018, 7, 19, 18, 38, 4, 611735, UTC)),
        ("2018-07-19T18:38:04Z", datetime(2018, 7, 19, 18, 38, 4, 0, UTC)),
        ("2018-07-19T20:38:04+02:00", datetime(2018, 7, 19, 18, 38, 4, 0, UTC)),
        ("2018-07-19T18:38:04", datetime(2018, 7, 19, 18, 38, 4, 0, UTC)),
        (None, NOW),
        ("", NOW),
        (7, NOW),
        ("soon", NOW),
        ("0001-01-01T00:00:00+14:00", NOW),
    ],
)
def test_a_time_is_utc_or_now(time: Any, at: datetime) -> None:
    assert only(read(json.dumps(event(eventTime=time)), NOW)).at == at


@pytest.mark.parametrize(
    ("sent", "kind", "operation"),
    [
        ("Microsoft.Resources/tags/write", "Write", "Microsoft.Resources/tags/write"),
        (
            "Microsoft.CognitiveServices/accounts/listKeys/action",
            "Action",
            "Microsoft.CognitiveServices/accounts/listKeys/action",
        ),
        ("Microsoft.CognitiveServices/accounts/write", "Delete", "Microsoft.CognitiveServices/accounts/delete"),
        (None, "Write", "Microsoft.CognitiveServices/accounts/write"),
        ("x" * 5000 + "/write", "Write", "Microsoft.CognitiveServices/accounts/write"),
        ("a\n/write", "Write", "Microsoft.CognitiveServices/accounts/write"),
    ],
)
def test_an_operation_is_as_sent_if_it_fits(sent: Any, kind: str, operation: str) -> None:
    raw = event(eventType=f"Microsoft.Resources.Resource{kind}Success", data={"operationName": sent})
    assert only(read(json.dumps(raw), NOW)).operation == operation


def test_queue_messages_come_plain_or_as_base64() -> None:
    plain = json.dumps([event(), event(id="2")]).encode()
    for body in (plain, b"\n " + plain, base64.b64encode(plain), base64.b64encode(plain) + b"\n"):
        assert from_queue(body, NOW) == read(plain, NOW)
    for body in (b"", b"hello!", b"aGVsbG8=", b"\xff", base64.b64encode(b"7")):
        assert isinstance(only(from_queue(body, NOW)), Rejected)


EVENTS = sorted((ROOT / "recorded/events").glob("*.json"))


@pytest.mark.parametrize("file", EVENTS, ids=lambda file: file.stem)
def test_each_recorded_delivery_is_read(file: Path) -> None:
    raw = file.read_bytes()
    parsed = json.loads(raw)
    items = parsed if isinstance(parsed, list) else [parsed]
    found = read(raw, NOW)
    assert found == from_queue(base64.b64encode(raw), NOW)
    assert len(found) == len(items)
    for item, result in zip(items, found, strict=True):
        named = item.get("eventType") or item["type"]
        if (
            "Resources.Resource" not in named
            and "ResourceNotifications" not in named
            or not named.endswith(("Success", "Failure", "Cancel", "CreatedOrUpdated", "Deleted"))
        ):
            assert isinstance(result, Ignored)
        elif "without" in file.stem:
            assert isinstance(result, Rejected)
        else:
            assert isinstance(result, Change)
            assert result.resource == item["subject"]


def test_there_are_recorded_deliveries() -> None:
    assert len(EVENTS) >= 27


# subjects: only upward

WRITE = "Microsoft.CognitiveServices/accounts/write"
RAI = "Microsoft.CognitiveServices/accounts/raiPolicies/write"
DIAGNOSTIC = "Microsoft.Insights/diagnosticSettings/delete"


def control(on: str, *triggers: str, reads: tuple[str, ...] = ()) -> Control:
    return Control(
        f"{on}-x",
        lambda node, p: iter(()),
        on=on,
        severity="high",
        response="revert",
        title="",
        why="",
        breaks="",
        also_reads=reads,
        triggered_by=triggers,
    )


TYPE = "Microsoft.CognitiveServices/accounts"
CONTROLS = (
    control(TYPE, WRITE),
    control(TYPE, RAI, reads=("+raiPolicies",)),
    control("*", DIAGNOSTIC, reads=("+diagnosticSettings",)),
    control("Microsoft.Authorization/roleAssignments", "Microsoft.Authorization/roleAssignments/write"),
    control(
        "Microsoft.Resources/subscriptions/resourceGroups", "Microsoft.Authorization/locks/delete", reads=("+locks",)
    ),
    control("Microsoft.Nowhere/things", "Microsoft.Nowhere/things/write"),
)
TYPES = {
    name.lower(): ResourceType(name, "2025-01-01")
    for name in (TYPE, "Microsoft.Authorization/roleAssignments", "Microsoft.Resources/subscriptions/resourceGroups")
}


def change(resource: str, operation: str) -> Change:
    found = ids.soundest(resource)
    assert found
    return Change("1", operation, found, "", "", "", NOW)


@pytest.mark.parametrize(
    ("resource", "operation", "expected"),
    [
        (ACCOUNT, WRITE, {ACCOUNT: ()}),
        (ACCOUNT, WRITE.upper(), {ACCOUNT: ()}),
        (ACCOUNT + "/raiPolicies/strict", RAI, {ACCOUNT: ("+raiPolicies",)}),
        (
            ACCOUNT + "/providers/Microsoft.Insights/diagnosticSettings/logs",
            DIAGNOSTIC,
            {ACCOUNT: ("+diagnosticSettings",)},
        ),
        (ACCOUNT, "Microsoft.Resources/tags/write", {ACCOUNT: (ALL,)}),
        (
            ACCOUNT + "/invented/child/deeper/one",
            "Microsoft.CognitiveServices/accounts/invented/deeper/frob/action",
            {ACCOUNT: (ALL,)},
        ),
        (ACCOUNT.upper().replace("/SUBSCRIPTIONS", "/subscriptions"), WRITE, {ACCOUNT: ()}),
        (
            f"{GROUP}/providers/Microsoft.Authorization/roleAssignments/a",
            "Microsoft.Authorization/roleAssignments/write",
            {f"{GROUP}/providers/Microsoft.Authorization/roleAssignments/a": ()},
        ),
        (
            ACCOUNT + "/providers/Microsoft.Authorization/roleAssignments/a",
            "Microsoft.Authorization/roleAssignments/write",
            {ACCOUNT + "/providers/Microsoft.Authorization/roleAssignments/a": (), ACCOUNT: (ALL,)},
        ),
        (
            f"{GROUP}/providers/Microsoft.Authorization/locks/keep",
            "Microsoft.Authorization/locks/delete",
            {GROUP: ("+locks",)},
        ),
        (GROUP, "Microsoft.Resources/subscriptions/resourceGroups/write", {GROUP: (ALL,)}),
        (f"{GROUP}/providers/Microsoft.Compute/virtualMachines/vm", "Microsoft.Compute/virtualMachines/write", {}),
        (f"{GROUP}/providers/Microsoft.Nowhere/things/x", "Microsoft.Nowhere/things/write", {}),
        (SUB, "Microsoft.Resources/subscriptions/write", {}),
    ],
)
def test_subjects_lie_at_or_above_the_change(
    resource: str, operation: str, expected: dict[str, tuple[str, ...]]
) -> None:
    found = subjects(change(resource, operation), CONTROLS, TYPES)
    assert {id.lower(): parts for id, parts in found.items()} == {
        id.lower(): frozenset(parts) for id, parts in expected.items()
    }


@pytest.mark.threat("A8")
@given(
    st.sampled_from(["bogus", "raiPolicies", "Projects"]),
    st.text("abcXYZ01-_.", min_size=1, max_size=20),
    st.text("abcXYZ/", max_size=30),
    st.sampled_from(["write", "delete", "action"]),
)
def test_whatever_happens_below_a_guarded_resource_makes_us_look_at_it(
    kind: str, name: str, operation: str, verb: str
) -> None:
    if name in (".", ".."):
        name = "x"
    found = subjects(change(f"{ACCOUNT}/{kind}/{name}", f"{operation}/{verb}"), CONTROLS, TYPES)
    assert ACCOUNT in found


@pytest.mark.threat("B6")
@pytest.mark.parametrize(
    "tail",
    [
        "/raiPolicies/..",
        "/raiPolicies/%2e%2e",
        "/raiPolicies/a%2fb",
        "/raiPolicies/a\\b",
        "?api-version=1",
        "#x",
        "\n",
        "/raiPolicies/a\n",
        "/raiPolicies/" + "x" * 300,
        "/raiPolicies/",
        "/",
        "/../../x",
        "/raiPolicies/a\u0301e\u0301",
        "/raiP\u212alicies/x",
    ],
)
def test_a_bad_tail_does_not_hide_the_resource_above(tail: str) -> None:
    found = only(read(json.dumps(event(subject=ACCOUNT + tail, data={"operationName": RAI})), NOW))
    if tail in ("?api-version=1", "#x", "\n"):  # the resource's own name is broken: what is above it is a group
        assert found.resource == GROUP
        return
    looked = subjects(found, CONTROLS, TYPES)
    assert set(looked) == {ACCOUNT}


@pytest.mark.threat("B7")
def test_an_unguarded_subscription_is_not_looked_at() -> None:
    one = change(ACCOUNT, WRITE)
    assert subjects(one, CONTROLS, TYPES, frozenset({ids.subscription(one.resource)}))
    assert not subjects(one, CONTROLS, TYPES, frozenset({"00000000-0000-0000-0000-000000000009"}))
    assert not subjects(one, CONTROLS, TYPES, frozenset())
