# SPDX-License-Identifier: Apache-2.0
"""A file of vouchers: the newest of each channel of a provider, with the receipt that says how much
of it was served.

Who claims needs no more than this file: the channel's receiver, or its receiver authorizer. Nothing
in it is a secret, and nothing in it is believed without its signatures.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

from teraproof import nesting
from teraproof.errors import LocalError
from teraproof.protocol import messages
from teraproof.protocol.channels import ChannelConfig, Voucher, channel_id, channels_domain
from teraproof.protocol.errors import Code
from teraproof.protocol.inference import SignedReceipt, receipt_domain
from teraproof.protocol.json_fields import object_of
from teraproof.protocol.payments import config_from_json, config_to_json
from teraproof.protocol.x402 import SignedVoucher

_KIND, _VERSION = "teraproof-vouchers", 1
#: Bytes of a file that are read at the most.
MOST_BYTES = 256 << 20


@dataclass(frozen=True)
class KeptVoucher:
    """A channel's newest voucher, and its last receipt."""

    config: ChannelConfig
    voucher: SignedVoucher
    receipt: SignedReceipt

    @property
    def charged(self) -> int:
        """What was served, in units of the channel's token."""
        return self.receipt.receipt.cumulative

    def check(self, chain_id: int) -> None:
        """LocalError unless payer and operator have signed it for this channel."""
        channel = channel_id(chain_id, self.config)
        if self.voucher.channel != channel or self.receipt.receipt.channel != channel:
            raise LocalError("the voucher or the receipt is of another channel or chain")
        said = Voucher(channel, self.voucher.amount)
        signer = messages.recover(channels_domain(chain_id), said, self.voucher.signature)
        if signer != self.config.payer_authorizer:
            raise LocalError("the payer has not signed the voucher")
        self.receipt.check(receipt_domain(chain_id), self.config.receiver_authorizer)
        if self.receipt.receipt.number >= 1 << 63:
            raise LocalError("the receipt has a number that no channel comes to")
        if self.charged > self.voucher.amount:
            raise LocalError("the receipt charges more than the voucher says")

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "channelConfig": config_to_json(self.config),
            "voucher": self.voucher.to_json(),
            **self.receipt.to_json(),
        }

    @classmethod
    def from_json(cls, value: object) -> Self:
        """The inverse. LocalError for anything else."""
        found = object_of(value, "voucher")
        return cls(
            config_from_json(found.get("channelConfig")),
            SignedVoucher.from_json(found.get("voucher")),
            SignedReceipt.from_json(found),
        )


def write(chain_id: int, kept: Iterable[KeptVoucher]) -> str:
    """The text of a file."""
    found = {
        "kind": _KIND,
        "version": _VERSION,
        "chain_id": chain_id,
        "vouchers": [one.to_json() for one in kept],
    }
    return json.dumps(found, indent=1) + "\n"


def read(data: bytes, chain_id: int) -> list[KeptVoucher]:
    """The vouchers of a file, each checked. LocalError names the first that does not hold."""
    try:
        found = object_of(nesting.loads(data), "file")
    except (ValueError, RecursionError, LocalError):
        raise _unfit("it is not JSON") from None
    listed = found.get("vouchers")
    if found.get("kind") != _KIND or found.get("version") != _VERSION or type(listed) is not list:
        raise _unfit("it is not a file of vouchers of this version")
    if found.get("chain_id") != chain_id:
        raise _unfit(f"it is of chain {found.get('chain_id')}, expected {chain_id}")
    kept = []
    for number, value in enumerate(listed, 1):
        try:
            one = KeptVoucher.from_json(value)
            one.check(chain_id)
        except LocalError as error:
            raise _unfit(f"its voucher {number}: {error}") from None
        kept.append(one)
    return kept


def _unfit(line: str) -> LocalError:
    return LocalError(f"the file cannot be used: {line}", Code.INPUT_INVALID)
