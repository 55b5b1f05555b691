"""Keys: a file's and Key Vault's, the latter through the real SDK against a small vault of the tests'."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import AsyncIterator, Callable
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from azure.keyvault.keys._shared import http_challenge_cache
from cryptography.hazmat.primitives.asymmetric import ec

from guardrail import signing
from guardrail.errors import ConfigError, StoreDown, Unsafe
from guardrail.ids import ResourceId
from guardrail.policy import Rules
from guardrail.signing import Key, LocalKey, VaultKey
from guardrail.values import Acceptance, Action, Approval, Case, Edit, Plan, Wish
from tests.vault import HOST, Credential, Vault, vault

pytestmark = pytest.mark.anyio
AT = datetime(2026, 11, 24, 19, 0, tzinfo=UTC)
ID = ResourceId("/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/rg/providers/Microsoft.Storage/"
                "storageAccounts/st")
ONE, OTHER = f"https://{HOST}/keys/front", f"https://{HOST}/keys/hands"


@pytest.fixture
async def kv(tmp_path: Path, anyio_backend: str) -> AsyncIterator[Vault]:
    http_challenge_cache.clear()        # of the process, by host
    async with vault(tmp_path) as here:
        here.add("front")
        here.add("hands")
        yield here


def key_of(kv: Vault, id: str = ONE, patience_s: float = 0.3) -> VaultKey:
    found = VaultKey(id, Credential(), kv.transport)
    found._account._patience_s = patience_s
    return found


@pytest.fixture(params=["local", "vault"])
async def pair(request: pytest.FixtureRequest, tmp_path: Path, kv: Vault) -> tuple[Key, Key]:
    """A key, and another one of the same kind."""
    if request.param == "local":
        return LocalKey(tmp_path / "a.key"), LocalKey(tmp_path / "b.key")
    return key_of(kv), key_of(kv, OTHER)


async def test_a_signature_fits_its_payload_and_its_key_only(pair: tuple[Key, Key]) -> None:
    key, other = pair
    text = await key.sign(b"payload")
    assert await key.verify(b"payload", text)
    assert not await key.verify(b"payload2", text)
    assert not await other.verify(b"payload", text)
    version, _, raw = text.partition(".")
    for wrong in ("", "x", raw, f"{version}.", f"{version}.{raw[:-1]}", f"{version}.{raw}\n", f"{version}.{'A' * 86}",
                  f"{version.upper()}1.{raw}", f"../{version}.{raw}", f"{version}.{raw[1:]}{raw[0]}", f"{'f' * 32}.{raw}"):
        assert not await key.verify(b"payload", wrong), wrong


# Local

async def test_the_local_key_is_made_once_and_is_its_owners(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "guardrail.key"
    first = LocalKey(path)
    assert first.is_new and stat.S_IMODE(path.stat().st_mode) == 0o600
    second = LocalKey(path)
    assert not second.is_new and await second.verify(b"x", await first.sign(b"x"))
    assert [one.name for one in path.parent.iterdir()] == ["guardrail.key"]


async def test_two_processes_that_start_together_have_one_key(tmp_path: Path) -> None:
    keys = await asyncio.gather(*(asyncio.to_thread(LocalKey, tmp_path / "guardrail.key") for _ in range(8)))
    assert all([await keys[0].verify(b"x", await one.sign(b"x")) for one in keys])


@pytest.mark.parametrize("content", ["", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_a_broken_key_file_stops_the_start(content: str, tmp_path: Path) -> None:
    """Another one is not made: all that the lost key signed would count as forged."""
    path = tmp_path / "guardrail.key"
    path.write_text(content)
    with pytest.raises(ConfigError, match="put the file back"):
        LocalKey(path)
    assert path.read_text() == content


# Key Vault

async def test_signing_asks_the_vault_and_verifying_does_not(kv: Vault) -> None:
    key = key_of(kv)
    text = await key.sign(b"one")
    first = len(kv.requests)
    assert await key.verify(b"one", text)
    again = await key.sign(b"two")
    assert [one for one in kv.requests[first:] if "/sign" not in one] == []
    assert len(kv.requests) == first + 1
    assert await key_of(kv).verify(b"two", again), "another process fetches the public key by its version"
    assert set(key._account._credential._credential.asked) == {("https://vault.azure.net/.default",)}


async def test_a_rotated_key_signs_by_its_newest_and_knows_its_older_versions(kv: Vault) -> None:
    old = await key_of(kv).sign(b"x")
    newest = kv.add("front")
    key = key_of(kv)
    new = await key.sign(b"x")
    assert new.partition(".")[0] == newest != old.partition(".")[0]
    assert await key.verify(b"x", old) and await key.verify(b"x", new)
    pinned = key_of(kv, f"{ONE}/{old.partition('.')[0]}")
    assert (await pinned.sign(b"x")).partition(".")[0] == old.partition(".")[0]


@pytest.mark.threat("C1")
async def test_only_the_configured_key_is_asked_for(kv: Vault) -> None:
    """A signature names a version and nothing more: not another key, not another vault."""
    foreign = await key_of(kv, OTHER).sign(b"x")
    key = key_of(kv)
    kv.requests.clear()
    assert not await key.verify(b"x", foreign)
    assert not await key.verify(b"x", foreign), "and it is remembered that there is none"
    assert kv.requests == [f"GET /keys/front/{foreign.partition('.')[0]}"]
    for wrong in (f"hands/{foreign}", f"../hands/{foreign}", f"https://evil.example/{foreign}", f"{foreign}/../x"):
        assert not await key.verify(b"x", wrong)
    assert len(kv.requests) == 1


@pytest.mark.parametrize("number", [0, 1])
async def test_a_vault_that_answers_late_is_asked_again(number: int, kv: Vault) -> None:
    """Its first request, which reads the version, and its second, which signs."""
    key = key_of(kv, patience_s=5)
    fine = await key.sign(b"x") if number else ""
    kv.down = [429, 503]
    text = await key.sign(b"x")
    assert await key.verify(b"x", text) and (not fine or fine.partition(".")[0] == text.partition(".")[0])


async def test_a_vault_that_is_away_proves_nothing(kv: Vault) -> None:
    """Neither forged nor sound: the look goes back."""
    text = await key_of(kv).sign(b"x")
    kv.down = [503] * 50
    with pytest.raises(StoreDown, match="key vault"):
        await key_of(kv).verify(b"x", text)
    kv.down.clear()
    kv.disabled.add(text.partition(".")[0])
    with pytest.raises(StoreDown, match="403"):
        await key_of(kv).verify(b"x", text)


async def test_a_disabled_version_is_left_for_the_newest(kv: Vault) -> None:
    key = key_of(kv)
    old = await key.sign(b"x")
    newest = kv.add("front")
    kv.disabled.add(old.partition(".")[0])
    with pytest.raises(StoreDown):
        await key.sign(b"y")
    assert (await key.sign(b"y")).partition(".")[0] == newest


@pytest.mark.parametrize("curve", [None, ec.SECP384R1()])
async def test_a_key_that_cannot_sign_is_named(curve: Any, kv: Vault) -> None:
    """There is none of that name, or it is of another curve."""
    if curve:
        kv.add("odd", curve)
    with pytest.raises(ConfigError, match="P-256"):
        await key_of(kv, f"https://{HOST}/keys/odd").sign(b"x")


@pytest.mark.threat("E5")
@pytest.mark.parametrize("challenge", [
    'Bearer authorization="https://login.microsoftonline.com/5b1e", resource="https://evil.example"',
    'Bearer authorization="https://evil.example/5b1e", resource="https://management.azure.com"',
])
async def test_a_challenge_gets_no_token_for_anything_else(challenge: str, kv: Vault) -> None:
    kv.challenge, key = challenge, key_of(kv)
    with pytest.raises((StoreDown, Unsafe, ValueError)):
        await key.sign(b"x")
    assert kv.requests == []
    assert key._account._credential._credential.asked == []


# Payloads

PLAN = Plan(ID, "one life", "fix", (Edit("a", 1, 2),), ("c",))
YES = Approval("approver", AT, PLAN.hash, "7f3a", "0.1.0")
ACTION = Action("act-1", PLAN, "proposed", "approve", AT, ("x",), asked_by="", expires=AT, sent=("1",))
CASE = Case(ID, findings=frozenset({("c", "a"), ("c", "b")}), good={"": {"b": [1, 2.5, None]}}, incarnation="one life",
            actors=("x",), asked=ACTION)
OTHERS: dict[type, Any] = {str: "other", int: 7, datetime: AT + timedelta(seconds=1), tuple: ("other",)}


def variants(value: Any, *same: str) -> list[Any]:
    """The value with one field changed, for each that a signature covers."""
    changed = []
    for one in fields(value):
        now = getattr(value, one.name)
        if one.name not in (*same, "signature") and type(now) in OTHERS:
            changed.append(replace(value, **{one.name: OTHERS[type(now)]}))
    return changed


@pytest.mark.threat("C1", "C2")
@pytest.mark.parametrize(("payload", "value", "same"), [
    (lambda one: signing.approval(ACTION, one), YES, ()),
    (lambda one: signing.approval(replace(ACTION, id=one), YES), "act-1", ()),
    (lambda one: signing.wish(ID, one), Wish("undo", "oncall", AT, "why", "act-1"), ()),
    (lambda one: signing.acceptance(CASE, "", one), Acceptance("approver", AT, "h"), ()),
    (signing.rules, Rules(at=AT, switch="policy", generation=3), ("forged",)),
    (lambda one: signing.sealed_action(ID, one), ACTION, ("state", "why", "expires", "reads", "lease", "seal", "approvals")),
], ids=["approval", "action id", "wish", "acceptance", "rules", "action"])
def test_each_field_is_covered(payload: Callable[[Any], bytes], value: Any, same: tuple[str, ...]) -> None:
    others = [value + "x"] if isinstance(value, str) else variants(value, *same)
    assert others
    found = [payload(one) for one in (value, *others)]
    assert len(set(found)) == len(found)
    for name in same:
        if not isinstance(value, str) and type(getattr(value, name)) in OTHERS:
            other: Any = OTHERS[type(getattr(value, name))]
            if name != "approvals":
                assert payload(replace(value, **{name: other})) == payload(value), name


def test_no_payload_is_another_kinds() -> None:
    found = [signing.approval(ACTION, YES), signing.wish(ID, Wish("undo", "a", AT, "")), signing.rules(Rules()),
             signing.acceptance(CASE, "", Acceptance("a", AT, "h")), signing.sealed_case(CASE), signing.begun(ID),
             signing.sealed_action(ID, ACTION), signing.applying(ID, "act-1", PLAN.hash)]
    assert len({one.partition(b'"signed":')[2][:12] for one in found}) == len(found)


def test_the_order_of_a_set_and_the_spelling_of_an_id_sign_alike() -> None:
    turned = replace(CASE, findings=frozenset(sorted(CASE.findings, reverse=True)), resource=ResourceId(ID.upper()))
    assert signing.sealed_case(turned) == signing.sealed_case(CASE)
    assert signing.sealed_case(replace(CASE, actors=())) != signing.sealed_case(CASE)
