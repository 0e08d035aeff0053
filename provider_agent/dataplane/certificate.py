# SPDX-License-Identifier: Apache-2.0
"""A certificate of the agent's own, and certificates that are never on a disk.

The agent's certificate says nothing that anybody trusts: the operator's signature over its digest
does (`PlaneCertificate`). So it is a bare self-signed X.509, made by the libraries that are here.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from Crypto.Hash import SHA256
from Crypto.PublicKey import ECC
from Crypto.Signature import DSS
from Crypto.Util.asn1 import (
    DerBitString,
    DerInteger,
    DerObject,
    DerObjectId,
    DerOctetString,
)

from teraproof.errors import Refused
from teraproof.protocol.errors import Code

_ECDSA_SHA256 = "1.2.840.10045.4.3.2"
_COMMON_NAME = "2.5.4.3"
_BASIC_CONSTRAINTS = "2.5.29.19"
_BOOLEAN, _UTF8, _SEQUENCE, _SET, _TIME = 0x01, 0x0C, 0x10, 0x11, 0x17


@dataclass(frozen=True)
class Pair:
    """A certificate (DER) with its key, both also as PEM."""

    der: bytes
    certificate: str
    key: str

    def __repr__(self) -> str:
        return f"Pair({self.digest.hex()})"

    @property
    def digest(self) -> bytes:
        """The 32 bytes that name the certificate."""
        return hashlib.sha256(self.der).digest()


def make(begins: int, ends: int) -> Pair:
    """A new key and its certificate, good from `begins` to `ends` (unix seconds)."""
    key = ECC.generate(curve="P-256")
    algorithm = _sequence(DerObjectId(_ECDSA_SHA256))
    said = _sequence(DerObjectId(_COMMON_NAME), _plain(_UTF8, b"Teraproof data plane"))
    name = _sequence(_joined(_SET, [said]))
    no_authority = _sequence(
        DerObjectId(_BASIC_CONSTRAINTS),
        _plain(_BOOLEAN, b"\xff"),
        DerOctetString(_sequence().encode()),
    )
    body = _sequence(
        DerInteger(2, explicit=0),  # version 3
        DerInteger(secrets.randbits(120) | 1 << 120),
        algorithm,
        name,
        _sequence(_plain(_TIME, _time(begins)), _plain(_TIME, _time(ends))),
        name,
        key.public_key().export_key(format="DER"),
        _sequence(no_authority, explicit=3),
    ).encode()
    signature = DSS.new(key, "deterministic-rfc6979", encoding="der").sign(SHA256.new(body))
    der = _sequence(body, algorithm, DerBitString(signature)).encode()
    return Pair(der, ssl.DER_cert_to_PEM_cert(der), key.export_key(format="PEM"))


def context(certificate: str, key: str, oldest: ssl.TLSVersion) -> ssl.SSLContext:
    """A server's context with this certificate and key (PEM), which lie in memory alone. Refused
    (certificate_unfit) where they cannot be used.
    """
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = oldest
    made.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    # Python reads a key from a file alone: this one has no name and no disk.
    handle = os.memfd_create("certificate", os.MFD_CLOEXEC)
    try:
        os.write(handle, f"{certificate.strip()}\n{key.strip()}\n".encode())
        # Without a word for it, OpenSSL would ask at the agent's terminal.
        made.load_cert_chain(f"/proc/self/fd/{handle}", password=_no_password)
    except (ssl.SSLError, OSError, ValueError):
        raise Refused(
            Code.CERTIFICATE_UNFIT,
            "the certificate and its key cannot be used: give both as PEM, the key without a "
            "password and fitting the first certificate",
        ) from None
    finally:
        os.close(handle)
    return made


def _no_password() -> str:
    raise ValueError("the key has a password")


def _sequence(*parts: DerObject | bytes, explicit: int | None = None) -> DerObject:
    return _joined(_SEQUENCE, parts, explicit)


def _joined(tag: int, parts: Sequence[DerObject | bytes], explicit: int | None = None) -> DerObject:
    encoded = [part if isinstance(part, bytes) else part.encode() for part in parts]
    return DerObject(tag, b"".join(encoded), constructed=True, explicit=explicit)


def _plain(tag: int, value: bytes) -> DerObject:
    return DerObject(tag, value)


def _time(seconds: int) -> bytes:
    return datetime.fromtimestamp(seconds, UTC).strftime("%y%m%d%H%M%SZ").encode()
