# SPDX-License-Identifier: Apache-2.0
"""How a played provider of models behaves."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Habit:
    """How a provider behaves; by default as it should."""

    words: int = 12
    """Tokens of an answer, where the request allows them."""
    status: int = 0
    """Answers with this instead."""
    dies_at: int | None = None
    """Breaks the connection behind this token."""
    errors_at: int | None = None
    """Sends an error event, and its receipt, behind this token."""
    refuses_after: float = 0.0
    """Seconds before it says `status` or that it is busy."""
    first_wait: float = 0.0
    """Seconds before the first content."""
    receipt: str = "right"
    """right, none, forged, overcharged, other_answer, other_request, jumped, repeated, endless."""
    says_charged: int = 0
    """Claims that so much more was charged before."""
    takes_deposits: bool = True
    invalid_json: bool = False
    busy: bool = False
    begins_with: bytes = b""
    """Bytes of a stream before its first content."""
    ends_with: bytes = b""
    """Bytes of a stream behind its usage."""
    receipts: int = 1
    """Times that the last receipt of a stream is sent."""
    lingers: bool = False
    """Keeps a stream open behind its end."""
    drips: bool = False
    """Answers `status`, and never ends saying why."""
    floods_vouchers: bool = False
    """Never ends its answer to a voucher."""
    last_word: str = ""
    finish: str = "stop"
    """Why it says that an answer has ended."""
    usage_early: bool = False
    """Says its usage with each event of a stream, 0 at first."""
    usages: int = 1
    """Times that it says its usage at the end."""
    bills_more: float = 0.0
    """The part of the tokens of an answer in one piece that it bills in addition."""
    remembers: bool = False
    """Writes a receipt for a stream that breaks off, and shows its last one."""
