# SPDX-License-Identifier: AGPL-3.0-only
# pragma version 0.4.3
# pragma nonreentrancy on
"""
@title When epochs begin and what chance decides in them
@license AGPL-3.0-only
@notice Time has a grid: a boundary every SLOT seconds. The boundary's block is the
        first one with a timestamp not before it. Whether it opens a window is decided
        by that block's randomness, with the same chance at every boundary and with no
        memory, so no time of the day is safe to be away. A boundary that nobody
        presents in OPEN_PERIOD is lost, and none counts within SPACING of the last
        window's opening. An epoch is what one window opens:

          opened_at            the block's timestamp: who presents it late gains nothing
          + WINDOW             commits end; `close` names the block of the draw
          + DRAW_PERIOD        the last second for `close`
          + REACH              the last second for `draw`; without it the epoch is void
          + OPENING_PERIOD     the epoch ends, its numbers are final

        Every value belongs to a block that was named before it existed (I-14).
@dev Packed by hand, low bits first:
     facts    opened at 40 | target 64 | total 112 | opened before 40
"""

from ..interfaces import IBenchmark
from ..randomness import designated_block
from ..randomness import header_proof

uses: designated_block

# Parts of the whole: a chance.
MILLION: constant(uint256) = 1_000_000
# Seconds that any period may take, a bound against slips.
MAX_TIME: constant(uint256) = 366 * 86_400
MAX_DELAY: constant(uint256) = 2**32
MASK_40: constant(uint256) = 2**40 - 1
MASK_64: constant(uint256) = 2**64 - 1
MASK_112: constant(uint256) = 2**112 - 1
TOTAL_AT: constant(uint256) = 104
BEFORE_AT: constant(uint256) = 216

# Unix seconds of boundary 0.
GENESIS: public(immutable(uint256))
# Seconds, but DRAW_DELAY and CHANCE_PPM.
SLOT: public(immutable(uint256))
# How many of a million boundaries open a window.
CHANCE_PPM: public(immutable(uint256))
SPACING: public(immutable(uint256))
OPEN_PERIOD: public(immutable(uint256))
WINDOW: public(immutable(uint256))
DRAW_PERIOD: public(immutable(uint256))
# Blocks from `close` to the one that draws.
DRAW_DELAY: public(immutable(uint256))
REACH: public(immutable(uint256))
OPENING_PERIOD: public(immutable(uint256))
# From opened_at to the end of the epoch.
LENGTH: public(immutable(uint256))

# The newest epoch, 0 before the first.
newest: uint256
facts: HashMap[uint256, uint256]
beacons: HashMap[uint256, bytes32]
draws: HashMap[uint256, bytes32]


@deploy
def __init__(
    genesis: uint256,
    slot: uint256,
    chance_ppm: uint256,
    spacing: uint256,
    open_period: uint256,
    window: uint256,
    draw_period: uint256,
    draw_delay: uint256,
    reach: uint256,
    opening_period: uint256,
):
    assert (
        genesis == 0 or genesis >= block.timestamp
    ), "benchmark: genesis is past"
    assert (
        genesis <= MASK_40 - MAX_TIME
        and spacing <= MAX_TIME
        and slot <= MAX_TIME
        and window <= MAX_TIME
        and draw_period <= MAX_TIME
        and reach <= MAX_TIME
        and opening_period <= MAX_TIME
        and draw_delay <= MAX_DELAY
    ), "benchmark: time out of bounds"
    assert (
        window > 0 and draw_period > 0 and reach > 0 and opening_period > 0
    ), "benchmark: zero time"
    assert (
        chance_ppm >= 1 and chance_ppm <= MILLION
    ), "benchmark: chance out of bounds"
    # Of two boundaries never more than one can be presented at a time, and enough of
    # the window is left to whoever learns of it last.
    assert (
        open_period > 0 and open_period < slot and open_period <= window // 2
    ), "benchmark: open period out of bounds"
    # The next block is being built while `close` is on its way.
    assert draw_delay >= 2, "benchmark: draw delay too short"
    length: uint256 = window + draw_period + reach + opening_period
    assert spacing >= length, "benchmark: windows too close"
    GENESIS = block.timestamp if genesis == 0 else genesis
    SLOT = slot
    CHANCE_PPM = chance_ppm
    SPACING = spacing
    OPEN_PERIOD = open_period
    WINDOW = window
    DRAW_PERIOD = draw_period
    DRAW_DELAY = draw_delay
    REACH = reach
    OPENING_PERIOD = opening_period
    LENGTH = length


# ----------------------------------------------------------------- transitions


@internal
def _open(
    number: uint256,
    header: Bytes[header_proof.MAX_HEADER],
    parent: Bytes[header_proof.MAX_HEADER],
):
    assert block.timestamp >= GENESIS, "benchmark: before genesis"
    # The only boundary that can be presented now: an earlier one is more than a slot,
    # and so more than OPEN_PERIOD, ago.
    boundary: uint256 = GENESIS + (block.timestamp - GENESIS) // SLOT * SLOT
    assert (
        block.timestamp <= boundary + OPEN_PERIOD
    ), "benchmark: boundary is past"
    opened_at: uint256 = 0
    word: bytes32 = empty(bytes32)
    opened_at, word = designated_block._first_block(
        number, header, parent, boundary
    )
    assert (
        opened_at >= self._next_window_from()
    ), "benchmark: window too early"
    assert self._wins(word), "benchmark: boundary does not win"
    epoch: uint256 = self.newest + 1
    beacon: bytes32 = keccak256(concat(b"beacon", word))
    self.facts[epoch] = opened_at | (self._last_opening() << BEFORE_AT)
    self.newest = epoch
    self.beacons[epoch] = beacon
    log IBenchmark.Opened(
        epoch=epoch, beacon=beacon, opened_at=opened_at, number=number
    )


@external
def close(epoch: uint256):
    """
    @notice Names the block that draws for everybody: DRAW_DELAY blocks ahead, of which
            nothing is known yet. Anyone, once, in the DRAW_PERIOD after the window; if
            nobody does, the epoch is void.
    @param epoch The epoch.
    """
    word: uint256 = self.facts[epoch]
    assert ((word >> 40) & MASK_64) == 0, "benchmark: already closed"
    # Long past where the epoch was never opened.
    first: uint256 = (word & MASK_40) + WINDOW
    assert (
        block.timestamp >= first and block.timestamp <= first + DRAW_PERIOD
    ), "benchmark: not the time to close"
    target: uint256 = designated_block._number() + DRAW_DELAY
    self.facts[epoch] = word | (target << 40)
    log IBenchmark.Closed(epoch=epoch, target=target)


@external
def draw(epoch: uint256, header: Bytes[header_proof.MAX_HEADER]):
    """
    @notice Reads the named block and with it draws the samples of everybody. Anyone,
            once; its value is the same whoever calls and whenever. If nobody does in
            time the epoch is void: there is no second draw.
    @param epoch The epoch, closed.
    @param header RLP header of the named block; may be empty where the value is its
           hash.
    """
    word: uint256 = self.facts[epoch]
    target: uint256 = ((word >> 40) & MASK_64)
    assert target != 0, "benchmark: epoch is not closed"
    assert self.draws[epoch] == empty(bytes32), "benchmark: already drawn"
    assert (
        block.timestamp <= self._draw_until(word)
    ), "benchmark: too late to draw"
    ignored: uint256 = 0
    drawn: bytes32 = empty(bytes32)
    ignored, drawn = designated_block._value(target, header)
    drawn = keccak256(concat(b"draw", drawn))
    self.draws[epoch] = drawn
    log IBenchmark.Drawn(epoch=epoch, draw=drawn)


@internal
def _add_to_total(epoch: uint256, effective: uint256):
    word: uint256 = self.facts[epoch]
    # Scores are below 2**75, and one per provider: no total reaches 2**112.
    self.facts[epoch] = word + (effective << TOTAL_AT)


# ----------------------------------------------------------------------- views


@external
@view
def current_epoch() -> uint256:
    """
    @notice Returns the newest epoch that was opened, 0 before the first.
    """
    return self.newest


@external
@view
def epoch_of(epoch: uint256) -> IBenchmark.Epoch:
    """
    @notice Returns what is known of an epoch, zeros for what is not yet.
    @param epoch The epoch.
    """
    word: uint256 = self.facts[epoch]
    return IBenchmark.Epoch(
        beacon=self.beacons[epoch],
        opened_at=(word & MASK_40),
        target=((word >> 40) & MASK_64),
        draw=self.draws[epoch],
        ends_at=self._ends_at(word) if word != 0 else 0,
    )


@external
@view
def next_window_from() -> uint256:
    """
    @notice Returns the earliest time at which the next window can open, unix seconds.
    """
    return self._next_window_from()


@external
@view
def wins(word: bytes32) -> bool:
    """
    @notice Tells whether a boundary opens a window.
    @param word What the boundary's block holds: its prevrandao, or its hash where
           SOURCE is not 0.
    """
    return self._wins(word)


@internal
@view
def _wins(word: bytes32) -> bool:
    return (
        convert(keccak256(concat(b"lottery", word)), uint256) % MILLION
        < CHANCE_PPM
    )


@internal
@view
def _next_window_from() -> uint256:
    if self.newest == 0:
        return GENESIS
    return self._last_opening() + SPACING


@internal
@view
def _last_opening() -> uint256:
    """
    @dev When the newest epoch was opened; GENESIS before the first.
    """
    if self.newest == 0:
        return GENESIS
    return self.facts[self.newest] & MASK_40


@internal
@view
def _facts(epoch: uint256) -> uint256:
    """
    @dev For the functions below that take a `word`; zero for an epoch that was not
         opened.
    """
    return self.facts[epoch]


@internal
@view
def _beacon(epoch: uint256) -> bytes32:
    return self.beacons[epoch]


@internal
@view
def _draw(epoch: uint256) -> bytes32:
    """
    @dev Zero if it has not been drawn.
    """
    return self.draws[epoch]


@internal
@pure
def _total(word: uint256) -> uint256:
    """
    @dev Sum of the effective scores, final when the epoch has ended.
    """
    return (word >> TOTAL_AT) & MASK_112


@internal
@pure
def _opened_at(word: uint256) -> uint256:
    return word & MASK_40


@internal
@pure
def _opened_before(word: uint256) -> uint256:
    """
    @dev When the epoch before was opened; GENESIS for the first.
    """
    return word >> BEFORE_AT


@internal
@view
def _facts_in_window(epoch: uint256) -> uint256:
    """
    @dev Reverts unless commits count now; an epoch that was not opened has no window.
    """
    word: uint256 = self.facts[epoch]
    assert (
        block.timestamp < (word & MASK_40) + WINDOW
    ), "benchmark: not in the window"
    return word


@internal
@view
def _facts_of_ended(epoch: uint256) -> uint256:
    """
    @dev Reverts unless the epoch, which was opened, has ended.
    """
    word: uint256 = self.facts[epoch]
    assert (
        block.timestamp >= self._ends_at(word)
    ), "benchmark: epoch has not ended"
    return word


@internal
@view
def _ends_at(word: uint256) -> uint256:
    return (word & MASK_40) + LENGTH


@internal
@view
def _draw_until(word: uint256) -> uint256:
    return (word & MASK_40) + WINDOW + DRAW_PERIOD + REACH


@internal
@view
def _can_be_drawn(word: uint256) -> bool:
    """
    @dev Of an epoch that has not been drawn: false makes it void for good.
    """
    if ((word >> 40) & MASK_64) == 0:
        return block.timestamp <= (word & MASK_40) + WINDOW + DRAW_PERIOD
    return block.timestamp <= self._draw_until(word)
