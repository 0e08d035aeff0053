# SPDX-License-Identifier: Apache-2.0
"""One RPC endpoint, as it has behaved so far."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Endpoint:
    """What is known about one RPC endpoint."""

    label: str
    url: str = field(repr=False)
    failures: int = 0
    not_before: float = 0.0  # monotonic time before which it is left alone
    wrong_chain: bool = False
    checked_at: float | None = None
    head: int | None = None
    head_time: int = 0  # unix seconds, as the endpoint has it
    trouble: str = ""
