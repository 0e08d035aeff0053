# SPDX-License-Identifier: Apache-2.0
"""Who may talk to a machine of the fleet: one key a side, each pinned by the other.

Certificates are signed by themselves. What makes one good is that the other side was given it, so
its names and dates mean nothing.
"""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from provider_agent import durable


@dataclass(frozen=True)
class Identity:
    """One side's key and certificate, in two files."""

    key: Path
    certificate: Path

    @property
    def pem(self) -> str:
        """The certificate, for the other side."""
        return self.certificate.read_text()

    def serves(self, peer: str) -> ssl.SSLContext:
        """For a server that only the holder of the certificate `peer` can talk to."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.num_tickets = 0
        return self._pinned(context, peer)

    def calls(self, peer: str) -> ssl.SSLContext:
        """For a client of the one server with the certificate `peer`."""
        return self._pinned(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), peer)

    def _pinned(self, context: ssl.SSLContext, peer: str) -> ssl.SSLContext:
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname = False  # the certificate itself is known
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_cert_chain(self.certificate, self.key)
        context.load_verify_locations(cadata=peer)
        return context


def identity(place: Path, name: str) -> Identity:
    """The key and the certificate of that name in a directory; made where they are not there."""
    found = Identity(place / f"{name}.key.pem", place / f"{name}.pem")
    if not found.certificate.exists():
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
        _make(found, name)
    return found


def _make(made: Identity, name: str) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    # With a number of its own, so that two of one name are two.
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, name),
            x509.NameAttribute(NameOID.SERIAL_NUMBER, os.urandom(8).hex()),
        ]
    )
    signed = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2120, 1, 1, tzinfo=UTC))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    made.key.unlink(missing_ok=True)
    with os.fdopen(os.open(made.key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
    durable.sync(made.key)
    new = made.certificate.with_suffix(".new")
    new.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    durable.sync(new)
    new.replace(made.certificate)
    durable.sync_directory(made.certificate.parent)
