"""A certificate authority and a server certificate for loopback, made once and kept while they are valid.

az and every azure-mgmt client refuse to send a bearer token over plain http, so the simulator also listens with TLS.
"""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

NAMES = ("localhost",)
ADDRESSES = ("127.0.0.1", "::1")
_DAYS = 90


class Certificates(NamedTuple):
    """Paths of PEM files: the authority a client has to trust, and what the server shows."""

    ca: Path
    certificate: Path
    key: Path


def certificates(folder: Path | str) -> Certificates:
    """The files in `folder`, made anew when one is missing or ends within a day. The authority's key is not kept."""
    folder = Path(folder)
    files = Certificates(folder / "ca.pem", folder / "localhost.pem", folder / "localhost.key")
    if not _valid(files):
        folder.mkdir(parents=True, exist_ok=True)
        _make(files)
    return files


def _valid(files: Certificates) -> bool:
    from cryptography import x509

    if not all(file.exists() for file in files):
        return False
    soon = datetime.now(UTC) + timedelta(days=1)
    try:
        ends = [x509.load_pem_x509_certificate(file.read_bytes()).not_valid_after_utc for file in files[:2]]
    except ValueError:
        return False
    return min(ends) > soon


def _make(files: Certificates) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    now = datetime.now(UTC)
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Local Azure simulator CA")])

    def begin(subject: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=_DAYS))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        )

    def usage(*, ca: bool) -> x509.KeyUsage:
        return x509.KeyUsage(
            digital_signature=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=ca,
            crl_sign=ca,
            encipher_only=False,
            decipher_only=False,
        )

    authority = (
        begin(issuer, ca_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage(ca=True), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    names: list[x509.GeneralName] = [x509.DNSName(name) for name in NAMES]
    names += [x509.IPAddress(ipaddress.ip_address(address)) for address in ADDRESSES]
    server = (
        begin(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")]), key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage(ca=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    for file, content in (
        (files.key, secret),
        (files.certificate, server.public_bytes(pem)),
        (files.ca, authority.public_bytes(pem)),
    ):
        file.unlink(missing_ok=True)
        file.touch(mode=0o600)
        file.write_bytes(content)
