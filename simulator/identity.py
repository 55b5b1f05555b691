"""Who calls: the actors of the simulated tenant, their tokens, and the endpoints that hand tokens out (S14).

Tokens are well-formed JWTs (HS256, a fixed key: nobody can verify them offline, as with Azure's). Shapes: the managed
identity endpoint of App Service (`IDENTITY_ENDPOINT`, api-version 2019-08-01), and Entra's v2 token endpoint.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs
from uuid import UUID, uuid5

from simulator.wire import Request, Response, error

if TYPE_CHECKING:
    from simulator import Simulator

AUDIENCE = "https://management.core.windows.net/"
"""What az asks for; azure-identity asks for https://management.azure.com. ARM takes both."""

LIFETIME_S = 3600
_KEY = b"simulator: this key signs nothing that anybody trusts"
_NAMESPACE = UUID("00000000-0000-0000-0000-00000000ac70")
_CLI_APP = "04b07795-8ddb-461a-bbee-02f9e1bf7b46"
"""The public client id of the Azure CLI: people act through it."""


@dataclass(frozen=True, slots=True)
class Actor:
    """One principal. `person`: a user, who has a upn and acts through a public client; else a service principal."""

    name: str
    oid: str
    appid: str
    person: bool
    role: str = "Contributor"
    """What the event's evidence names; permissions are only checked when S12 is on."""


def _actor(name: str, *, person: bool, role: str = "Contributor") -> Actor:
    oid = str(uuid5(_NAMESPACE, name))
    return Actor(name, oid, _CLI_APP if person else str(uuid5(_NAMESPACE, f"app {name}")), person, role)


ACTORS: Mapping[str, Actor] = {
    actor.name: actor
    for actor in (
        _actor("ml-engineer", person=True),
        _actor("approver", person=True, role="Owner"),
        _actor("oncall", person=True, role="Owner"),
        _actor("deploy-pipeline", person=False),
        _actor("guardrail", person=False, role="Guardrail"),
    )
}
"""Names are those of roles; every GUID is made up. An unknown name gets an application of its own on first use."""

_BY_OID = {actor.oid: actor for actor in ACTORS.values()}
_BY_ID = {key: actor for actor in ACTORS.values() for key in (actor.name, actor.oid)} | {
    actor.appid: actor for actor in ACTORS.values() if not actor.person
}


def actor(name: str) -> Actor:
    """The actor of this name, object id or app id."""
    return _BY_ID.get(name) or _actor(name or "anonymous", person=False)


def role_of(claims: Mapping[str, Any]) -> str:
    """The role that an event's evidence gives for these claims."""
    known = _BY_OID.get(str(claims.get("oid", "")))
    return known.role if known else "Contributor"


def claims(name: str, *, audience: str = AUDIENCE, now: float, tenant: str, lifetime_s: int = LIFETIME_S) -> dict[str, Any]:
    """The payload of an access token (v1 form): numbers for iat, nbf and exp, text for the rest; apps have no upn."""
    who = actor(name)
    common = {
        "aud": audience,
        "iss": f"https://sts.windows.net/{tenant}/",
        "iat": int(now),
        "nbf": int(now),
        "exp": int(now) + lifetime_s,
        "appid": who.appid,
        "idp": f"https://sts.windows.net/{tenant}/",
        "ipaddr": "192.0.2.10",
        "name": who.name,
        "oid": who.oid,
        "sub": who.oid,
        "tid": tenant,
        "uti": hashlib.sha256(f"{name}{now}".encode()).hexdigest()[:22],
        "ver": "1.0",
    }
    if who.person:
        upn = f"{who.name}@simulated.example"
        person = {"acr": "1", "amr": ["pwd", "mfa"], "appidacr": "0", "idtyp": "user", "scp": "user_impersonation"}
        return common | person | {"upn": upn, "unique_name": upn}
    return common | {"appidacr": "2", "idtyp": "app"}


def encode(payload: Mapping[str, Any]) -> str:
    """A JWT of this payload."""
    head = _b64(json.dumps({"typ": "JWT", "alg": "HS256", "kid": "simulator"}).encode())
    body = _b64(json.dumps(payload).encode())
    return f"{head}.{body}.{_b64(hmac.new(_KEY, f'{head}.{body}'.encode(), hashlib.sha256).digest())}"


def decode(authorization: str) -> dict[str, Any]:
    """The payload of `Bearer …`; empty for anything that is no JWT (it is accepted, as nobody)."""
    parts = authorization.removeprefix("Bearer ").split(".")
    if len(parts) != 3:
        return {}
    try:
        payload = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except ValueError:
        return {}
    return payload if isinstance(payload, dict) else {}


def _b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


@dataclass(slots=True)
class _Trouble:
    mode: str
    times: int | None
    seconds: float


class Identity:
    """The token service of one simulator and its gate: which bearer ARM lets in."""

    def __init__(self, sim: Simulator) -> None:
        self.tenant = sim.tenant
        self.issued = 0
        """Tokens handed out, failures not counted."""
        self._clock = sim.clock
        self._trouble: _Trouble | None = None

    def trouble(self, mode: str, *, times: int | None = None, seconds: float = 5.0) -> None:
        """S14. `fail`: the endpoint answers 500; `slow`: it takes `seconds`; `expired`: it hands out a token that ended
        an hour ago; `foreign_tenant`: one of another tenant; `claims_challenge`: ARM answers 401 with a challenge and
        no token helps until `times` is used up. `times=None`: until faults are cleared."""
        if mode not in ("fail", "slow", "expired", "claims_challenge", "foreign_tenant"):
            raise ValueError(f"no such token fault: {mode}")
        self._trouble = _Trouble(mode, times, seconds)

    def clear(self) -> None:
        self._trouble = None

    def token(self, name: str, audience: str = AUDIENCE, now: float | None = None) -> str:
        """An access token for this actor, without any fault."""
        return encode(claims(name, audience=audience, now=self._clock() if now is None else now, tenant=self.tenant))

    def _take(self, *modes: str) -> _Trouble | None:
        trouble = self._trouble
        if trouble is None or trouble.mode not in modes:
            return None
        if trouble.times is not None:
            trouble.times -= 1
            if trouble.times <= 0:
                self._trouble = None
        return trouble

    def route(self, request: Request) -> Response | None:
        """The routes that need no bearer: managed identity, openid-configuration, token, metadata, Microsoft Graph.

        None: not one of them."""
        from simulator import directory

        path = request.path.lower()
        if path == "/msi/token" and request.method == "GET":
            return self._managed(request)
        if path.endswith("/.well-known/openid-configuration"):
            tenant = path.strip("/").split("/")[0]
            base = f"{request.base}/{tenant}"
            return Response(
                200,
                {
                    "issuer": f"{base}/v2.0",
                    "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
                    "token_endpoint": f"{base}/oauth2/v2.0/token",
                    "device_authorization_endpoint": f"{base}/oauth2/v2.0/devicecode",
                    "jwks_uri": f"{base}/discovery/v2.0/keys",
                    "tenant_region_scope": None,
                },
            )
        if path.endswith(("/oauth2/v2.0/token", "/oauth2/token")) and request.method == "POST":
            form = {key: values[0] for key, values in parse_qs(request.body.decode("utf-8", "replace")).items()}
            scope = form.get("scope") or form.get("resource") or AUDIENCE
            return self._answer(form.get("client_id", ""), scope.removesuffix("/.default"), v2=True)
        return directory.route(self.tenant, request)

    def _managed(self, request: Request) -> Response:
        """`X-IDENTITY-HEADER` names the actor, so one IDENTITY_HEADER is one identity; any other word is an
        application of that name. `client_id` (a user-assigned identity) wins."""
        header = request.headers.get("x-identity-header", "")
        if not header:
            return Response(400, {"statusCode": 400, "message": "The X-IDENTITY-HEADER header is missing."})
        return self._answer(request.get("client_id") or header, request.get("resource") or AUDIENCE, v2=False)

    def _answer(self, name: str, audience: str, *, v2: bool) -> Response:
        trouble = self._take("fail", "slow", "expired", "foreign_tenant")
        mode = trouble.mode if trouble else ""
        if mode == "fail":
            down: dict[str, Any] = {"statusCode": 500, "message": "An unexpected error occurred."}
            return Response(500, {"error": "server_error", "error_description": "Unavailable."} if v2 else down)
        tenant = "00000000-0000-0000-0000-0000000f0e16" if mode == "foreign_tenant" else self.tenant
        now = self._clock() - (2 * LIFETIME_S if mode == "expired" else 0)
        access = encode(claims(name, audience=audience, now=now, tenant=tenant))
        self.issued += 1
        body: dict[str, Any] = {"token_type": "Bearer", "access_token": access}
        if v2:
            body |= {"expires_in": LIFETIME_S, "ext_expires_in": LIFETIME_S}
        else:
            # The endpoint's own word on the expiry stays in the future: a client must not be able to see the fault.
            body |= {"expires_on": str(int(self._clock()) + LIFETIME_S), "resource": audience}
        return Response(200, body, delay_s=trouble.seconds if trouble and mode == "slow" else 0.0)

    def authenticate(self, request: Request) -> Response | None:
        """ARM's 401 for a missing, expired, foreign or challenged token; None lets the request in.

        Codes: AuthenticationFailed, ExpiredAuthenticationToken, InvalidAuthenticationTokenTenant (ARM's list of common
        errors); a challenge is a `WWW-Authenticate` with error="insufficient_claims" and base64 claims."""
        if not request.headers.get("authorization", "").startswith("Bearer "):
            return self._unauthorized("AuthenticationFailed", "Authentication failed. The 'Authorization' header is missing.")
        if self._take("claims_challenge"):
            wanted = base64.b64encode(b'{"access_token":{"nbf":{"essential":true,"value":"1"}}}').decode()
            return self._unauthorized(
                "InvalidAuthenticationToken",
                "Continuous access evaluation resulted in challenge.",
                f', error="insufficient_claims", claims="{wanted}"',
            )
        payload = request.claims
        if payload.get("tid", self.tenant) != self.tenant:
            return self._unauthorized(
                "InvalidAuthenticationTokenTenant",
                f"The access token is from the wrong issuer 'https://sts.windows.net/{payload['tid']}/'. "
                f"It must match the tenant 'https://sts.windows.net/{self.tenant}/' of this subscription.",
                ', error="invalid_token"',
            )
        ends = payload.get("exp")
        if isinstance(ends, (int, float)) and ends < self._clock():
            return self._unauthorized(
                "ExpiredAuthenticationToken",
                "The access token expiry UTC time is earlier than the current UTC time.",
                ', error="invalid_token"',
            )
        return None

    def _unauthorized(self, code: str, message: str, more: str = "") -> Response:
        response = error(401, code, message)
        response.headers["WWW-Authenticate"] = f'Bearer authorization_uri="https://login.windows.net/{self.tenant}"{more}'
        return response
