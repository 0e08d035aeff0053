# SPDX-License-Identifier: Apache-2.0
"""A contract that counts how often a call has landed, assembled by hand: no compiler is needed.

Calldata is two words, (slot, mode). It adds one to the storage slot and logs the slot as its only
topic. Mode 1 always reverts, mode 2 reverts when the slot is not zero, both with
`test: refused`.
"""

from __future__ import annotations

from tests.support.anvil import Anvil

COUNT, REFUSE, ONCE = 0, 1, 2
REASON = "test: refused"

_REFUSED = 0x23  # where the reverting branch begins
_RUNTIME = bytes.fromhex(
    "5f35 54"  # slot's value
    "6020 35"  # mode
    "80 6001 14 6023 57"  # mode 1: refuse
    "6002 14 81 15 15 16 6023 57"  # mode 2 and not zero: refuse
    "6001 01 5f35 55"  # add one
    "5f35 5f 5f a1"  # log the slot
    "00"
    "5b"
    "63 08c379a0 60e0 1b 5f 52"  # Error(string)
    "6020 6004 52"
    "600d 6024 52"
    "6c" + REASON.encode().hex() + "6098 1b 6044 52"
    "6064 5f fd"
)
# Copies the runtime behind itself into memory and returns it.
_INIT = bytes.fromhex(f"60{len(_RUNTIME):02x} 80 6009 5f 39 5f f3")


def deploy(anvil: Anvil) -> str:
    """Put the contract on the chain; its address."""
    assert _RUNTIME[_REFUSED] == 0x5B, hex(_RUNTIME.index(0x5B))
    sender = anvil.accounts[9].address
    receipt = anvil.wait(anvil.send(sender, data=_INIT + _RUNTIME))
    assert int(receipt["status"], 16) == 1
    return str(receipt["contractAddress"])


def calldata(slot: int, mode: int = COUNT) -> bytes:
    """A call that counts in a slot."""
    return slot.to_bytes(32, "big") + mode.to_bytes(32, "big")


def count(anvil: Anvil, contract: str, slot: int) -> int:
    """How often a slot was counted."""
    return int(anvil.rpc("eth_getStorageAt", contract, hex(slot), "latest"), 16)
