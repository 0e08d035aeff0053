# SPDX-License-Identifier: Apache-2.0
"""Has juries drawn, and has a larger one asked for where the first came to nothing.

Anyone may do both, so each agent with an interest waits for a turn of its own: few pay for gas.
"""

from __future__ import annotations

import logging

from eth_utils.crypto import keccak

from provider_agent.core.attempts import Attempts
from provider_agent.core.module import Cycle
from provider_agent.core.standing import Provider
from provider_agent.modules.disputes.seats import Seats
from teraproof.contracts.disputes import DisputesContract
from teraproof.courts import docket
from teraproof.courts.docket import Dispute
from teraproof.headers import HeaderError
from teraproof.protocol.dispute import Case
from teraproof.rpc.types import BlockRef

log = logging.getLogger(__name__)

# What a turn is about, besides the numbers of rounds.
CONCLUDE, REDRAW = docket.ROUNDS, docket.ROUNDS + 1


class Juries:
    """See the module. `account` is the operator's."""

    def __init__(
        self, disputes: DisputesContract, seats: Seats, attempts: Attempts, account: str
    ) -> None:
        self._disputes, self._seats, self._attempts = disputes, seats, attempts
        self._account = account
        self._times: tuple[int, int] | None = None

    def draw(self, dispute: Dispute, cycle: Cycle, provider: Provider) -> bool:
        """Draw the jury: whoever could sit in it, each at a time of its own; and who appeals.
        Whether that is for us now.
        """
        case, round_ = dispute.case, dispute.current
        appeals = round_.number == 2 and case.provider == provider.owner
        if not self._seats.held.get(case.capability) and not appeals:
            return False
        most = self._read(cycle.block)[0] // 2
        patience = 0 if appeals else turn(case, provider, round_.number, most)
        if cycle.head.number < round_.target or cycle.head.timestamp < round_.since + patience:
            return False
        action = f"draw-{round_.number}"
        if self._attempts.may_begin(case.job.hex(), action):
            try:
                header = self._disputes.rpc.header(round_.target)
            except HeaderError as error:
                log.warning("dispute %s: %s", case.job.hex()[:12], error)
                return True
            data = self._disputes.draw(case, header.data)
            self._attempts.begin(case.job.hex(), action, data, deadline=dispute.until)
        return True

    def redraw(self, dispute: Dispute, cycle: Cycle, provider: Provider) -> bool:
        """Ask for a larger jury: at once where we are the requester; else in the half that is
        anyone's, if it may pay us. Whether that is for us now.
        """
        case, now = dispute.case, cycle.head.timestamp
        redraw_time = self._read(cycle.block)[1]
        if not dispute.can_redraw(self._account, now, redraw_time):
            return False
        if case.requester != self._account:
            if not self._gains(dispute, provider):
                return False
            half = redraw_time // 2
            if now < dispute.until - half + turn(case, provider, REDRAW, half // 2):
                return False
        data = self._disputes.redraw(case)
        self._attempts.begin(case.job.hex(), "redraw", data, deadline=dispute.until)
        return True

    def _gains(self, dispute: Dispute, provider: Provider) -> bool:
        """Whether a second jury may pay this provider: it can be drawn, or it has voted already,
        which is paid in full if a jury rules.
        """
        case = dispute.case
        if provider.owner in (case.provider, case.requester):
            return False
        if not self._seats.held.get(case.capability):
            return False
        place = dispute.current.of(provider.owner)
        return place is None or place.vote is not None

    def _read(self, block: BlockRef) -> tuple[int, int]:
        """The seconds in which a jury is to be drawn, and in which another can be asked for."""
        if self._times is None:
            court = self._disputes
            self._times = court.draw_time(block), court.redraw_time(block)
        return self._times


def turn(case: Case, provider: Provider, number: int, most: int) -> int:
    """Seconds that this provider leaves to others: of all who may do it, few pay for it."""
    drawn = keccak(case.job + bytes([number]) + bytes.fromhex(provider.owner[2:]))
    return int.from_bytes(drawn[:8], "big") % (most + 1)
