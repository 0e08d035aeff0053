# SPDX-License-Identifier: Apache-2.0
"""Whether a receipt is what a host owes us: signed, about this answer, and within its terms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from teraproof.errors import LocalError
from teraproof.gateway.hosts import Host
from teraproof.gateway.ledger import Channel
from teraproof.protocol.errors import Code
from teraproof.protocol.inference import Model, SignedReceipt, receipt_domain

_MOST_NUMBER = 2**63 - 1  # as the store keeps it


class Dishonest(LocalError):
    """A host signed or claimed what its own terms rule out. It is not used any more."""

    default: ClassVar[Code] = Code.RECEIPT_INVALID


@dataclass(frozen=True)
class Asked:
    """What a receipt must be about: `request` is the sha256 of its body. `prompt` and `tokens` are
    the most that its prompt and its answers may have.
    """

    host: Host
    model: Model
    request: bytes
    prompt: int
    tokens: int


def check(
    receipt: SignedReceipt, asked: Asked, channel: Channel, response: bytes, charged: int = 0
) -> None:
    """Dishonest unless the receipt holds. `response` is the digest of what came before it,
    `charged` is what an earlier receipt of the same answer says, which a later one need not take
    back.

    What is charged must be the price of the tokens that it names, or less. These are bounded by the
    bytes of the request and by the length that was asked for. `cumulative` must follow on what
    earlier receipts show; only a request whose receipt never came may stand between.
    """
    said, host, model = receipt.receipt, asked.host, asked.model
    try:
        receipt.check(receipt_domain(channel.chain_id, host.offer.channels), host.operator)
    except LocalError as error:
        raise Dishonest(str(error)) from None
    for name, found, wanted in (
        ("channel", said.channel, channel.id),
        ("request", said.request, asked.request),
        ("response", said.response, response),
        ("model", said.model, model.word),
    ):
        if found != wanted:
            raise Dishonest(f"receipt: its {name} is not that of this answer")
    if said.number <= channel.number:
        raise Dishonest(f"receipt: its number {said.number} was used before")
    if said.number > _MOST_NUMBER:
        raise Dishonest(f"receipt: nobody has sent {said.number} requests")
    if said.prompt_tokens > asked.prompt:
        raise Dishonest(f"receipt: the prompt has not so much as {said.prompt_tokens} tokens")
    if said.completion_tokens > asked.tokens:
        raise Dishonest(
            f"receipt: {said.completion_tokens} tokens were not asked for; {asked.tokens} were"
        )
    price = model.prices.cost(said.prompt_tokens, said.completion_tokens)
    if said.charged > max(price, charged):
        raise Dishonest(f"receipt: {said.charged} units are charged, and the price is {price}")
    check_base(said.cumulative - said.charged, channel)
    if said.cumulative > channel.signed:
        raise Dishonest(f"receipt: {said.cumulative} units are above the voucher")


def check_late(receipt: SignedReceipt, host: Host, channel: Channel) -> None:
    """Dishonest unless a host's last receipt of a channel can be that of the request whose receipt
    never came. What was asked is not known any more, so its voucher bounds what it costs.
    """
    said = receipt.receipt
    try:
        receipt.check(receipt_domain(channel.chain_id, host.offer.channels), host.operator)
    except LocalError as error:
        raise Dishonest(str(error)) from None
    if said.channel != channel.id or not channel.number < said.number <= _MOST_NUMBER:
        raise Dishonest("receipt: it is not of the request that was asked about")
    check_base(said.cumulative, channel)


def check_base(base: int, channel: Channel) -> None:
    """Dishonest unless a channel can stand at `base` before a request."""
    most = channel.charged + channel.unclear
    if not channel.charged <= base <= most:
        raise Dishonest(
            f"it says that {base} units were charged before; receipts show {channel.charged}"
            + (f", and at most {most} can be" if channel.unclear else "")
        )
