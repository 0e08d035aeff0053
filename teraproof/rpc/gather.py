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

#: Words in one request: they and the calls themselves fit into the limits of code.
MOST = 400
WORD = 32
_LONGEST = 100  # bytes of a call: a selector and three words
_OUT = 0x100  # where the answers begin in memory; the byte before them is zero, as code must begin


def program(to: str, calls: Sequence[bytes], width: int = 1) -> bytes:
    """Init code that makes these calls, all equally long, each of which returns `width` words. It
    ends with a zero byte and these words; it reverts if one of the calls does.
    """
    length, size = len(calls[0]), WORD * width
    if width * len(calls) > MOST or length > _LONGEST or any(len(call) != length for call in calls):
        raise LocalError("calls of one length, and not too many", Code.INPUT_INVALID)

    def push(value: int) -> str:
        return f"61{value:04x}"

    def assembled(loop: int, end: int, fail: int, data: int) -> bytes:
        return bytes.fromhex(
            f"{push(len(calls))} 6000"  # how many, and the number of the next one
            "5b"  # loop:
            f"81 81 10 15 {push(end)} 57"  # all are done: end
            f"{push(length)} 81 {push(length)} 02 {push(data)} 01 6000 39"  # its calldata, to 0
            f"{push(size)} 81 {push(size)} 02 {push(_OUT)} 01 {push(length)} 6000 73 {to[2:]} 5a fa"
            f"3d {push(size)} 14 16 15 {push(fail)} 57"  # it failed, or gave more or fewer words
            f"6001 01 {push(loop)} 56"
            f"5b 50 {push(size)} 02 6001 01 {push(_OUT - 1)} f3"  # end: a zero byte and the words
            "5b 6000 6000 fd"  # fail: revert
        )

    # The places in it are all of two bytes, so a first draft shows where they are.
    draft = assembled(0, 0, 0, 0)
    loop = 5
    fail = len(draft) - 6
    end = fail - 13
    return assembled(loop, end, fail, len(draft)) + b"".join(calls)


def words(answer: bytes, number: int, width: int = 1) -> list[bytes]:
    """What each call has given. LocalError where the answer has another length."""
    size = WORD * width
    if len(answer) != 1 + size * number:
        raise LocalError("the node gave another number of words", Code.ANSWER_INVALID)
    return [answer[1 + size * n : 1 + size * (n + 1)] for n in range(number)]
