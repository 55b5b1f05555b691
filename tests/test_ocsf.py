"""Every event is one of the published schema (OCSF 1.8.0), and says what the record says.

The schema is that of schema.ocsf.io, carried by the package ocsf-json-schema; unknown attributes fail, captions must fit.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema

from guardrail import audit, ocsf
from guardrail.chain import StoredRecord, append
from guardrail.ids import ResourceId
from guardrail.paths import ABSENT
from guardrail.stores.sqlite import SqliteStore
from guardrail.values import Edit, Record
from tests.flow import harness
from tests.flow.world import ENFORCE, World
from tests.flow.world import world as whole_world

pytestmark = pytest.mark.anyio

AT = datetime(2026, 11, 24, 19, 0, tzinfo=UTC)
MS = 1795546800000
ACCOUNT = ResourceId("/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/rg-ai-dev/providers/"
                     "Microsoft.Storage/storageAccounts/stmltrain")
CLASSES = {2003: "compliance_finding", 2004: "detection_finding", 7001: "remediation_activity"}
CAPTIONS = {"activity_id": "activity_name", "status_id": "status", "severity_id": "severity", "class_uid": "class_name",
            "category_uid": "category_name", "type_uid": "type_name"}


@cache
def published() -> Any:
    return get_ocsf_schema(version=ocsf.VERSION)


@cache
def validator(class_uid: int) -> Draft202012Validator:
    schema = OcsfJsonSchemaEmbedded(published()).get_class_schema(CLASSES[class_uid], ["cloud"])
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def faults(event: Any) -> Iterator[str]:
    """Why it is no event of its class: the schema's words, and each caption that is not the number's."""
    for error in validator(event["class_uid"]).iter_errors(event):
        yield f"{error.json_path}: {error.message[:200]}"
    attributes = published()["classes"][CLASSES[event["class_uid"]]]["attributes"]
    for number, caption in CAPTIONS.items():
        value = event[number]
        if value != ocsf.OTHER and attributes[number]["enum"][str(value)]["caption"] != event[caption]:
            yield f"{caption}: {event[caption]!r} for {value}"
    status = event.get("compliance", {}).get("status_id")
    known = published()["objects"]["compliance"]["attributes"]["status_id"]["enum"]
    if status is not None and known[str(status)]["caption"] != event["compliance"]["status"]:
        yield f"compliance: {status}"
    if event["metadata"]["version"] != published()["version"]:
        yield f"version: {event['metadata']['version']}"


def told(event: Any) -> Any:
    """As a SIEM reads it, held against the schema."""
    read = json.loads(json.dumps(event))
    assert list(faults(read)) == []
    return read


def stored(*records: tuple[str, dict[str, Any]], resource: ResourceId = ACCOUNT) -> list[StoredRecord]:
    return append(resource, 0, "", [
        Record(event, AT + timedelta(seconds=number), "guardrail", "5b1e", "enforce", "7f3a", detail)
        for number, (event, detail) in enumerate(records)])


def events(records: Sequence[StoredRecord], class_uid: int = ocsf.DETECTION, resource: ResourceId = ACCOUNT) -> list[Any]:
    chain = ocsf.Records(resource, class_uid)
    return [told(event) for event in map(chain.event, records) if event is not None]


RAISED = {"finding_id": "fnd-1", "control": "storage-sftp", "path": "properties.isSftpEnabled", "severity": "high",
          "state": "drift", "why": "it is one more door", "observed": True, "wanted": False, "decided": True}
CLEARED = {name: RAISED[name] for name in ("finding_id", "control", "path")}


@pytest.mark.parametrize("class_uid", [2004, 2003])
def test_a_finding_is_created_and_closed(class_uid: int) -> None:
    raised, cleared = stored(("finding.raised", RAISED), ("finding.cleared", CLEARED))
    opened, closed = events([raised, cleared], class_uid)
    assert (opened["type_uid"], closed["type_uid"]) == (class_uid * 100 + 1, class_uid * 100 + 3)
    assert (opened["time"], closed["time"]) == (MS, MS + 1000)
    assert (opened["status_id"], closed["status_id"]) == (1, 4)
    for event, record in ((opened, raised), (closed, cleared)):
        assert event["finding_info"]["uid"] == "fnd-1"
        assert event["finding_info"]["created_time"] == MS
        assert event["finding_info"]["analytic"]["uid"] == "storage-sftp"
        assert event["severity_id"] == 4
        assert event["evidences"] == [{"data": {"path": "properties.isSftpEnabled", "observed": True, "wanted": False}}]
        assert event["resources"] == [{"uid": ACCOUNT, "name": "stmltrain", "type": "Microsoft.Storage/storageAccounts",
                                       "group": {"name": "rg-ai-dev"}}]
        assert event["cloud"]["account"]["uid"] == "00000000-0000-0000-0000-000000000001"
        assert event["metadata"]["original_event_uid"] == record.hash
        assert (event["metadata"]["sequence"], event["metadata"]["correlation_uid"]) == (record.seq, "5b1e")
        assert event["unmapped"]["resource_id"] == ACCOUNT
    if class_uid == 2003:
        assert [one["compliance"]["status"] for one in (opened, closed)] == ["Fail", "Pass"]
    else:
        assert [one["is_alert"] for one in (opened, closed)] == [True, False]


@pytest.mark.parametrize("class_uid", [2004, 2003])
def test_what_could_not_be_read_is_no_drift_and_not_clean(class_uid: int) -> None:
    raised = {"finding_id": "fnd-1", "control": "storage-sftp", "severity": "high", "state": "unreadable", "why": "403"}
    [event] = events(stored(("finding.raised", raised)), class_uid)
    assert event["finding_info"]["types"] == ["unreadable"]
    assert "evidences" not in event
    assert event.get("is_alert", False) is False
    assert event.get("compliance", {"status": "Warning"})["status"] == "Warning"


REMOVES, REVERTS = Edit("properties.rules[name='a']", {"name": "a"}), Edit("properties.isSftpEnabled", True, False)
RESTORES = Edit("+raiPolicies[name='strict']", ABSENT, {"name": "strict"})


@pytest.mark.parametrize(("kind", "edits", "expected"), [
    ("isolate", (REVERTS,), (1, "Isolate")), ("isolate", (REMOVES,), (1, "Isolate")), ("fix", (REMOVES,), (2, "Evict")),
    ("fix", (REMOVES, REMOVES), (2, "Evict")), ("fix", (REMOVES, REVERTS), (3, "Restore")), ("fix", (REVERTS,), (3, "Restore")),
    ("fix", (RESTORES,), (3, "Restore")), ("undo", (REVERTS,), (3, "Restore")), ("undo", (REMOVES,), (3, "Restore"))])
def test_what_an_action_does_has_its_number(kind: str, edits: Sequence[Edit], expected: Any) -> None:
    same = {"action_id": "act-1", "kind": kind, "controls": ("storage-sftp",)}
    ended = "resource.quarantined" if kind == "isolate" else "action.verified"
    applying, done = events(stored(
        ("action.proposed", {**same, "from": "proposed", "edits": edits}), ("action.applying", {**same, "from": "approved"}),
        (ended, {**same, "from": "applied"})))
    for event in (applying, done):
        assert (event["activity_id"], event["activity_name"]) == expected
        assert event["command_uid"] == "act-1"
        assert event["unmapped"]["controls"] == ["storage-sftp"]
    assert (done["status_id"], done["status"]) == (1, "Success")
    assert (applying["status_id"], applying["status"]) == (99, "applying")


@pytest.mark.parametrize(("event", "more", "expected"), [
    ("action.proposed", {"from": "proposed"}, None), ("action.held", {"from": "proposed"}, None),
    ("action.approved", {"from": "proposed"}, None), ("action.rejected", {"from": "proposed"}, None),
    ("action.superseded", {"from": "approved"}, None), ("resource.gone", {}, None), ("decision.made", {}, None),
    ("request.sent", {}, None), ("verification.failed", {}, None),
    ("action.applied", {"from": "applying"}, (99, "applied")), ("action.unknown", {"from": "applying"}, (0, "Unknown")),
    ("action.unknown", {"from": "applying", "partial": True}, (0, "Unknown")),
    ("action.failed", {"from": "applying"}, (2, "Failure")),
    ("action.failed", {"from": "applying", "partial": True}, (4, "Partial")),
    ("action.held", {"from": "applying"}, (99, "held")), ("action.superseded", {"from": "applying"}, (99, "superseded")),
    ("action.rolled_back", {"from": "verified"}, (99, "rolled back"))])
def test_only_attempts_are_told_each_with_its_outcome(event: str, more: dict[str, Any], expected: Any) -> None:
    found = events(stored((event, {"action_id": "act-1", "kind": "fix", "why": "because", **more})))
    assert [(one["status_id"], one["status"], one["status_detail"]) for one in found] == (
        [(*expected, "because")] if expected else [])


ANY = st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
                   lambda one: st.lists(one, max_size=3) | st.dictionaries(st.text(max_size=5), one, max_size=3), max_leaves=5)


@pytest.mark.threat("E1")
@given(ANY, ANY, st.text(max_size=30), st.sampled_from([2003, 2004]))
@settings(max_examples=40, deadline=None)
def test_whatever_was_observed_fits(observed: Any, wanted: Any, text: str, class_uid: int) -> None:
    detail = {**RAISED, "observed": observed, "wanted": wanted, "why": text, "path": text}
    [event] = events(stored(("finding.raised", detail)), class_uid)
    assert event["finding_info"]["uid"] == "fnd-1"


@pytest.mark.parametrize("body", [
    b"", b"{", b"[]", b"null", b"[" * 100_000, b"\xff", b'{"event":"finding.raised"}',
    *(json.dumps({"event": "action.verified", "at": "2026-11-24T19:00:00Z", "actor": "", "correlation_id": "", "mode": "",
                  "policy_hash": "", "detail": detail}).encode()
      for detail in (None, [], {"action_id": 3}, {"edits": "x"}, {"edits": [1]}, {"controls": 1}))])
def test_a_record_that_cannot_be_read_is_left_to_the_verifier(body: bytes) -> None:
    assert ocsf.Records(ACCOUNT).event(StoredRecord(1, body, "0" * 64)) is None


@pytest.mark.parametrize("resource", ["", "x", "/subscriptions", "/subscriptions/x/y", "//"])
def test_a_chain_under_no_resource_is_told_as_it_stands(resource: str) -> None:
    [event] = events(stored(("finding.raised", RAISED), resource=ResourceId(resource)), resource=ResourceId(resource))
    assert event["resources"] == [{"uid": resource}]
    assert event["cloud"] == {"provider": "Azure"}


@pytest.mark.threat("C7", "I15")
def test_no_secret_leaves_with_a_finding() -> None:
    """A live scan's values were never redacted on their way into a store."""
    canary = "canary+7Xq9Zr4Lw2Vt8Bn5Kd1Hs6"
    row = {"id": "fnd-1", "control": "x", "resource_id": ACCOUNT, "path": "properties.adminPassword", "observed": canary,
           "wanted": f"AccountKey={canary}", "state": "drift", "severity": "high", "why": f"it said Bearer {canary}"}
    event = json.dumps(told(ocsf.finding(row, AT)))
    assert canary not in event
    assert "(set)" in event


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[World]:
    async with whole_world(tmp_path, ENFORCE) as world:
        harness.narrowed(world.guardrail)
        yield world


async def test_what_the_engine_records_is_told_whole(here: World) -> None:
    """A revert and a removal from drift to verification, as an export has them."""
    account = harness.stand(here, harness.laid(harness.STORAGE, harness.NOT_HTTPS))
    group = harness.stand(here, harness.laid(harness.NSG, harness.SSH))
    for id in (account, group):
        await harness.looked(here, id)
    found = [told(json.loads(line)) async for line in audit.export_ocsf(here.guardrail.store)]
    by_class = {id: [(one["type_uid"], one["status"]) for one in found if one["unmapped"]["resource_id"] == id]
                for id in (account, group)}
    assert by_class[account] == [
        (200401, "New"), (700103, "applying"), (700103, "applied"), (700103, "Success"), (200403, "Resolved")]
    assert (700102, "Success") in by_class[group]
    assert (200403, "Resolved") in by_class[group]
    records = {one.hash for id in (account, group) for one in await here.guardrail.store.records(id)}
    assert {one["metadata"]["original_event_uid"] for one in found} <= records
    later = [line async for line in audit.export_ocsf(here.guardrail.store, here.clock() + timedelta(seconds=1))]
    assert later == []


async def test_an_export_since_knows_what_was_told_before(tmp_path: Path) -> None:
    with closing(SqliteStore(tmp_path / "guardrail.db", lambda: AT, durable=False)) as store:
        case, _ = await store.load(ACCOUNT)
        same = {"action_id": "act-1", "kind": "fix", "edits": (REMOVES,)}
        await store.commit(case, Record("action.applying", AT, "guardrail", "", "enforce", "", same),
                           Record("action.verified", AT + timedelta(hours=1), "guardrail", "", "enforce", "",
                                  {"action_id": "act-1", "kind": "fix", "from": "applied"}))
        [event] = [told(json.loads(line)) async for line in audit.export_ocsf(store, AT + timedelta(minutes=1))]
    assert (event["activity_id"], event["status"]) == (2, "Success")
