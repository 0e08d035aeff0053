# SPDX-License-Identifier: Apache-2.0
"""What the gateway asks of the chain and of its account."""

from __future__ import annotations

from collections.abc import Callable

from eth_account.messages import SignableMessage

from teraproof.contracts.channels import ChannelsContract
from teraproof.errors import LocalError
from teraproof.market.market import Market
from teraproof.market.signers import Signer
from teraproof.protocol import signatures
from teraproof.protocol.messages import Domain, Struct
from teraproof.rpc.errors import ChainError

_SETTLED_SECONDS = 120  # behind the newest block; an older one is taken for settled


class MarketView:
    """See `purse.ChainView`."""

    def __init__(self, market: Market, channels: ChannelsContract) -> None:
        self._market, self._channels = market, channels

    def balance(self, channel: bytes) -> int:
        """Its deposits less what was refunded, units of the token. LocalError without an answer."""
        try:
            return self._channels.channels(channel, "latest").balance
        except ChainError as error:
            raise LocalError(str(error), error.code) from None

    def now(self) -> int:
        """A time of the chain behind which nothing changes any more."""
        try:
            return self._market.now() - _SETTLED_SECONDS
        except ChainError as error:
            raise LocalError(str(error), error.code) from None

    def funds(self, account: str) -> int:
        """What an account holds outside of channels, units of the token. LocalError."""
        try:
            return self._market.payment_balance(account)
        except ChainError as error:
            raise LocalError(str(error), error.code) from None


def signing(signer: Signer) -> Callable[[Domain, Struct], bytes]:
    """Makes `purse.Sign` of an account: 65 bytes over an EIP-712 message."""

    def sign(domain: Domain, message: Struct) -> bytes:
        signed = signer.sign_message(
            SignableMessage(b"\x01", domain.separator(), message.struct_hash())
        )
        raw = signed.encode_rsv() if hasattr(signed, "encode_rsv") else signed.signature
        return signatures.normalised(bytes(raw))

    return sign
