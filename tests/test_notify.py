"""What a message says, what a chat can make of it, and how it leaves: real posts over TLS, the real Event Grid client."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from azure.core.credentials import AccessToken
from hypothesis import given
from hypothesis import strategies as st

from detectors import CONTROLS
from guardrail import channels, logs, messages, notify
from guardrail.app import _tells
from guardrail.channels import Channel, connect
from guardrail.errors import ConfigError
from guardrail.ids import ResourceId
from guardrail.messages import KINDS, Message
from guardrail.policy_schema import Notify, Policy
from guardrail.settings import read
from guardrail.stores import HOME, recorded
from guardrail.turn import Engine
from guardrail.values import Case, Record, to_json
from tests.receiver import Receiver
from tests.receiver import receiver as receiver
from tests.vault import HOST, Credential, Vault, vault

pytestmark = pytest.mark.anyio

NOW = datetime(2026, 11, 24, 19, 5, tzinfo=UTC)
AT = "2026-11-24T19:02:05Z"
ACCOUNT = ResourceId("/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/rg-ai/providers/"
                     "Microsoft.Storage/storageAccounts/stmltrain")
URL = "https://console.example.com"
PUBLIC = "storage-public-network-access"
EDIT = {"path": "properties.publicNetworkAccess", "before": "Enabled", "after": "Disabled"}
EVIL = ("[click](https://evil.example/x)", "<https://evil.example|here>", "<!channel> <@U123>", "@everyone <at>all</at>",
        "{{DATE(2026-11-24T19:00:00Z, SHORT)}}", "${title}", "a\r\nBcc: all@evil.example", "\u202egpj.exe", "www.evil.example",
        "mailto:x@evil.example", "https://evil.example/" + "x" * 5000, "**bold** `code` ~x~ :tada:")


def engine(policy: Policy = Policy(), url: str = URL) -> Engine:  # noqa: B008  frozen
    """Only what a message is made from."""
    nothing: Any = None
    return Engine(nothing, nothing, policy, "enforce", CONTROLS, {}, lambda: NOW, nothing, url=url)


def record(event: str, seq: int = 9, **detail: Any) -> dict[str, Any]:
    return {"v": 1, "seq": seq, "event": event, "at": AT, "actor": "guardrail", "correlation_id": "5b1e", "mode": "enforce",
            "policy_hash": "", "detail": detail}


SEEN = {**record("change.seen", 6, actors=["ml-engineer"]), "at": "2026-11-24T19:02:04Z"}
RAISED = {**record("finding.raised", 7, control=PUBLIC, finding_id="fnd-8c1d04b7e2aa"), "at": SEEN["at"]}
ECHO = record("change.seen", 7, actors=["the guardrail's own"])
APPLYING = record("action.applying", 8, action_id="act-4f7c21d09b3e", plan_hash="5d0c11e2", kind="fix", controls=[PUBLIC],
                  edits=[EDIT])
APPROVED = record("action.approved", 7, action_id="act-4f7c21d09b3e", approvals=["approver"])
VERIFIED = record("action.verified", action_id="act-4f7c21d09b3e", plan_hash="5d0c11e2", kind="fix", controls=[PUBLIC])


def made(one: Mapping[str, Any] = VERIFIED, before: Any = (SEEN, RAISED, APPLYING), who: Engine | None = None,
         resource: ResourceId = ACCOUNT) -> Message:
    found = messages.of(who or engine(), resource, one, before)
    assert found is not None
    return found


def test_the_page_shows_a_message_as_it_is() -> None:
    page = (Path(__file__).parent.parent / "docs/reference/messages.md").read_text("utf-8")
    (sample,) = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    assert json.loads(sample) == made().told()


def test_the_page_names_every_kind_and_field() -> None:
    page = (Path(__file__).parent.parent / "docs/reference/messages.md").read_text("utf-8")
    names = set(re.findall(r"^\| `([^`]+)`", page, re.MULTILINE))
    fields = {name for name in Message.__slots__ if name != "cause"} | {"schema_version"}
    assert names == {kind.name for kind in KINDS.values()} | {"digest"} | fields


def test_events_that_are_told_are_those_of_the_page_of_events() -> None:
    page = (Path(__file__).parent.parent / "docs/reference/log-events.md").read_text("utf-8")
    assert set(re.findall(r"^\| `([^`]+)` \|.*\| told \|$", page, re.MULTILINE)) == messages.TOLD
    assert set(logs.EVENTS) >= messages.TOLD
    assert not {"message.sent", "message.failed"} & messages.TOLD


@pytest.mark.parametrize("event", sorted(KINDS))
def test_every_kind_can_be_told_of_a_bare_record(event: str) -> None:
    """Whatever is missing in a record, there is a message, it says where, and leads to a page of ours."""
    for resource in (ACCOUNT, HOME):
        one = made(record(event), (), resource=resource)
        assert one.title
        assert "{" not in one.title + one.text
        assert one.links["console"].startswith(URL + "/")


@pytest.mark.parametrize(("event", "detail", "title", "text", "page"), [
    ("action.proposed", {"edits": [EDIT], "expires": "2026-11-24T23:02:05Z", "kind": "fix", "action_id": "act-4f7c21d09b3e",
                         "controls": [PUBLIC]},
     "Approval: put back stmltrain (high, production)", "Expires 2026-11-24 23:02 UTC.", "/actions/act-4f7c21d09b3e"),
    ("action.verified", {}, "Put back: stmltrain", "ml-engineer changed it, seen at 19:02:04 UTC.", f"/resources{ACCOUNT}"),
    ("breaker.tripped", {"breaker": "flapping", "count": 2, "window": 900, "controls": [PUBLIC], "actors": ["deploy-pipeline"]},
     "Stopped acting on stmltrain: flapping breaker", "2 writes in 15 min", f"/resources{ACCOUNT}"),
    ("verification.failed", {"missing": [EDIT["path"]]}, "NOT fixed: stmltrain", EDIT["path"], f"/resources{ACCOUNT}"),
    ("mode.switched", {"was": "report", "now": "policy", "reason": "review done"}, "Switched from report to policy",
     "Reason: review done.", "/modes"),
    ("exemption.expiring", {"control": PUBLIC, "scope": ACCOUNT + "x", "until": "2027-01-31", "owner": "data",
                            "reason": "4711"},
     "An exemption ends: stmltrainx", "Owner: data. Reason: 4711.", "/exemptions"),
    ("permission.lost", {"actions": ["Microsoft.Storage/storageAccounts/write"], "missing": 1, "scope": "/subscriptions/x"},
     "Permission lost: Microsoft.Storage/storageAccounts/write", "At /subscriptions/x.", f"/resources{ACCOUNT}"),
])
def test_what_a_message_says(event: str, detail: dict[str, Any], title: str, text: str, page: str) -> None:
    one = made(record(event, **detail), [SEEN, RAISED, ECHO])
    assert (one.title, one.links) == (title, {"console": URL + page})
    assert text in one.text


def test_a_message_says_who_what_and_by_whom() -> None:
    one = made(before=(SEEN, RAISED, ECHO, APPROVED, APPLYING))
    assert [who["object_id"] for who in one.caused_by] == ["ml-engineer"]
    assert one.changes == ({"path": EDIT["path"], "now": "Enabled", "wanted": "Disabled"},)
    assert (one.decided_by, one.severity, one.environment) == (("approver",), "high", "production")


def test_our_own_echo_caused_nothing() -> None:
    """It was looked at, found nothing, and later something was found that nobody saw being done."""
    echo = {**SEEN, "at": "2026-11-24T19:01:00Z"}
    one = made(before=(echo, RAISED, APPLYING))
    assert one.caused_by == ()
    assert "Nobody knows who changed it." in one.text


def test_who_did_it_can_be_left_out() -> None:
    quiet = engine(Policy(notify=Notify(show_actor="none")))
    asked = {**record("action.proposed", action_id="act-4f7c21d09b3e"), "actor": "oncall"}
    before = (SEEN, RAISED, APPROVED, APPLYING)
    for one in (VERIFIED, asked, {**record("mode.switched"), "actor": "oncall"}):
        told = json.dumps(made(one, before, quiet).told())
        assert not re.search("ml-engineer|oncall|approver", told)


def test_without_a_console_there_is_no_link() -> None:
    one = made(who=engine(url=""))
    assert "links" not in one.told()
    assert "http" not in json.dumps([channels.card(one), channels.blocks(one)])


def test_secrets_are_masked() -> None:
    """The store masks them before they are chained; a message does not rely on it."""
    edit = {"path": "properties.primaryKey", "before": "hunter2hunter2", "after": "hunter3hunter3"}
    one = made(record("action.failed", action_id="act-1", why="AccountKey=c2VjcmV0c2VjcmV0c2VjcmV0"),
               [record("action.applying", 8, action_id="act-1", edits=[edit])])
    assert not re.search("hunter|c2Vj", json.dumps([one.told(), channels.card(one), channels.blocks(one)]))


# What a chat can make of it

def texts(value: Any) -> Iterator[tuple[str, str]]:
    """(type of the object it stands in, text) of every text."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if isinstance(inner, str):
                yield str(value.get("type", "")), f"{name}={inner}"
            else:
                yield from texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from texts(inner)


def hostile(payload: str) -> Message:
    """The payload wherever somebody else could ever put it."""
    names = "why reason error owner hop until was now breaker chain scope window count kind plan_hash missing action_id expires"
    detail = dict.fromkeys(names.split(), payload)
    edits = [{"path": f"rules[name='{payload}']", "before": payload, "after": {payload: [payload]}}] * 20
    one = {**record("action.failed", **{**detail, "controls": [payload], "edits": edits, "actors": [payload]}),
           "actor": payload, "correlation_id": payload, "mode": payload}
    before = [record("action.approved", 5, action_id=payload, approvals=[payload]),
              record("change.seen", 6, actors=[payload] * 30), record("finding.raised", 7, control=payload)]
    return made(one, before, resource=ResourceId(f"{ACCOUNT}{payload}"))


@pytest.mark.threat("E4")
@pytest.mark.parametrize("payload", EVIL)
def test_no_payload_becomes_a_link_a_mention_or_a_date(payload: str) -> None:
    one = hostile(payload)
    many = messages.joined([one, replace(one, id="msg-x")])
    for message in (one, many, messages.digest(engine(), [one] * 30)):
        for body in (channels.card(message), channels.blocks(message)):
            assert len(to_json(body)) <= channels.CARD_BYTES
            urls = [text for _, text in texts(body) if re.search(r"\w://|www\.|mailto:", text)]
            assert urls == ["url=" + message.links["console"]]
            assert message.links["console"].startswith(URL + "/")
            assert all("{{" not in text and "${" not in text and text.isprintable() for _, text in texts(body))
        assert {kind for kind, _ in texts(channels.card(message))} <= {
            "message", "AdaptiveCard", "RichTextBlock", "TextRun", "Action.OpenUrl", ""}
        assert not any("<" in text or ">" in text for _, text in texts(channels.blocks(message)))
        assert {kind for kind, _ in texts(channels.blocks(message))} == {
            "", "header", "plain_text", "section", "actions", "button", "context"}
    told = one.told()
    assert all(text.isprintable() for _, text in texts(told))


@pytest.mark.threat("E4")
@given(st.text(max_size=300))
def test_no_text_at_all_breaks_a_card(payload: str) -> None:
    message = hostile(payload)
    slack = channels.blocks(message)
    assert len(to_json(channels.card(message))) <= channels.CARD_BYTES
    assert len(slack["text"]) <= channels.HEADER
    assert not any(re.search(r"[<>]|\w://(?!console\.example)", text) for _, text in texts(slack))


def test_a_long_card_falls_back_to_its_title() -> None:
    long = "\U0001f525" * 300
    one = replace(made(), text=long * 10, controls=(long,) * 9, decided_by=(long,) * 9,
                  changes=tuple({"path": long, "now": long, "wanted": long} for _ in range(20)), resource_id=long)
    assert channels.diff(one)[-1] == "and 12 more"
    small = replace(one, text="short")
    assert len(channels.card(small)["attachments"][0]["content"]["body"]) > 1
    crowded = replace(one, title="kept", links={"console": URL + "/" + "x" * 24_000})
    content = channels.card(crowded)["attachments"][0]["content"]
    assert [run["text"] for block in content["body"] for run in block["inlines"]] == ["kept"]
    assert content["actions"][0]["url"] == crowded.links["console"]


# Together

def test_the_same_cause_is_told_together_and_the_worst_leads() -> None:
    one = made()
    other = made({**VERIFIED, "seq": 30, "at": "2026-11-24T19:02:06Z"}, resource=ResourceId(ACCOUNT + "2"))
    later = made({**VERIFIED, "at": "2026-11-24T19:05:00Z", "correlation_id": "another"})
    milder = made({**VERIFIED, "detail": {**VERIFIED["detail"], "controls": ["storage-cmk"]}})
    assert one.cause == other.cause
    assert len({one.cause, later.cause, milder.cause}) == 3
    joined = messages.joined([one, other])
    assert (joined.id, joined.more, joined.resource_id, joined.also) == (one.id, 1, other.resource_id, (ACCOUNT,))
    assert "And 1 more of the same: stmltrain." in joined.text
    worse = replace(one, severity="critical")
    assert messages.joined([worse, other]).resource_id == ACCOUNT


def test_without_a_correlation_id_actor_and_control_are_the_cause() -> None:
    bare = {**VERIFIED, "correlation_id": ""}
    by_another = ({**SEEN, "detail": {"actors": ["deploy-pipeline"]}}, RAISED, APPLYING)
    assert made(bare).cause == made({**bare, "seq": 40}).cause
    assert made(bare).cause != made(bare, by_another).cause
    switched = record("mode.switched")
    alone = [made({**switched, "correlation_id": "", "seq": seq}).cause for seq in (1, 2)]
    assert alone[0] != alone[1]


def test_an_outbox_names_only_what_is_told_and_stays_bounded() -> None:
    from guardrail.chain import append

    records = [Record(event, NOW, "guardrail", "", "", "", {}) for event in ("finding.raised", "action.verified") * 1500]
    case = recorded(Case(ACCOUNT, seq=4), append(ACCOUNT, 4, "", records), records, messages.TOLD)
    assert case.seq == 3004
    assert len(case.outbox) == 1000
    assert case.outbox[-1] == 3004
    assert recorded(Case(ACCOUNT), append(ACCOUNT, 0, "", records), records, frozenset()).outbox == ()


# Leaving

class Identity:
    async def get_token(self, *scopes: str, **_: Any) -> AccessToken:
        assert scopes == (f"{channels.EVENT_GRID}/.default",)
        return AccessToken("a token", 4_000_000_000)


def one_channel(name: str, url: str, **more: str) -> Channel:
    found = read({"GUARDRAIL_SUBSCRIPTIONS": "00000000-0000-0000-0000-000000000001", f"GUARDRAIL_{name}": url,
                  "GUARDRAIL_WEBHOOK_KEY": "a key of some length", **more})
    (channel,) = connect(found, Identity())
    return channel


async def test_a_webhook_is_signed_over_time_and_body(receiver: Receiver) -> None:
    await one_channel("WEBHOOK", f"{receiver.url}/in%2Fbox?sp=%2Ftriggers&sig=a%2Bb").send(made(), NOW)
    ((path, headers, body),) = receiver.tried
    assert path == "/in%2Fbox?sp=%2Ftriggers&sig=a%2Bb"         # as it was set: Teams signs its address
    assert json.loads(body) == made().told()
    at = headers["guardrail-time"]
    mac = hmac.new(b"a key of some length", at.encode() + b"." + body, hashlib.sha256).hexdigest()
    assert headers["guardrail-signature"] == f"v1={mac}"
    assert (int(at), headers["guardrail-id"]) == (int(NOW.timestamp()), made().id)


@pytest.mark.parametrize(("name", "part"), [("TEAMS", "attachments"), ("SLACK", "blocks")])
async def test_chats_get_their_own_form(receiver: Receiver, name: str, part: str) -> None:
    await one_channel(name, f"{receiver.url}/hook").send(made(), NOW)
    assert part in receiver.taken[0]
    assert receiver.tried[0][1]["content-type"] == "application/json"


async def test_the_topic_gets_a_cloud_event_by_identity(receiver: Receiver) -> None:
    await one_channel("TOPIC", f"{receiver.url}/api/events").send(made(), NOW)
    ((path, headers, _),) = receiver.tried
    ((event,),) = receiver.taken
    assert path.startswith("/api/events?api-version=")
    assert headers["authorization"] == "Bearer a token"
    assert headers["content-type"].startswith("application/cloudevents-batch+json")
    assert (event["type"], event["subject"], event["id"]) == ("Guardrail.ActionVerified", ACCOUNT, made().id)
    assert event["specversion"] == "1.0"
    assert event["data"] == made().told()


@pytest.mark.threat("R37")
@pytest.mark.parametrize("name", ["TEAMS", "TOPIC"])
@pytest.mark.parametrize("status", [302, 307, 400, 429, 500, 503])
async def test_no_answer_is_followed_and_nothing_is_sent_twice(receiver: Receiver, name: str, status: int) -> None:
    receiver.answer = status
    error = await notify._sent(one_channel(name, f"{receiver.url}/secret-path"), made(), NOW)
    assert str(status) in error
    assert "secret-path" not in error
    assert len(receiver.tried) == 1


@pytest.mark.threat("R37")
async def test_nobody_waits_for_a_receiver_that_never_answers(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notify, "PATIENCE_S", 0.05)
    receiver.answer = "never"
    for name in ("SLACK", "TOPIC"):
        assert await notify._sent(one_channel(name, receiver.url + "/x"), made(), NOW) == "no answer in 0.05 s"


async def test_a_receiver_with_another_certificate_gets_nothing(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    channels._trusted.cache_clear()
    for name in ("WEBHOOK", "TOPIC"):
        assert await notify._sent(one_channel(name, receiver.url + "/secret-path"), made(), NOW) in (
            "ClientConnectorCertificateError", "ServiceRequestError")
    assert receiver.tried == []


@pytest.mark.parametrize(("name", "value"), [
    ("TEAMS", "http://hooks.example.com/x"), ("SLACK", "hooks.example.com/x"), ("WEBHOOK", "https://user:pw@example.com/x"),
    ("TOPIC", "http://topic.example.com/api/events"), ("WEBHOOK", "https://hooks.example.com/x#y")])
def test_only_https_addresses_are_settings(name: str, value: str) -> None:
    with pytest.raises(ConfigError) as found:
        one_channel(name, value)
    assert value not in str(found.value) or name == "TOPIC"


def test_a_webhook_needs_a_key() -> None:
    with pytest.raises(ConfigError, match="WEBHOOK_KEY"):
        one_channel("WEBHOOK", "https://hooks.example.com/x", GUARDRAIL_WEBHOOK_KEY="")


def test_what_nobody_is_told_waits_nowhere() -> None:
    given_ = {"GUARDRAIL_SUBSCRIPTIONS": "00000000-0000-0000-0000-000000000001"}
    assert _tells(read(given_)) == frozenset()
    assert _tells(read({**given_, "GUARDRAIL_SLACK": "https://hooks.example.com/x"})) == messages.TOLD
    assert _tells(read({**given_, "GUARDRAIL_PART": "front"})) == messages.TOLD


async def test_an_unsound_address_is_refused_before_anything_leaves() -> None:
    hook = channels.Hook("slack", "https://hooks.example.com/a/../b", lambda *_: (b"", {}))
    assert "dot segments" in await notify._sent(hook, made(), NOW)


@pytest.fixture
async def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, anyio_backend: str) -> AsyncIterator[Vault]:
    """A vault whose secrets name hooks, which are of its own server: every name of the cloud's vaults leads there."""
    async with vault(tmp_path) as here, here.transport:
        connector = here.transport.session.connector    # type: ignore[union-attr]
        monkeypatch.setattr(channels, "_session", lambda *, proxy: aiohttp.ClientSession(
            connector=connector, connector_owner=False))
        yield here


SECRET = f"https://{HOST}/secrets/guardrail"


@pytest.mark.threat("C6")
async def test_an_address_and_a_key_may_stand_in_the_vault_and_the_newest_counts(kept: Vault) -> None:
    """Read by our own identity, for each message: references of app settings do not reach a closed vault."""
    credential = Credential()
    given_ = {"GUARDRAIL_SUBSCRIPTIONS": "00000000-0000-0000-0000-000000000001",
              "GUARDRAIL_WEBHOOK": f"{SECRET}-webhook", "GUARDRAIL_WEBHOOK_KEY": f"{SECRET}-webhook-key"}
    (hook,) = connect(read(given_), credential)
    for number in ("1", "2"):
        kept.secrets |= {"guardrail-webhook": f"https://{HOST}/hook/{number}\n", "guardrail-webhook-key": f"key {number}"}
        assert await notify._sent(hook, made(), NOW) == ""
        path, headers, body = kept.posted[-1]
        mac = hmac.new(f"key {number}".encode(), f"{int(NOW.timestamp())}.".encode() + body, hashlib.sha256).hexdigest()
        assert (path, headers["Guardrail-Signature"]) == (f"/hook/{number}", f"v1={mac}")
        assert "Authorization" not in headers
    assert set(credential.asked) == {("https://vault.azure.net/.default",)}


@pytest.mark.parametrize(("held", "why"), [
    ({}, "the vault answered 404 to /secrets/guardrail-slack"), ({"guardrail-slack": " "}, "the vault holds no text"),
    ({"guardrail-slack": "http://hooks.example.com/x"}, "refused"), ({"guardrail-slack": "s3cret"}, "refused")])
async def test_a_secret_that_is_no_address_posts_nothing_and_is_not_shown(
        held: dict[str, str], why: str, kept: Vault) -> None:
    kept.secrets = held
    given_ = {"GUARDRAIL_SUBSCRIPTIONS": "00000000-0000-0000-0000-000000000001", "GUARDRAIL_SLACK": f"{SECRET}-slack"}
    (hook,) = connect(read(given_), Credential())
    said = await notify._sent(hook, made(), NOW)
    assert why in said
    assert "s3cret" not in said
    assert kept.posted == []
