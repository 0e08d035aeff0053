# SPDX-License-Identifier: Apache-2.0
"""A block that several endpoints agree on: no single one can make up a chain for us."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from teraproof.rpc.decode import block as read_block
from teraproof.rpc.endpoint import Endpoint
from teraproof.rpc.errors import BlockUnknown, ChainError, RpcError, Transport
from teraproof.rpc.routing import BACKOFF_MAX, Router
from teraproof.rpc.types import BlockRef

log = logging.getLogger(__name__)


class Quorum(Router):
    """Endpoints that are compared with each other."""

    def agreed_block(self, number: int) -> BlockRef:
        """The newest block, not above `number`, that two endpoints have with the same hash.

        With one endpoint, or when one alone answers and is up to date, it is that one's block.
        Raises ChainError when several answer and no two agree. Call `head` before: it tells how
        far each endpoint is.
        """
        numbers = [number]
        with self._lock:
            heads = {e.head for e in self.endpoints if e.head is not None and e.head < number}
        numbers += sorted(heads, reverse=True)
        for asked in numbers:
            found, answered = self._blocks(asked)
            blocks = [block for _, block in found]
            for block in blocks:
                if sum(other.hash == block.hash for other in blocks) > 1:
                    self._lonely = False
                    self._set_aside([e for e, other in found if other.hash != block.hash], asked)
                    return block
            if answered <= 1:
                if len(self.endpoints) > 1 and not self._lonely:
                    log.warning("one RPC endpoint alone answers; its word is taken unchecked")
                self._lonely = True
                return blocks[0] if blocks else self.block(asked)
        raise ChainError(
            f"the RPC endpoints do not agree about block {number}; nothing is done until two do: "
            "check chain.rpc_urls, three endpoints are better than two"
        )

    def _set_aside(self, endpoints: Sequence[Endpoint], number: int) -> None:
        """Ask nothing for a while of endpoints that are on another branch than most."""
        for endpoint in endpoints:
            with self._lock:
                endpoint.failures += 1
                endpoint.not_before = self._clock() + BACKOFF_MAX
                endpoint.trouble = f"has another block {number} than the others"
            log.warning("%s %s; it is not used for now", endpoint.label, endpoint.trouble)

    def _blocks(self, number: int) -> tuple[list[tuple[Endpoint, BlockRef]], int]:
        """A block as each endpoint has it, and how many endpoints had a say."""
        found: list[tuple[Endpoint, BlockRef]] = []
        answered = 0
        for endpoint in self._candidates(None):
            try:
                answer = self._ask(endpoint, "eth_getBlockByNumber", [hex(number), False])
                block = read_block(answer)
            except (Transport, RpcError):
                continue
            except BlockUnknown:
                # One that stands still says nothing about what is new.
                answered += self._is_fresh(endpoint)
                continue
            if block.number == number:
                found.append((endpoint, block))
                answered += 1
        return found, answered

    def block(self, number: int) -> BlockRef:
        """The block with this number; BlockUnknown when no endpoint has it."""
        found = read_block(self.call("eth_getBlockByNumber", [hex(number), False], at=number))
        if found.number != number:
            raise Transport("an RPC endpoint sent another block than was asked for")
        return found
