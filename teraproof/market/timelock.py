# SPDX-License-Identifier: Apache-2.0
"""One call through the timelock: proposed first, carried out by a second transaction later.

What is proposed follows from the call alone, so the same command does both, and after any stop.
"""

from __future__ import annotations

from teraproof.amounts import show_seconds, show_time
from teraproof.errors import CommandError
from teraproof.market.contracts import Contract
from teraproof.market.market import Market, transact
from teraproof.market.reading import Abi
from teraproof.market.sending import Sender
from teraproof.market.ui import Ui
from teraproof.protocol.terms import ZERO_WORD
from teraproof.rpc.types import Receipt

_DONE = 1  # in place of the time at which a proposal is ready
_CALL = ("address", "uint256", "bytes", "bytes32", "bytes32")


def _function(name: str, inputs: tuple[str, ...], output: str | None = None) -> dict[str, object]:
    return {
        "type": "function",
        "name": name,
        "inputs": [{"type": kind} for kind in inputs],
        "outputs": [] if output is None else [{"type": output}],
    }


_TIMELOCK = Abi(
    [
        _function("PROPOSER_ROLE", (), "bytes32"),
        _function("hasRole", ("bytes32", "address"), "bool"),
        _function("get_minimum_delay", (), "uint256"),
        _function("get_timestamp", ("bytes32",), "uint256"),
        _function("hash_operation", _CALL, "bytes32"),
        _function("schedule", (*_CALL, "uint256")),
        _function("execute", _CALL),
    ]
)


def carry_on(
    market: Market, sender: Sender, ui: Ui, what: str, target: Contract, data: bytes, salt: bytes
) -> Receipt:
    """Propose a call of the timelock, or carry it out when its time has come.

    `salt` tells a call from the same one made before. CommandError when the account may not
    propose, or the proposal still waits.
    """
    pool = market.chain.pool
    timelock = Contract(pool, market.registry.address("Timelock"), _TIMELOCK)
    call = (target.address, 0, data, ZERO_WORD, salt)
    ready_at = int(timelock.read("get_timestamp", timelock.read("hash_operation", *call)))
    now = market.now()
    if ready_at == 0:
        role = timelock.read("PROPOSER_ROLE")
        if not timelock.read("hasRole", role, sender.address):
            raise CommandError(
                f"{sender.address} may not propose to the timelock {timelock.address}"
            )
        delay = int(timelock.read("get_minimum_delay"))
        ui.ask(f"Propose to {what}? It can be carried out after {show_seconds(delay)}")
        receipt = transact(sender, ui, "propose", timelock, "schedule", *call, delay)
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
    return transact(sender, ui, "carry out", timelock, "execute", *call)
