"""Who said it: what cannot be derived again is signed, by front what people say and by hands what was seen and planned.

Two kinds of key, both ES256 (ECDSA over P-256 and SHA-256): a file's for local runs, and Key Vault's, which never leaves
it. A signature is `VERSION.BASE64URL`, so that a key can be rotated while rows with its older versions stand. What is
signed: docs/reference/records.md, "What is signed".
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol
from urllib.parse import urlsplit

import msgspec

from guardrail.errors import ConfigError, StoreDown
from guardrail.ids import ResourceId, fold
from guardrail.policy import Rules
from guardrail.values import Acceptance, Action, Approval, Case, Wish, to_json

if TYPE_CHECKING:       # some 20 ms at a cold start: paid by the first signature
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

VERSIONS = 100          # public keys remembered: who can write rows can name as many as they like
_SIGNATURE = re.compile(r"([0-9a-f]{16,32})\.([\w-]{86})", re.ASCII)
# of an action, what front or a mere look may change
_UNSEALED = ("state", "approvals", "why", "expires", "reads", "leased_until", "lease", "seal")
_SEALED = ("incarnation", "findings", "reported", "good", "actors", "distrusted", "wrote")     # of a case


class Key(Protocol):
    async def sign(self, payload: bytes) -> str:
        """Errors: StoreDown, ConfigError."""

    async def verify(self, payload: bytes, signature: str) -> bool:
        """Whether this key, in any of its versions, signed exactly this. Errors: StoreDown if that cannot be told now."""


@dataclass(frozen=True, slots=True)
class Keys:
    """Both, and which of them this process may sign with: `part` front or hands its own, all both."""

    front: Key
    hands: Key
    part: Literal["front", "hands", "all"] = "all"


# What is signed: each payload says what it is, so that no signature fits anything else

def approval(action: Action, one: Approval) -> bytes:
    return _payload("approval", action.plan.resource, action.plan.incarnation, action=action.id, **_plain(one))


def wish(resource: ResourceId, one: Wish) -> bytes:
    return _payload("wish", resource, "", **_plain(one))


def acceptance(case: Case, part: str, one: Acceptance) -> bytes:
    return _payload("acceptance", case.resource, case.incarnation, part=part, **_plain(one))


def rules(one: Rules) -> bytes:
    later = () if one.scoped else ("scoped",)       # as in rows of before there was such a field
    return _payload("rules", "", "", **_plain(one, "signature", "forged", *later))


def sealed_case(case: Case) -> bytes:
    """What only hands may say of a resource."""
    said = {name: getattr(case, name) for name in _SEALED}
    if not case.wrote:
        del said["wrote"]       # as in rows of before there was such a field
    return _payload("case", case.resource, **said)


def claims_nothing(case: Case) -> bool:
    """Whether all that a seal covers is empty, as in a row that front or the installation's records began."""
    return not any(getattr(case, name) for name in _SEALED)


def begun(resource: ResourceId) -> bytes:
    """Of a row that front began, for somebody asked for a look before hands ever saw the resource."""
    return _payload("begun", resource, "")


def sealed_action(resource: ResourceId, action: Action) -> bytes:
    """With the yes of whoever asked for it: that one hands write, from a wish that front signed."""
    own = [one for one in action.approvals if one.by == action.asked_by]
    return _payload("action", resource, action.plan.incarnation, own=own, **_plain(action, *_UNSEALED))


def budget(name: str, n: int, taken: Sequence[float], broken: float | None) -> bytes:
    """What was taken of a budget by its `n`-th write."""
    return _payload("budget", "", "", name=name, n=n, taken=taken, broken=broken)


def applying(resource: ResourceId, action_id: str, plan_hash: str) -> bytes:
    """The before-values of an action that is carried out: the plan's hash covers them."""
    return _payload("applying", resource, "", action=action_id, plan=plan_hash)


def received(at: datetime, took_s: float) -> bytes:
    """That an event of the probe came back."""
    return _payload("received", "", "", at=at, took_s=took_s)


def _payload(kind: str, resource: str, incarnation: str, **fields: Any) -> bytes:
    said = {name: sorted(value) if isinstance(value, frozenset) else value for name, value in fields.items()}
    return to_json({**said, "v": 1, "signed": kind, "resource": fold(ResourceId(resource)), "incarnation": incarnation})


def _plain(value: Any, *without: str) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__dataclass_fields__
            if name not in ("signature", *without) and getattr(value, name) is not msgspec.UNSET}


# Keys

class LocalKey:
    """A private key in a file (mode 0600) that is made if it is missing; without a path one for this process only.

    Errors: ConfigError.
    """

    def __init__(self, path: Path | None = None) -> None:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        self.is_new = path is None or not path.exists()
        if path is not None:
            try:
                self._key: Any = _kept(path)
            except (OSError, ValueError, TypeError) as error:
                raise ConfigError(str(path), "the local key", f"{type(error).__name__}", "put the file back that was there; "
                                  "what it signed counts as forged without it.") from error
        else:
            self._key = ec.generate_private_key(ec.SECP256R1())
        self._public: EllipticCurvePublicKey = self._key.public_key()
        encoded = self._public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        self._version = hashlib.sha256(encoded).hexdigest()[:16]

    async def sign(self, payload: bytes) -> str:
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec, utils

        r, s = utils.decode_dss_signature(self._key.sign(payload, ec.ECDSA(hashes.SHA256())))
        return _text(self._version, r.to_bytes(32, "big") + s.to_bytes(32, "big"))

    async def verify(self, payload: bytes, signature: str) -> bool:
        found = _SIGNATURE.fullmatch(signature)
        return found is not None and found[1] == self._version and _fits(self._public, payload, found[2])


def _kept(path: Path) -> Any:
    """The key in the file. Of two processes that make it at the same time, the faster one's. Errors: OSError, ValueError."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    if not path.exists():
        made = ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".key-") as file:      # mode 0600
            file.write(made)
            file.flush()
            with contextlib.suppress(FileExistsError):
                path.hardlink_to(file.name)
    key = serialization.load_pem_private_key(path.read_bytes(), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ValueError("not a key of P-256")      # noqa: TRY004  of the right type, and of no use
    return key


class VaultKey:
    """A key in Key Vault, or a managed HSM: signing is asked for there, verifying is done here with its public part.

    `id`: https://VAULT/keys/NAME[/VERSION], from the settings; without a version the newest signs. Only this key of this
    vault is ever asked for, whatever a signature names.
    """

    def __init__(self, id: str, credential: Any, transport: Any) -> None:
        from guardrail.stores.account import Account

        at = urlsplit(id)
        self._id, self._vault = id, f"https://{at.netloc}"
        self._name, _, self._version = at.path.removeprefix("/keys/").partition("/")
        scope = f"https://{at.netloc.partition('.')[2]}/.default"       # https://vault.azure.net/.default, by cloud
        self._account = Account(credential, transport, scope=scope, name="key vault")
        self._client: Any = None
        self._signer: Any = None
        self._publics = dict[str, "EllipticCurvePublicKey | None"]()

    async def sign(self, payload: bytes) -> str:
        from azure.keyvault.keys.crypto import SignatureAlgorithm

        digest = hashlib.sha256(payload).digest()
        try:
            if self._signer is None:
                self._signer = await self._newest()
            signer = self._signer
            signed = await self._ask(lambda: signer.sign(SignatureAlgorithm.es256, digest))
        except StoreDown:
            self._signer = None         # it may hold to a version that was disabled: the next try asks for the newest
            raise
        text = _text(signed.key_id.rpartition("/")[2], signed.signature)
        if not await self.verify(payload, text):
            raise self._bad("not a signature of that key")
        return text

    async def verify(self, payload: bytes, signature: str) -> bool:
        found = _SIGNATURE.fullmatch(signature)
        if found is None:
            return False
        if found[1] not in self._publics:
            if len(self._publics) >= VERSIONS:
                self._publics.clear()
            self._publics[found[1]] = await self._public(found[1])
        public = self._publics[found[1]]
        return public is not None and _fits(public, payload, found[2])

    async def _newest(self) -> Any:
        """Who signs with the newest version, or that of the settings. The SDK's client, given a mere name, would go on
        without a version where reading it fails, and then not say which one signed (azure-keyvault-keys 4.11)."""
        from azure.keyvault.keys.crypto.aio import CryptographyClient

        found = await self._ask(lambda: self._keys().get_key(self._name, self._version or None))
        self._publics[found.properties.version] = self._public_of(found.key)
        made: Any = CryptographyClient
        return made(found, **self._account.options(self._vault))

    async def _public(self, version: str) -> EllipticCurvePublicKey | None:
        """None: the key has no such version. One that was disabled is refused by Key Vault, and so StoreDown."""
        from guardrail.stores.account import Refused

        try:
            return self._public_of((await self._account.ask(lambda: self._keys().get_key(self._name, version))).key)
        except Refused:
            return None

    def _public_of(self, key: Any) -> EllipticCurvePublicKey:
        """Errors: ConfigError for a key of another kind."""
        from cryptography.hazmat.primitives.asymmetric import ec

        if key.crv != "P-256":
            raise self._bad(f"a key of {key.kty} {key.crv or ''}")
        return ec.EllipticCurvePublicNumbers(
            int.from_bytes(key.x, "big"), int.from_bytes(key.y, "big"), ec.SECP256R1()).public_key()

    async def _ask(self, call: Callable[[], Any]) -> Any:
        from guardrail.stores.account import Refused

        try:
            return await self._account.ask(call)
        except Refused as error:
            raise self._bad(f"answered {error.status}") from error

    def _bad(self, why: str) -> ConfigError:
        return ConfigError("app settings", "GUARDRAIL_FRONT_KEY or GUARDRAIL_HANDS_KEY", f"{self._id} ({why})",
                           "make it an EC key of curve P-256 that may sign and verify.")

    def _keys(self) -> Any:
        if self._client is None:
            from azure.keyvault.keys.aio import KeyClient

            made: Any = KeyClient
            self._client = made(self._vault, **self._account.options(self._vault))
        return self._client


def _text(version: str, raw: bytes) -> str:
    return f"{version}.{base64.urlsafe_b64encode(raw).decode().rstrip('=')}"


def _fits(public: EllipticCurvePublicKey, payload: bytes, text: str) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, utils

    raw = base64.urlsafe_b64decode(text + "==")
    der = utils.encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
    try:
        public.verify(der, payload, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True
