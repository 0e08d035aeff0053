# SPDX-License-Identifier: Apache-2.0
"""What the inference duty reads from the chain, all of it at the pinned block."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from teraproof.contracts.channels import (
    CHANNELS,
    PENDING_WITHDRAWALS,
    REFUND_NONCE,
    ChannelsContract,
    Received,
)
from teraproof.contracts.payment_token import AUTHORIZATION_STATE
from teraproof.protocol.x402 import ChannelState
from teraproof.rpc.types import BlockRef

AT_ONCE = 100  # channels that three requests read


class ChannelView:
    """See the module. Used by the loop's thread. `token` is that of all channels."""

    def __init__(self, channels: ChannelsContract, token: str) -> None:
        self._channels, self._token = channels, token
        self._at = b""  # hash of the block that is looked at
        self._states: dict[bytes, ChannelState] = {}
        self._unused: set[tuple[str, bytes]] = set()

    def _begin(self, block: BlockRef) -> None:
        """What was read of another block is old. Several cycles may read one block."""
        if block.hash != self._at:
            self._at, self._states, self._unused = block.hash, {}, set()

    def read(self, channels: Iterable[bytes], block: BlockRef) -> dict[bytes, ChannelState]:
        """How channels stand; one that the chain does not know is empty. Raises ChainError."""
        self._begin(block)
        asked = list(dict.fromkeys(channels))
        self._states |= self._read([one for one in asked if one not in self._states], block)
        return {one: self._states[one] for one in asked}

    def _read(self, asked: Sequence[bytes], block: BlockRef) -> dict[bytes, ChannelState]:
        found: dict[bytes, ChannelState] = {}
        for first in range(0, len(asked), AT_ONCE):
            part = asked[first : first + AT_ONCE]
            keys, read = [(one,) for one in part], self._channels.read_many
            rows = zip(
                part,
                read(CHANNELS, block, keys),
                read(PENDING_WITHDRAWALS, block, keys),
                read(REFUND_NONCE, block, keys),
                strict=True,
            )
            for one, (balance, claimed), (_, since), nonce in rows:
                found[one] = ChannelState(one, int(balance), int(claimed), int(since), int(nonce))
        return found

    def sure(self, channels: Iterable[bytes], block: BlockRef) -> dict[bytes, ChannelState]:
        """The same, as two endpoints have it: what is served rests on it. Raises ChainError."""
        self._begin(block)
        with self._channels.rpc.agreed():
            found = self._read(list(dict.fromkeys(channels)), block)
        self._states |= found
        return found

    def used(self, words: Sequence[tuple[str, bytes]], block: BlockRef) -> list[bool]:
        """Whether each authorization (payer, nonce) was used or taken back. Raises ChainError."""
        self._begin(block)
        asked = [one for one in words if one not in self._unused]
        calls = [AUTHORIZATION_STATE.encode(*one) for one in asked]
        answers = self._channels.rpc.read_many(self._token, calls, block)
        used = {
            one: bool(AUTHORIZATION_STATE.decode_output(answer)[0])
            for one, answer in zip(asked, answers, strict=True)
        }
        self._unused.update(one for one, is_used in used.items() if not is_used)
        return [used.get(one, False) for one in words]

    def due(self, receiver: str, block: BlockRef) -> Received:
        """What was claimed for a receiver and what was paid out. Raises ChainError."""
        return self._channels.receivers(receiver, self._token, block)
