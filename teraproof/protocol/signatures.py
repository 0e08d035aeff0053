# SPDX-License-Identifier: Apache-2.0
"""One signature, the ways in which others write it, and the one way that the contracts take.

The contracts take 65 bytes r, s, v with a v of 27 or 28 and an s in the lower half. Wallets also
write v as 0 or 1, or leave it out (64 bytes, EIP-2098). A signature that comes in at a door is
brought into the contracts' form before it is used. An s in the upper half stays refused, as in
ethers and OpenZeppelin: every signature has one form, and no wallet makes the other.

A contract wallet's signature (ERC-1271) is whatever its contract takes, so it is never changed.
"""

from __future__ import annotations

import re

from eth_abi.abi import decode
from eth_abi.exceptions import DecodingError

from teraproof.errors import LocalError

_HEX = re.compile(r"(?:0[xX])?((?:[0-9a-fA-F]{2})*)")
_Y_PARITY = 1 << 255
#: ERC-6492: it stands behind what a wallet signs whose contract is not deployed yet.
_COUNTERFACTUAL = bytes.fromhex("6492") * 16


def read(text: str) -> bytes:
    """Bytes from hex digits of either case, with or without 0x. LocalError for anything else."""
    found = _HEX.fullmatch(text)
    if found is None:
        raise LocalError("signature: expected hex digits, two per byte")
    return bytes.fromhex(found[1])


def normalised(signature: bytes) -> bytes:
    """A key's signature as 65 bytes with a v of 27 or 28. LocalError when it is in no known form.

    Whose it is, and whether its s is low, `messages.recover_signer` says.
    """
    if len(signature) == 64:
        high = int.from_bytes(signature[32:], "big")
        odd, s = divmod(high, _Y_PARITY)
        return signature[:32] + s.to_bytes(32, "big") + bytes([27 + odd])
    if len(signature) == 65:
        v = signature[64]
        return signature[:64] + bytes([v + 27]) if v < 2 else signature
    raise LocalError(f"signature: expected 65 or 64 bytes, got {len(signature)}")


def unwrapped(signature: bytes) -> bytes | None:
    """The wallet's own signature inside an ERC-6492 one; None when it is not of that kind.

    LocalError when it says so and cannot be read.
    """
    if not signature.endswith(_COUNTERFACTUAL):
        return None
    try:
        _, _, inner = decode(["address", "bytes", "bytes"], signature[:-32])
    except (DecodingError, ValueError, OverflowError):
        raise LocalError("signature: not readable as ERC-6492") from None
    return bytes(inner)
