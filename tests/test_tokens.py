"""Bearer tokens: who a good one speaks for, and that nothing else is let in. Keys are real, their address is a loopback one."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import RSAAlgorithm

from guardrail import tokens
from guardrail.authorize import Person
from guardrail.errors import Refused, Unavailable
from guardrail.settings import CLOUDS, Settings
from guardrail.tokens import Verifier

pytestmark = pytest.mark.anyio

TENANT, OTHER = "00000000-0000-0000-0000-00000000007e", "00000000-0000-0000-0000-0000000000ff"
AUDIENCE, GROUP = "api://guardrail", "11111111-1111-1111-1111-111111111111"
SETTINGS = Settings(frozenset(), tenant=TENANT, audience=AUDIENCE)
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
STRANGER = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PEM = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
NOW = datetime(2026, 11, 24, 19, tzinfo=UTC)
AT = int(NOW.timestamp())
CLAIMS: Mapping[str, Any] = {
    "aud": AUDIENCE, "iss": f"https://sts.windows.net/{TENANT}/", "tid": TENANT, "oid": "an-approver", "sub": "pairwise",
    "iat": AT - 60, "nbf": AT - 60, "exp": AT + 3600, "scp": "user_impersonation", "roles": ["Approver", 7], "groups": [GROUP],
    "acct": 0, "ver": "1.0"}
WITHOUT: Any = object()


def keys(*, kid: str = "key-1", key: Any = KEY, **more: Any) -> bytes:
    one = json.loads(RSAAlgorithm.to_jwk(key.public_key())) | {"kid": kid, "use": "sig"} | more
    one.pop("key_ops", None)
    return json.dumps({"keys": [one]}).encode()


def signed(key: Any = KEY, headers: Mapping[str, Any] = {}, alg: str = "RS256", **claims: Any) -> str:
    """A token of the good claims with these changes."""
    payload = {name: value for name, value in {**CLAIMS, **claims}.items() if value is not WITHOUT}
    return jwt.encode(payload, key, alg, {"kid": "key-1", **headers})


def hs256_with_the_public_key() -> str:
    """PyJWT itself refuses to make one."""
    head, body = (base64.urlsafe_b64encode(json.dumps(one).encode()).rstrip(b"=").decode()
                  for one in ({"alg": "HS256", "kid": "key-1", "typ": "JWT"}, CLAIMS))
    mac = hmac.new(PEM, f"{head}.{body}".encode(), hashlib.sha256).digest()
    return f"{head}.{body}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


def tampered() -> str:
    head, _, signature = signed().split(".")
    body = base64.urlsafe_b64encode(json.dumps({**CLAIMS, "roles": ["Administrator"]}).encode()).rstrip(b"=").decode()
    return f"{head}.{body}.{signature}"


async def answer(url: str) -> bytes:
    return keys()


def verifier(fetch: tokens.Fetch = answer, settings: Settings = SETTINGS) -> Verifier:
    return Verifier(settings, lambda: NOW, fetch)


async def person(token: str, **more: Any) -> Person:
    return await verifier(**more).person(f"Bearer {token}")


BAD: Mapping[str, Callable[[], str]] = {
    "no token at all": lambda: "",
    "no JWT": lambda: "a.b",
    "alg none": lambda: jwt.encode(dict(CLAIMS), None, "none", {"kid": "key-1"}),
    "HS256 with the public key": hs256_with_the_public_key,
    "RS512": lambda: signed(alg="RS512"),
    "PS256": lambda: signed(alg="PS256"),
    "a stranger's key under our kid": lambda: signed(STRANGER),
    "a kid that the tenant has not": lambda: signed(STRANGER, {"kid": "key-2"}),
    "no kid": lambda: jwt.encode(dict(CLAIMS), KEY, "RS256"),
    "jku": lambda: signed(headers={"jku": "https://evil.example/keys"}),
    "jwk": lambda: signed(STRANGER, {"jwk": json.loads(RSAAlgorithm.to_jwk(STRANGER.public_key()))}),
    "x5u": lambda: signed(headers={"x5u": "https://evil.example/cert"}),
    "changed after signing": tampered,
    "another tenant's issuer": lambda: signed(iss=f"https://sts.windows.net/{OTHER}/", tid=OTHER),
    "our issuer, another tid": lambda: signed(tid=OTHER),
    "another tid's issuer, our tid": lambda: signed(iss=f"https://sts.windows.net/{OTHER}/"),
    "an issuer that only begins so": lambda: signed(iss=f"https://sts.windows.net/{TENANT}/x"),
    "no tid": lambda: signed(tid=WITHOUT),
    "another audience": lambda: signed(aud="https://management.azure.com"),
    "our audience among others": lambda: signed(aud=[AUDIENCE, "https://management.azure.com"]),
    "no audience": lambda: signed(aud=WITHOUT),
    "an id token": lambda: signed(scp=WITHOUT, nonce="678910"),
    "an id token without a nonce": lambda: signed(scp=WITHOUT),
    "an id token with a scope": lambda: signed(at_hash="x"),
    "scopes of another form": lambda: signed(scp=["user_impersonation"]),
    "expired": lambda: signed(exp=AT - 60),
    "without an end": lambda: signed(exp=WITHOUT),
    "an end that is no number": lambda: signed(exp="never"),
    "not valid yet": lambda: signed(nbf=AT + 61),
    "issued in the future": lambda: signed(iat=AT + 61),
    "no oid": lambda: signed(oid=WITHOUT),
    "no acct: guest or not is unknown": lambda: signed(acct=WITHOUT),
    "acct as text": lambda: signed(acct="0"),
    "too long": lambda: signed(groups=[GROUP] * 1000),
}


@pytest.mark.threat("D5")
@pytest.mark.parametrize("name", BAD)
async def test_a_bad_token_is_nobody(name: str) -> None:
    with pytest.raises(Refused) as refused:
        await person(BAD[name]())
    assert refused.value.code == "token"


@pytest.mark.threat("D5")
@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Basic YTpi", "Negotiate x"])
async def test_another_scheme_is_nobody(header: str) -> None:
    with pytest.raises(Refused) as refused:
        await verifier().person(header)
    assert refused.value.code == "token"


async def test_a_good_token_is_a_person_with_roles_and_groups() -> None:
    assert await person(signed()) == Person("an-approver", frozenset({"Approver"}), frozenset({GROUP}), token_age_s=60.0)
    assert (await verifier().person("bearer " + signed())).is_person


@pytest.mark.parametrize("cloud", CLOUDS)
@pytest.mark.parametrize("version", [0, 1])
async def test_each_cloud_s_issuers_are_known(cloud: str, version: int) -> None:
    settings = replace(SETTINGS, cloud=cloud, authority=CLOUDS[cloud].authority)
    issuer = tokens.ISSUERS[settings.authority][version].format(TENANT)
    asked = list[str]()

    async def fetch(url: str) -> bytes:
        asked.append(url)
        return keys()

    assert (await person(signed(iss=issuer), settings=settings, fetch=fetch)).is_person
    assert asked == [f"https://{settings.authority}/{TENANT}/discovery/v2.0/keys"]


@pytest.mark.threat("D4")
@pytest.mark.parametrize("claims", [
    {"idtyp": "app", "scp": WITHOUT, "acct": WITHOUT}, {"sub": "an-approver", "scp": WITHOUT, "acct": WITHOUT},
    {"idtyp": "app"}, {"sub": "an-approver"}])
async def test_an_application_is_no_person(claims: Mapping[str, Any]) -> None:
    assert not (await person(signed(**claims))).is_person


@pytest.mark.threat("D1")
async def test_a_guest_is_known_as_one() -> None:
    assert (await person(signed(acct=1))).is_guest
    assert not (await person(signed(acct=0))).is_guest


@pytest.mark.threat("D3")
@pytest.mark.parametrize("claims", [
    {"groups": WITHOUT, "_claim_names": {"groups": "src1"}, "_claim_sources": {"src1": {"endpoint": "https://evil.example/"}}},
    {"hasgroups": True}])
async def test_left_out_groups_are_refused_and_never_fetched(claims: Mapping[str, Any]) -> None:
    with pytest.raises(Refused) as refused:
        await person(signed(**claims))
    assert refused.value.code == "groups"


@pytest.mark.threat("D13", "R26")
@pytest.mark.parametrize(("claims", "good"), [
    ({"exp": AT - 59}, True), ({"exp": AT - 60}, False), ({"nbf": AT + 60}, True), ({"nbf": AT + 61}, False),
    ({"iat": AT + 60}, True), ({"iat": AT + 61}, False)])
async def test_a_minute_of_skew_and_no_more(claims: Mapping[str, Any], good: bool) -> None:
    if good:
        assert (await person(signed(**claims))).token_age_s >= 0
    else:
        with pytest.raises(Refused):
            await person(signed(**claims))


async def test_a_token_s_age_is_that_since_it_was_issued() -> None:
    assert (await person(signed(iat=AT - 3601))).token_age_s == 3601
    assert (await person(signed(iat=AT + 30))).token_age_s == 0


async def test_without_tenant_or_audience_nobody_is_let_in() -> None:
    for settings in (replace(SETTINGS, tenant=""), replace(SETTINGS, audience=""), Settings(frozenset())):
        with pytest.raises(Refused, match="not set up"):
            await person(signed(), settings=settings)


class Address:
    """The key address: what it answers, and how often it was asked."""

    def __init__(self) -> None:
        self.asked, self.raw, self.now, self.down = 0, keys(), NOW, False
        self.verifier = Verifier(SETTINGS, lambda: self.now, self.fetch)

    async def fetch(self, url: str) -> bytes:
        self.asked += 1
        if self.down:
            raise Unavailable("no answer")
        return self.raw

    async def person(self, key: Any = KEY, kid: str = "key-1") -> Person:
        at = int(self.now.timestamp())
        return await self.verifier.person("Bearer " + signed(key, {"kid": kid}, iat=at, nbf=at, exp=at + 3600))


async def test_keys_are_kept_for_an_hour_and_rolled_over_at_once() -> None:
    address = Address()
    for _ in range(3):
        await address.person()
    assert address.asked == 1
    address.raw, address.now = keys(kid="key-2", key=STRANGER), NOW + timedelta(minutes=6)
    assert (await address.person(STRANGER, "key-2")).is_person
    assert address.asked == 2
    with pytest.raises(Refused):
        await address.person()      # the old key is gone


@pytest.mark.threat("D5")
async def test_made_up_kids_cost_one_fetch_in_five_minutes() -> None:
    address = Address()
    await address.person()
    for number in range(20):
        with pytest.raises(Refused):
            await address.person(STRANGER, f"made-up-{number}")
    assert address.asked == 1
    address.now += timedelta(minutes=6)
    for number in range(20):
        with pytest.raises(Refused):
            await address.person(STRANGER, f"made-up-{number}")
    assert address.asked == 2


async def test_known_keys_outlast_an_outage_of_a_day() -> None:
    address = Address()
    await address.person()
    address.down = True
    address.now = NOW + timedelta(hours=23)
    assert (await address.person()).is_person
    address.now = NOW + timedelta(hours=25)
    with pytest.raises(Unavailable):
        await address.person()


@pytest.mark.parametrize("raw", [
    b"", b"<html>", b"[]", b"{}", b'{"keys": 7}', b'{"keys": [7]}', b'{"keys": [{"kty": "RSA", "kid": "a"}]}'])
async def test_an_answer_that_holds_no_keys_lets_nobody_in(raw: bytes) -> None:
    async def fetch(url: str) -> bytes:
        return raw

    with pytest.raises(Unavailable):
        await person(signed(), fetch=fetch)


@pytest.mark.threat("D5")
@pytest.mark.parametrize("change", [{"kty": "oct", "k": "x"}, {"use": "enc"}, {"kid": 7}])
async def test_only_rsa_signing_keys_count(change: Mapping[str, Any]) -> None:
    async def fetch(url: str) -> bytes:
        return keys(**change)

    with pytest.raises(Refused):
        await person(signed(), fetch=fetch)


@pytest.mark.threat("D5", "E5")
async def test_keys_come_over_http_and_no_redirect_is_followed() -> None:
    seen = list[str]()

    async def served(request: web.Request) -> web.Response:
        seen.append(request.path)
        if request.path == "/moved":
            raise web.HTTPFound("/evil")
        return web.Response(body=keys() if request.path == "/keys" else b"x" * (tokens.KEYS_BYTES + 5))

    app = web.Application()
    app.router.add_get("/{name}", served)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    base = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        assert await tokens.fetch(f"{base}/keys") == keys()
        with pytest.raises(Unavailable):
            await tokens.fetch(f"{base}/moved")
        assert len(await tokens.fetch(f"{base}/large")) > tokens.KEYS_BYTES
        assert seen == ["/keys", "/moved", "/large"]
    finally:
        await runner.cleanup()
    with pytest.raises(Unavailable):
        await tokens.fetch(f"{base}/keys")
