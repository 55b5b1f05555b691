"""As much of Key Vault as signing asks for: keys with versions behind a challenge, on a real host name over TLS.

The name is the cloud's (`*.vault.azure.net`), for the SDK compares it with the challenge's; a resolver of the test's own
leads it here. Paths, bodies and the challenge are those of the 7.x REST API as azure-keyvault-keys 4.11 sends and reads it.
"""

from __future__ import annotations

import asyncio
import base64
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from aiohttp.abc import AbstractResolver
from azure.core.credentials import AccessToken
from azure.core.pipeline.transport import AioHttpTransport
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.x509.oid import NameOID

HOST = "kv-guard.vault.azure.net"
CHALLENGE = 'Bearer authorization="https://login.microsoftonline.com/5b1e", resource="https://vault.azure.net"'


class Credential:
    """`asked` has the scopes that were asked for."""

    def __init__(self) -> None:
        self.asked = list[tuple[str, ...]]()

    async def get_token(self, *scopes: str, **_: Any) -> AccessToken:
        self.asked.append(scopes)
        return AccessToken("a token for the vault", int(time.time()) + 3600)

    async def close(self) -> None: ...


@dataclass
class Vault:
    """`keys`: name -> version -> private key, the newest last. `requests`: METHOD and path of each that had a token."""

    transport: AioHttpTransport
    keys: dict[str, dict[str, Any]] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)
    posted: list[tuple[str, Mapping[str, str], bytes]] = field(default_factory=list)    # what came without a token, to any name
    disabled: set[str] = field(default_factory=set)
    requests: list[str] = field(default_factory=list)
    down: list[int] = field(default_factory=list)       # statuses to answer with, first
    challenge: str = CHALLENGE

    def add(self, name: str, curve: ec.EllipticCurve | None = None) -> str:
        """Another version of that key, which is its newest."""
        versions = self.keys.setdefault(name, {})
        version = f"{len(self.keys):016x}{len(versions):016x}"
        versions[version] = ec.generate_private_key(curve or ec.SECP256R1())
        return version

    async def answer(self, request: web.Request) -> web.Response:
        if request.method == "POST" and request.path.startswith("/hook/"):
            self.posted.append((request.path, dict(request.headers), await request.read()))
            return web.Response(status=202)
        if request.headers.get("Authorization") != "Bearer a token for the vault":
            return web.json_response({}, status=401, headers={"WWW-Authenticate": self.challenge})
        self.requests.append(f"{request.method} {request.path}")
        if self.down:
            return error(self.down.pop(0), "Throttled")
        _, kind, name, *rest = request.path.split("/")
        if kind == "secrets":
            known = name in self.secrets and request.query["api-version"] == "7.4"
            return web.json_response({"value": self.secrets[name]}) if known else error(404, "SecretNotFound")
        versions = self.keys.get(name, {})
        version = (rest[0] if rest else "") or next(reversed(versions), "")
        if version not in versions:
            return error(404, "KeyNotFound")
        if version in self.disabled:
            return error(403, "Forbidden")
        kid, key = f"https://{HOST}/keys/{name}/{version}", versions[version]
        if request.method == "GET":
            return web.json_response({"key": jwk(kid, key), "attributes": {"enabled": True}})
        body = await request.json()
        assert rest[1:] == ["sign"] and body["alg"] == "ES256"
        digest = base64.urlsafe_b64decode(body["value"] + "==")
        r, s = utils.decode_dss_signature(key.sign(digest, ec.ECDSA(utils.Prehashed(hashes.SHA256()))))
        return web.json_response({"kid": kid, "value": text(r.to_bytes(32, "big") + s.to_bytes(32, "big"))})


def error(status: int, code: str) -> web.Response:
    return web.json_response({"error": {"code": code, "message": code}}, status=status)


def jwk(kid: str, key: ec.EllipticCurvePrivateKey) -> Mapping[str, Any]:
    numbers, size = key.public_key().public_numbers(), (key.curve.key_size + 7) // 8
    names = {256: "P-256", 384: "P-384"}
    return {"kid": kid, "kty": "EC", "crv": names[key.curve.key_size], "key_ops": ["sign", "verify"],
            "x": text(numbers.x.to_bytes(size, "big")), "y": text(numbers.y.to_bytes(size, "big"))}


def text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


class Here(AbstractResolver):
    """Every name of the cloud's vaults is this machine, at that port."""

    def __init__(self, port: int) -> None:
        self.port = port

    async def resolve(self, host: str, port: int = 0, family: Any = 0) -> Any:
        return [{"hostname": host, "host": "127.0.0.1", "port": self.port, "family": 2, "proto": 0, "flags": 0}]

    async def close(self) -> None: ...


@asynccontextmanager
async def vault(folder: Path) -> AsyncIterator[Vault]:
    shown, trusted = contexts(folder)
    made: list[Vault] = []

    async def handle(request: web.Request) -> web.StreamResponse:
        return await made[0].answer(request)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=shown)
    await site.start()
    port = runner.addresses[0][1]
    transport = AioHttpTransport(session=aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(resolver=Here(port), ssl=trusted)))
    made.append(Vault(transport))
    try:
        yield made[0]
    finally:
        await transport.close()
        await runner.cleanup()
        await asyncio.sleep(0)


def contexts(folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """(what the server shows, what the client trusts): a certificate for the host's name."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)])
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
        .not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("*.vault.azure.net")]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256()))
    pem = folder / "vault.pem"
    pem.write_bytes(certificate.public_bytes(serialization.Encoding.PEM) + key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    shown = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    shown.load_cert_chain(pem)
    trusted = ssl.create_default_context(cadata=certificate.public_bytes(serialization.Encoding.PEM).decode())
    return shown, trusted
