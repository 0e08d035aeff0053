# SPDX-License-Identifier: Apache-2.0
"""Signatures over 32 bytes: 65 bytes r, s, v with a v of 27 or 28.

Every paid request needs four of them. With coincurve they are made and read in C without the
layers of eth-account, which take several times as long; without it eth-account does all.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_keys.exceptions import BadSignature
from eth_typing import Hash32
from eth_utils.crypto import keccak
from eth_utils.exceptions import ValidationError

from teraproof.protocol.terms import checksummed

try:
    import coincurve

    curve: Any = coincurve
except ImportError:
    curve = None


def sign(account: LocalAccount, digest: bytes) -> bytes:
    """The account's signature. The same bytes each time (RFC 6979)."""
    if curve is None:
        return bytes(account.unsafe_sign_hash(Hash32(digest)).signature)
    signed: bytes = _key(bytes(account.key)).sign_recoverable(digest, hasher=None)
    return signed[:64] + bytes([27 + signed[64]])


@lru_cache(maxsize=8)  # a process signs with one or two
def _key(secret: bytes) -> Any:
    return curve.PrivateKey(secret)


def signer(digest: bytes, signature: bytes) -> str | None:
    """The address whose key has signed; None where no key can have."""
    if curve is None:
        # The name starts with an underscore, but it is the library's documented way to this.
        recover: Callable[..., Any] = Account._recover_hash
        try:
            return str(recover(digest, signature=signature))
        except (BadSignature, ValidationError):
            return None
    plain = signature[:64] + bytes([signature[64] - 27])
    try:
        key = curve.PublicKey.from_signature_and_message(plain, digest, hasher=None)
    except Exception:  # noqa: BLE001 - it raises no class of its own
        return None
    return checksummed(f"0x{keccak(key.format(compressed=False)[1:])[-20:].hex()}")
