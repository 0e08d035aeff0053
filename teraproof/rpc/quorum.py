# SPDX-License-Identifier: Apache-2.0
"""Endpoints compared with each other: no single one can make up a chain for us."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

from teraproof.rpc import decode
from teraproof.rpc.endpoint import BACKOFF_MAX, Endpoint, Haste
from teraproof.rpc.errors import BlockUnknown, ChainError, Malformed
from teraproof.rpc.routing import Router
from teraproof.rpc.types import BlockRef

log = logging.getLogger(__name__)

_LEAD = 64  # blocks that an endpoint may be ahead of all others and still be believed
_NEAR = 60  # seconds that of two endpoints the later one may be behind, and still be gone by
_STALE = 300  # seconds behind the others after which an endpoint's head is of no use as a witness
_BLOCK = "eth_getBlockByNumber"


class Quorum(Router):
    """What several endpoints say about blocks, as one answer."""

    _lonely = False
    _leader: Endpoint | None = None  # who told the head that was handed out last
    _second_time: int | None = None  # of the newest block but one that endpoints have told

    def head(self) -> BlockRef:
        """The newest block that two endpoints have reached, where a second one is up to date; else
        the newest that one has. Its time is no later than a second one's. Endpoints behind it are
        not asked about it.

        Who is ahead of all others would be the only one to ask about its block. One that is
        absurdly far ahead of all the others that are up to date is not believed. Of two endpoints
        the later one has to be near: it alone must not hold us back for long.
        """
        heads: list[tuple[Endpoint, BlockRef]] = self.each(_BLOCK, ["latest", False], decode.block)
        with self._lock:
            for endpoint in self.endpoints:
                endpoint.tip = None
        for endpoint, block in heads:
            self._note_head(endpoint, block)
        heads.sort(key=lambda pair: -pair[1].number)
        told = len(heads)
        while len(heads) > 1 and heads[0][1].number > heads[1][1].number + _LEAD:
            if not self._is_fresh(heads[1][0]):
                break
            endpoint, block = heads.pop(0)
            with self._lock:
                endpoint.head = heads[0][1].number  # nothing above it is asked of anybody
                endpoint.base_fee = endpoint.tip = None
            log.warning("%s claims block %d; it is not believed", endpoint.label, block.number)
        behind = _STALE if len(self.endpoints) > 2 else _NEAR
        if 1 < len(heads) == told and self._is_fresh(heads[1][0], behind):
            first, second = heads[0], heads[1]
            if first[1].number > second[1].number:
                heads[:2] = [second, first]
                with self._lock:
                    first[0].head = second[1].number
        self._leader = heads[0][0] if heads else None
        self._second_time = heads[1][1].timestamp if len(heads) > 1 else None
        if len(heads) > 1 and self._is_fresh(heads[1][0]):
            # Its time is what a second one has reached, too: many rules look at it.
            return replace(heads[0][1], timestamp=self.sure_time(heads[0][1]))
        if heads:
            return heads[0][1]
        # Nobody answered at once: wait for the first endpoint to come out of its back-off.
        found: BlockRef = self.call(_BLOCK, ["latest", False], read=decode.block)
        return found

    def sure_time(self, head: BlockRef) -> int:
        """Unix seconds that a second endpoint has reached, too; the head's where it is alone.

        By it deadlines have passed: no endpoint alone can say so.
        """
        second = self._second_time
        return head.timestamp if second is None else min(head.timestamp, second)

    def block(self, number: int, *, fresh: bool = False) -> BlockRef:
        """The block with this number; BlockUnknown when no endpoint has it.

        Nobody is asked when the links of headers from the last head show it; `fresh` asks.
        """
        leader = self._leader
        if leader is not None and not fresh:
            known = self._linked(leader, number, lambda n: self._read_block(n))
            if known is not None:
                return known
        return self._read_block(number)

    def known_block(self, number: int) -> BlockRef | None:
        """The block with this number below the last head, as far as it is known."""
        leader = self._leader
        with self._lock:
            if leader is None or leader.tip is None:
                return None
            return leader.branch.find(leader.tip, number)

    def _read_block(self, number: int) -> BlockRef:
        found: BlockRef = self.call(
            _BLOCK, [hex(number), False], at=number, read=lambda raw: _numbered(raw, number)
        )
        return found

    def _linked(
        self, endpoint: Endpoint, number: int, read: Callable[[int], BlockRef]
    ) -> BlockRef | None:
        """The block that an endpoint has shown by the links from its head, holes of a few headers
        filled by `read`; None when links do not lead there. Raises what `read` raises.
        """
        while True:
            with self._lock:
                tip = endpoint.tip
                if tip is None or number > tip.number:
                    return None
                found = endpoint.branch.find(tip, number)
                hole = endpoint.branch.hole(tip, number)
            if found is not None or hole is None:
                return found
            missing, expected = hole
            block = read(missing)
            if block.hash != expected:
                return block if missing == number else None
            with self._lock:
                endpoint.branch.tell(block)

    def agreed_block(self, number: int) -> BlockRef:
        """The newest block, not above `number`, that two endpoints have with the same hash, and
        more of them than have any other. Its time is the middle one of those that they tell.

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
            most = _most(found)
            if len(most) > 1:
                self._lonely = False
                if 2 * len(most) > len(found):
                    self._set_aside(
                        [one for one, block in found if block.hash != most[0][1].hash], asked
                    )
                return sorted((block for _, block in most), key=lambda block: block.timestamp)[
                    (len(most) - 1) // 2
                ]
            if answered <= 1:
                if len(self.endpoints) > 1 and not self._lonely:
                    log.warning("one RPC endpoint alone answers; its word is taken unchecked")
                self._lonely = True
                return found[0][1] if found else self.block(asked)
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
                endpoint.fault = f"has another block {number} than the others"
            log.warning("%s %s; it is not used for now", endpoint.label, endpoint.fault)

    def _blocks(self, number: int) -> tuple[list[tuple[Endpoint, BlockRef]], int]:
        """A block as each endpoint has it, and how many endpoints had a say. Nobody waits for our
        budget of an endpoint when more than half of all agree.
        """
        silent = 0

        def ask(endpoint: Endpoint, haste: Haste) -> BlockRef:
            nonlocal silent
            try:
                return self._block_of(endpoint, number, haste)
            except BlockUnknown:
                # One that stands still says nothing about what is new.
                silent += self._is_fresh(endpoint)
                raise

        voters = self._candidates(_BLOCK, None)
        of = len(voters) + sum(one not in voters for one in self.given_up())

        def agree(found: Sequence[tuple[Endpoint, BlockRef]]) -> bool:
            return 2 * len(_most(found)) > of

        found = self.gather(voters, ask, agree)
        return found, len(found) + silent

    def _block_of(self, endpoint: Endpoint, number: int, haste: Haste) -> BlockRef:
        """A block as one endpoint has it: as it has shown by its head, or as it says now."""

        def read(asked: int) -> BlockRef:
            request = [hex(asked), False]
            found: BlockRef = self._ask(
                endpoint, _BLOCK, request, lambda raw: _numbered(raw, asked), None, haste
            )
            return found

        return self._linked(endpoint, number, read) or read(number)

    def _is_fresh(self, endpoint: Endpoint, behind: int = _STALE) -> bool:
        """Whether an endpoint is at most `behind` seconds late, or as near as any: the chain may
        stand.
        """
        with self._lock:
            newest = max(e.head_time for e in self.endpoints)
        return endpoint.head_time > min(newest, self._wall_clock()) - behind


def _most(found: Sequence[tuple[Endpoint, BlockRef]]) -> list[tuple[Endpoint, BlockRef]]:
    """Those of the largest group with one hash; none when two groups are as large."""
    groups: dict[bytes, list[tuple[Endpoint, BlockRef]]] = {}
    for pair in found:
        groups.setdefault(pair[1].hash, []).append(pair)
    sizes = sorted((len(group) for group in groups.values()), reverse=True)
    if not sizes or sizes[1:2] == sizes[:1]:
        return []
    return max(groups.values(), key=len)


def _numbered(raw: object, number: int) -> BlockRef:
    found = decode.block(raw)
    if found.number != number:
        raise Malformed("sent another block than was asked for")
    return found
