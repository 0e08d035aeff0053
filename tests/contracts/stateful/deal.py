# SPDX-License-Identifier: Apache-2.0
"""A deal as the machine knows it, and the edges along which it moves (I-10)."""

from __future__ import annotations

from dataclasses import dataclass

from eth_abi.abi import encode
from eth_utils.crypto import keccak

from teraproof.protocol.dispute import Statement
from teraproof.protocol.terms import ZERO_ADDRESS, Order, Record, Status, Terms
from tests.contracts.deploy import DAY

TRUSTED, REFUSABLE = 0, 1
SPEC = bytes(keccak(text="specification"))
MAX_AUCTION = 30 * DAY
MAX_PAUSE = 7 * DAY
MAX_FEE = 1_000
EDGES = {
    (Status.NONE, Status.OPEN),
    (Status.NONE, Status.ASSIGNED),  # hired
    (Status.OPEN, Status.ASSIGNED),
    (Status.OPEN, Status.CANCELLED),
    (Status.ASSIGNED, Status.ATTESTED),
    (Status.ASSIGNED, Status.EXPIRED),
    (Status.ATTESTED, Status.SETTLED),
    (Status.ATTESTED, Status.REFUSED),
    (Status.ATTESTED, Status.DISPUTED),
    (Status.DISPUTED, Status.SETTLED),
    (Status.DISPUTED, Status.REFUNDED),
    (Status.ASSIGNED, Status.REFUNDED),  # convicted
    (Status.ATTESTED, Status.REFUNDED),
}


@dataclass
class Job:
    """One deal with everything it was made on; later parameters do not reach it (I-11)."""

    terms: Terms
    allowed: tuple[str, ...] = ()
    status: Status = Status.NONE
    provider: str = ZERO_ADDRESS
    assigned_at: int = 0
    paused: int = 0
    price: int = 0
    record: Record | None = None
    statement: Statement | None = None
    """What was attested."""

    def __post_init__(self) -> None:
        self.id = self.terms.job_id()

    @property
    def order(self) -> Order:
        return self.terms.order

    @property
    def deadline(self) -> int:
        return self.assigned_at + self.order.duration

    @property
    def window_end(self) -> int:
        assert self.record is not None
        return self.record.attested_at + self.terms.challenge_window


def leaf(provider: str) -> bytes:
    """The leaf of an allow-list: H(H(address word))."""
    return keccak(keccak(encode(["address"], [provider])))
