# SPDX-License-Identifier: Apache-2.0
"""One signature, written in the ways in which wallets and libraries write it."""

from __future__ import annotations

N = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


def encodings(signature: bytes) -> list[str]:
    """All forms of 65 bytes r, s, v (27 or 28) that a door takes, as text."""
    parity = signature[64] - 27
    compact = bytearray(signature[:64])
    compact[32] |= parity << 7
    found = []
    for form in (signature, signature[:64] + bytes([parity]), bytes(compact)):
        digits = form.hex()
        found += ["0x" + digits, digits, "0x" + digits.upper(), "0X" + digits, digits.upper()]
    return found


def others(signature: bytes) -> list[str]:
    """Forms that are refused: the twin with a high s, a v of transactions, spaces, odd digits."""
    high = (N - int.from_bytes(signature[32:64], "big")).to_bytes(32, "big")
    digits = signature.hex()
    return [
        (signature[:32] + high + bytes([55 - signature[64]])).hex(),
        (signature[:64] + bytes([signature[64] + 10])).hex(),
        (signature[:64] + bytes([2])).hex(),
        signature[:63].hex(),
        (signature + b"\0").hex(),
        digits[:-1],
        " ".join(digits[n : n + 2] for n in range(0, 130, 2)),
        "0x0x" + digits,
        "0x",
        "",
    ]
