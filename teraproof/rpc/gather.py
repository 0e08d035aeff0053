# SPDX-License-Identifier: Apache-2.0
"""Many reads of one contract in one request, without a contract for it on the chain.

The request is an `eth_call` that creates a contract: its code reads everything and returns that as
if it were the new contract's code. Nothing is sent, and every node can run it. A word read so takes
about 10,000 gas of the node's limit for a call, most of it for the code that is never kept.
"""

from __future__ import annotations

from collections.abc import Sequence

from teraproof.errors import LocalError
from teraproof.protocol.errors import Code

#: Reads in one request: what they return and the calls themselves fit into the limits of code.
MOST = 400
WORD = 32
_LONGEST = 100  # bytes of a call: a selector and three words
_OUT = 0x100  # where the answers begin in memory; the byte before them is zero, as code must begin


def program(to: str, calls: Sequence[bytes]) -> bytes:
    """Init code that makes these calls, all equally long, each of which returns one word. It ends
    with a zero byte and these words; it reverts if one of the calls does.
    """
    length = len(calls[0])
    if len(calls) > MOST or length > _LONGEST or any(len(call) != length for call in calls):
        raise LocalError("calls of one length, and not too many", Code.INPUT_INVALID)

    def push(value: int) -> str:
        return f"61{value:04x}"

    def assembled(loop: int, end: int, fail: int, data: int) -> bytes:
        return bytes.fromhex(
            f"{push(len(calls))} 6000"  # how many, and the number of the next one
            "5b"  # loop:
            f"81 81 10 15 {push(end)} 57"  # all are done: end
            f"{push(length)} 81 {push(length)} 02 {push(data)} 01 6000 39"  # its calldata, to 0
            f"6020 81 6005 1b {push(_OUT)} 01 {push(length)} 6000 73 {to[2:]} 5a fa"
            f"3d 6020 14 16 15 {push(fail)} 57"  # it failed, or gave something else than a word
            f"6001 01 {push(loop)} 56"
            f"5b 50 6005 1b 6001 01 {push(_OUT - 1)} f3"  # end: return a zero byte and the words
            "5b 6000 6000 fd"  # fail: revert
        )

    # The places in it are all of two bytes, so a first draft shows where they are.
    draft = assembled(0, 0, 0, 0)
    loop = 5
    fail = len(draft) - 6
    end = fail - 12
    return assembled(loop, end, fail, len(draft)) + b"".join(calls)


def words(answer: bytes, number: int) -> list[bytes]:
    """The words of an answer. LocalError where it has another length."""
    if len(answer) != 1 + WORD * number:
        raise LocalError("the node gave another number of words", Code.ANSWER_INVALID)
    return [answer[1 + WORD * n : 1 + WORD * (n + 1)] for n in range(number)]
