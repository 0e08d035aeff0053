# SPDX-License-Identifier: Apache-2.0
"""EIP-712 domains of contracts that are not ours to name: tokens, and code to be verified."""

from __future__ import annotations

from eth_abi.abi import encode
from eth_utils.crypto import keccak

DOMAIN_FIELDS = (
    ("name", "string"),
    ("version", "string"),
    ("chainId", "uint256"),
    ("verifyingContract", "address"),
)


def domain_separator(name: str, version: str, chain_id: int, contract: str) -> bytes:
    """The 32 bytes that stand for a domain."""
    kinds = ",".join(f"{kind} {field}" for field, kind in DOMAIN_FIELDS)
    return bytes(
        keccak(
            encode(
                ["bytes32", "bytes32", "bytes32", "uint256", "address"],
                [
                    keccak(text=f"EIP712Domain({kinds})"),
                    keccak(text=name),
                    keccak(text=version),
                    chain_id,
                    contract,
                ],
            )
        )
    )
