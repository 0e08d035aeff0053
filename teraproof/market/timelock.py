# SPDX-License-Identifier: Apache-2.0
"""One call through the timelock: proposed first, carried out by a second transaction later.

What is proposed follows from the call alone, so the same command does both, and after any stop.
"""

from __future__ import annotations

from teraproof.amounts import show_seconds, show_time
from teraproof.contracts.base import Contract
from teraproof.contracts.timelock import TimelockContract
from teraproof.errors import CommandError
from teraproof.market.market import Market, transact
from teraproof.market.sending import Sender
from teraproof.market.ui import Ui
from teraproof.protocol.terms import ZERO_WORD
from teraproof.rpc.types import Receipt

_DONE = 1  # in place of the time at which a proposal is ready


def carry_on(
    market: Market, sender: Sender, ui: Ui, what: str, target: Contract, data: bytes, salt: bytes
) -> Receipt:
    """Propose a call of the timelock, or carry it out when its time has come.

    `salt` tells a call from the same one made before. CommandError when the account may not
    propose, or the proposal still waits.
    """
    timelock = TimelockContract(market.chain.pool, market.registry.address("Timelock"))
    call = (target.address, 0, data, ZERO_WORD, salt)
    ready_at = timelock.get_timestamp(timelock.hash_operation(*call, "latest"), "latest")
    now = market.now()
    if ready_at == 0:
        role = timelock.proposer_role("latest")
        if not timelock.has_role(role, sender.address, "latest"):
            raise CommandError(
                f"{sender.address} may not propose to the timelock {timelock.address}"
            )
        delay = timelock.get_minimum_delay("latest")
        ui.ask(f"Propose to {what}? It can be carried out after {show_seconds(delay)}")
        receipt = transact(sender, ui, "propose", timelock, timelock.schedule(*call, delay))
        ui.note("run the same command again then, to carry it out")
        return receipt
    if ready_at == _DONE:
        raise CommandError(f"to {what}: done already")
    if ready_at > now:
        raise CommandError(
            f"to {what}: proposed, and can be carried out {show_time(ready_at, now)}; "
            "run the same command again then"
        )
    ui.ask(f"Now {what}?")
    return transact(sender, ui, "carry out", timelock, timelock.execute(*call))
