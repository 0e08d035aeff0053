# SPDX-License-Identifier: Apache-2.0
"""Claims with vouchers from a file, by the account that is paid or by the operator that was.

An agent claims by itself. This is for what it cannot claim: channels of an operator that was
replaced, and those of a database that is gone and of which a file of vouchers is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from teraproof.contracts.channels import CHANNELS, ChannelsContract
from teraproof.errors import CommandError
from teraproof.market.market import Market, transact
from teraproof.market.sending import Sender
from teraproof.market.ui import Ui
from teraproof.protocol.channels import VoucherClaim
from teraproof.protocol.errors import Code
from teraproof.protocol.vouchers import KeptVoucher
from teraproof.rpc.errors import Reverted

_ROWS = 100  # of one transaction


@dataclass(frozen=True)
class Outcome:
    """Units that were claimed, of how many channels, and the channels that could not be."""

    units: int
    channels: int
    left: tuple[str, ...]


def channels_of(market: Market) -> ChannelsContract:
    """The market's payment channels. CommandError when it has none."""
    if market.channels is None:
        raise CommandError(
            f"the deployment on chain {market.chain.chain_id} has no payment channels; "
            "choose the chain of the gateway or of the agent",
            Code.INPUT_INVALID,
        )
    return market.channels


@dataclass(frozen=True)
class _Row:
    name: str
    claim: VoucherClaim
    brings: int


def claim(market: Market, sender: Sender, ui: Ui, kept: Sequence[KeptVoucher]) -> Outcome:
    """Claim all that the vouchers bring, and have it paid out. Each row is tried first: a bad one
    would fail all others.
    """
    contract, me = channels_of(market), sender.address
    ours = [one for one in kept if me in (one.config.receiver, one.config.receiver_authorizer)]
    left = [_name(one) for one in kept if one not in ours]
    done: list[_Row] = []
    for first in range(0, len(ours), _ROWS):
        rows = _owing(contract, ours[first : first + _ROWS])
        sound = rows if _goes_well(contract, me, rows) else [
            row for row in rows if _goes_well(contract, me, [row])
        ]  # fmt: skip
        left += [row.name for row in rows if row not in sound]
        if sound:
            data = contract.claim([row.claim for row in sound])
            transact(sender, ui, f"claim of {len(sound)} channels", contract, data)
            done += sound
    for receiver, token in {(one.config.receiver, one.config.token): None for one in ours}:
        claimed, settled = contract.receivers(receiver, token, "latest")
        if claimed > settled:
            transact(sender, ui, "payout", contract, contract.settle(receiver, token))
    return Outcome(sum(row.brings for row in done), len(done), tuple(left))


def _owing(contract: ChannelsContract, kept: Sequence[KeptVoucher]) -> list[_Row]:
    """The rows of those that bring something now."""
    states = contract.read_many(CHANNELS, "latest", [(one.voucher.channel,) for one in kept])
    found = []
    for one, (balance, claimed) in zip(kept, states, strict=True):
        total = min(one.charged, int(balance))
        if total > claimed:
            row = VoucherClaim(one.config, one.voucher.amount, one.voucher.signature, total)
            found.append(_Row(_name(one), row, total - int(claimed)))
    return found


def _goes_well(contract: ChannelsContract, sender: str, rows: Sequence[_Row]) -> bool:
    data = contract.claim([row.claim for row in rows])
    try:
        contract.rpc.eth_call(contract.address, data, "latest", sender)
    except Reverted:
        return False
    return True


def _name(one: KeptVoucher) -> str:
    return f"0x{one.voucher.channel.hex()}"
