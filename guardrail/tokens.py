"""Who a bearer token speaks for. We verify it ourselves; what a platform puts into headers (x-ms-*) is never read.

Entra's access tokens, v1 and v2: signed RS256 by a key of the tenant's one key address, for our audience, in its time.
Claims and overage: Microsoft identity platform, "Access token claims reference" and "Optional claims reference".
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from guardrail.authorize import Person
from guardrail.errors import Malformed, Refused, Unavailable
from guardrail.events import load
from guardrail.paths import fold
from guardrail.settings import Settings

SKEW_S = 60
KEYS_FOR_S = 3600           # then fetched again
KEYS_AT_MOST_S = 86_400     # used while the address does not answer
UNKNOWN_EVERY_S = 300       # a key that is not there is asked for so often: anyone can name one
KEYS_BYTES, TOKEN_BYTES = 256 * 1024, 16 * 1024
TIMEOUT_S = 10
FOREIGN = ("jku", "jwk", "x5u", "x5c", "crit")      # a header that brings or demands something of its own
OF_ID_TOKENS = ("nonce", "at_hash", "c_hash")

Fetch = Callable[[str], Awaitable[bytes]]


class Issuer(NamedTuple):
    """Of v1 and v2 tokens, by authority: sts.windows.net also signs for Azure Government."""

    v1: str
    v2: str


ISSUERS = {
    "login.microsoftonline.com": Issuer("https://sts.windows.net/{}/", "https://login.microsoftonline.com/{}/v2.0"),
    "login.microsoftonline.us": Issuer("https://sts.windows.net/{}/", "https://login.microsoftonline.us/{}/v2.0"),
    "login.chinacloudapi.cn": Issuer("https://sts.chinacloudapi.cn/{}/", "https://login.partner.microsoftonline.cn/{}/v2.0"),
}


def refused(message: str) -> Refused:
    """A 401: nobody is known to be asking."""
    return Refused("token", message)


async def fetch(url: str) -> bytes:
    """The one GET that verification needs: no redirect, no cookie, no proxy from the environment. Errors: Unavailable."""
    import aiohttp

    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    try:
        async with aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()) as session, \
                session.get(url, allow_redirects=False) as answer:
            raw = await answer.content.read(KEYS_BYTES + 1)
            while len(raw) <= KEYS_BYTES and (more := await answer.content.read(KEYS_BYTES)):
                raw += more
            if answer.status != 200:
                raise Unavailable(f"the sign-in keys: {answer.status}", after_s=30)
            return raw
    except (aiohttp.ClientError, TimeoutError) as error:
        raise Unavailable(f"the sign-in keys: {type(error).__name__}", after_s=30) from error


class Keys:
    """The tenant's signing keys by kid, fetched from one address and kept for an hour."""

    def __init__(self, url: str, clock: Callable[[], datetime], fetch: Fetch) -> None:
        self.url = url
        self._clock, self._fetch, self._lock = clock, fetch, asyncio.Lock()
        self._known: dict[str, Any] = {}
        self._at = self._tried = float("-inf")

    async def get(self, kid: str) -> Any:
        """The public key. Errors: Refused if the tenant has no such key, Unavailable."""
        async with self._lock:
            now = self._clock().timestamp()
            age = now - self._at
            if age > KEYS_FOR_S or (kid not in self._known and now - self._tried > UNKNOWN_EVERY_S):
                self._tried = now
                try:
                    self._known, self._at = _keys(await self._fetch(self.url)), now
                except Unavailable:
                    if age > KEYS_AT_MOST_S:
                        raise
        if kid not in self._known:
            raise refused("it is signed with a key that is not this tenant's")
        return self._known[kid]


def _keys(raw: bytes) -> dict[str, Any]:
    """kid -> key of each RSA signing key. Errors: Unavailable for an answer that is none."""
    from jwt import PyJWK
    from jwt.exceptions import PyJWTError

    try:
        listed = load(raw, KEYS_BYTES)["keys"]
        return {one["kid"]: PyJWK(one, "RS256") for one in listed
                if one.get("kty") == "RSA" and one.get("use", "sig") == "sig" and isinstance(one.get("kid"), str)}
    except (Malformed, PyJWTError, KeyError, TypeError, AttributeError) as error:
        raise Unavailable("the sign-in keys cannot be read", after_s=30) from error


class Verifier:
    """Bearer tokens of one tenant for one audience."""

    def __init__(self, settings: Settings, clock: Callable[[], datetime], fetch: Fetch = fetch) -> None:
        self._tenant, self._audience, self._clock = settings.tenant, settings.audience, clock
        base = settings.arm_endpoint if settings.is_simulated else f"https://{settings.authority}"      # never from a token
        named = ISSUERS.get(settings.authority) or Issuer("https://sts.windows.net/{}/", f"{base}/{{}}/v2.0")
        self._issuers = [one.format(self._tenant) for one in named]
        self.keys = Keys(f"{base}/{self._tenant}/discovery/v2.0/keys", clock, fetch)

    async def person(self, authorization: str) -> Person:
        """Who `Authorization: Bearer …` speaks for. Errors: Refused (code token, groups), Unavailable."""
        import jwt

        if not self._tenant or not self._audience:
            raise refused("sign-in is not set up. cure: GUARDRAIL_TENANT and GUARDRAIL_AUDIENCE")
        scheme, _, token = authorization.partition(" ")
        if fold(scheme) != "bearer" or not token or len(token) > TOKEN_BYTES:
            raise refused("send an access token: Authorization: Bearer …")
        try:
            header = jwt.get_unverified_header(token)
            if header.get("alg") != "RS256" or not isinstance(header.get("kid"), str) or any(one in header for one in FOREIGN):
                raise refused("it is not signed as Entra signs")
            claims = jwt.decode(
                token, await self.keys.get(header["kid"]), algorithms=["RS256"], audience=self._audience, issuer=self._issuers,
                options={"require": ["exp", "nbf", "iat", "iss", "aud", "sub"], "strict_aud": True,
                         "verify_exp": False, "verify_nbf": False, "verify_iat": False})   # by our own clock, below
        except jwt.PyJWTError as error:
            raise refused(f"it does not verify: {type(error).__name__}") from error
        return self._person(claims)

    def _person(self, claims: Mapping[str, Any]) -> Person:
        age = self._age(claims)
        object_id, tenant = claims.get("oid"), claims.get("tid")
        if not isinstance(tenant, str) or fold(tenant) != self._tenant or not isinstance(object_id, str) or not object_id:
            raise refused("it is of another tenant, or names nobody")
        scopes, kind = claims.get("scp", ""), claims.get("idtyp", "")
        is_app = kind == "app" or claims["sub"] == object_id
        if any(name in claims for name in OF_ID_TOKENS) or not isinstance(scopes, str) or not (scopes.strip() or is_app):
            raise refused("it is no access token")
        if claims.get("hasgroups") or "groups" in (claims.get("_claim_names") or {}):
            raise Refused("groups", "this token leaves groups out, for there are too many: only groups assigned to the "
                                    "application may be in it")
        is_guest = not is_app and claims.get("acct") != 0
        if is_guest and claims.get("acct") != 1:
            raise refused("it does not say whether you are a guest. cure: the optional claim acct, in access tokens")
        return Person(object_id, _texts(claims.get("roles")), _texts(claims.get("groups")), is_person=not is_app,
                      is_guest=is_guest, token_age_s=age)

    def _age(self, claims: Mapping[str, Any]) -> float:
        """Seconds since it was issued. Errors: Refused outside its time."""
        now = self._clock().timestamp()
        begins, ends, issued = (claims[name] for name in ("nbf", "exp", "iat"))
        if not all(isinstance(one, int) and not isinstance(one, bool) for one in (begins, ends, issued)):
            raise refused("its times are no numbers")
        if now >= ends + SKEW_S:
            raise refused("it has expired: sign in again")
        if now < max(begins, issued) - SKEW_S:
            raise refused("it is not valid yet")
        return max(0.0, now - float(issued))


def _texts(value: Any) -> frozenset[str]:
    return frozenset(one for one in value if isinstance(one, str)) if isinstance(value, list) else frozenset()
