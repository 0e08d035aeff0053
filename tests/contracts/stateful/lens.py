# SPDX-License-Identifier: Apache-2.0
"""Many views in one call, so that everything can be looked at after every step.

The contract behind it is a loop by hand: calldata is records of 160 bytes, an address as a word and
128 bytes of call data, and the answer is the first six words of each record's answer.

    PUSH0 | loop: CALLDATASIZE DUP2 EQ PUSH end JUMPI
    PUSH 128 DUP2 PUSH 32 ADD PUSH0 CALLDATACOPY                  the call's data to memory 0
    PUSH 192 | PUSH 160 DUP3 DIV PUSH 192 MUL PUSH 128 ADD        where its answer goes
    PUSH 100 PUSH0 DUP5 CALLDATALOAD GAS STATICCALL ISZERO PUSH fail JUMPI
    PUSH 160 ADD PUSH loop JUMP
    end: PUSH 160 SWAP1 DIV PUSH 192 MUL PUSH 128 RETURN | fail: PUSH0 PUSH0 REVERT
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.contracts.revm import STATIC_SENDER, Revm

RUNTIME = bytes.fromhex(
    "5f5b368114602d576080816020015f3760c060a0820460c00260800160645f84355afa1560385760a001600156"
    "5b60a0900460c0026080f35b5f5ffd"
)
# Copies what follows it: PUSH1 size DUP1 PUSH1 9 PUSH0 CODECOPY PUSH0 RETURN
INITCODE = bytes.fromhex(f"60{len(RUNTIME):02x}8060095f395ff3") + RUNTIME
RECORD, ANSWER = 160, 192
LENS_DEPLOYER = "0x" + "1e" * 20


class Lens:
    """A batch of views under names; what they say is read as (name -> words)."""

    def __init__(self, chain: Revm) -> None:
        self.chain = chain
        self.address = chain.evm.deploy(LENS_DEPLOYER, INITCODE)
        self._records: dict[tuple[Any, ...], bytes] = {}

    def record(self, contract: str, view: str, *args: Any) -> bytes:
        """One call as the lens takes it; made once."""
        key = (contract, view, *args)
        if key not in self._records:
            address, data = self.chain.call_data(contract, view, *args)
            assert len(data) <= 100, "a call with more than three words of arguments"
            self._records[key] = bytes(12) + bytes.fromhex(address[2:]) + data.ljust(128, b"\0")
        return self._records[key]

    def look(self, data: bytes) -> bytes:
        """The answers to joined records, ANSWER bytes each."""
        chain = self.chain
        answer: bytes = chain.evm.message_call(STATIC_SENDER, self.address, data, is_static=True)
        chain.evm.reset_transient_storage()
        return answer


def first_words(answer: bytes) -> list[int]:
    """The first word of every answer."""
    cut = int.from_bytes
    return [cut(answer[at : at + 32], "big") for at in range(0, len(answer), ANSWER)]


def words(answer: bytes, number: int, count: int) -> Sequence[int]:
    """The words of one answer."""
    at = number * ANSWER
    return [int.from_bytes(answer[at + 32 * n : at + 32 * n + 32], "big") for n in range(count)]
