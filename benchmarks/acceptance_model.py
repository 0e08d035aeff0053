# SPDX-License-Identifier: Apache-2.0
"""What a cheater of an acceptance challenge can leave out: formulas, and cards calculated.

A sweep reads the whole memory M within M / B seconds, B the bandwidth that is asked for. What does
not lie in the device comes over a link from elsewhere, or is filled again, for each sweep. The best
cheater does all three at once.
"""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks import pages
from benchmarks.cheating import passes
from teraproof.acceptance.format import ENTRIES, PIECE_BYTES, STRIDE

PERMUTATION = 4300
"""32-bit operations of a Keccak permutation of one thread, as `kernels.cu` counts them."""
ASKED = 0.5
"""The part of a card's nominal bandwidth that the table asks for."""


@dataclass(frozen=True)
class Card:
    """A card by its data sheet: bytes per second of its memory and of its link to the host, 32-bit
    integer operations per second, bytes of memory.
    """

    name: str
    bandwidth: float
    link: float
    operations: float
    memory: float

    @property
    def filling(self) -> float:
        """Bytes per second that it fills, if nothing but permutations took time."""
        return self.operations / PERMUTATION * PIECE_BYTES / STRIDE


# Multiprocessors x 64 integer units x clock.
CARDS = (
    Card("H100 SXM", 3.35e12, 64e9, 132 * 64 * 1.755e9, 80e9),
    Card("A100 SXM", 2.04e12, 32e9, 108 * 64 * 1.41e9, 80e9),
    Card("L40S", 0.864e12, 32e9, 142 * 64 * 2.52e9, 48e9),
    Card("RTX 4090", 1.008e12, 32e9, 128 * 64 * 2.52e9, 24e9),
    Card("T4", 0.32e12, 16e9, 40 * 64 * 1.59e9, 16e9),
)


def missing(filling: float, link: float, asked: float) -> float:
    """The largest part of the memory that need not lie in the device, at these bytes per second."""
    return min(1.0, (filling + link) / asked)


def speed(tolerance: float, false_part: float) -> float:
    """The least part of the promised speed that passes with this part of the rounds false."""
    return tolerance * (1 - false_part)


def sold(times: int, tolerance: float, seconds: float, skew: float) -> float:
    """The speed, in promises, that a card needs which stands behind that many leases.

    Args:
        times: the leases.
        tolerance: the part of the promise that is enough.
        seconds: in which the rounds of a lease must be done.
        skew: seconds from the first nonce to the last.
    """
    return times * tolerance * seconds / (seconds + skew)


def cards() -> str:
    """The table of cards."""
    rows = []
    for card in CARDS:
        asked = ASKED * card.bandwidth
        rows.append(
            [card.name, f"{card.memory / 1e9:.0f} GB", f"{asked / 1e9:,.0f} GB/s"]
            + [f"{1000 * card.memory / asked:.0f} ms", f"{card.filling / 1e9:.0f} GB/s"]
            + [f"{card.memory / card.filling:.1f} s", f"{card.link / 1e9:.0f} GB/s"]
            + [f"{100 * missing(card.filling, 0, asked):.1f} %"]
            + [f"{100 * missing(card.filling, card.link, asked):.1f} %"]
        )
    head = [
        "card",
        "memory",
        "asked",
        "a sweep",
        "fills at most",
        "fills all in",
        "link to the host",
    ]
    head += ["may be filled again", "may be missing"]
    return pages.table(head, rows)


def false_parts() -> str:
    """The table of false parts: of entries, and of digests of 64 bits."""
    rows = [
        [f"{100 * part:.3g} %", f"{100 * passes(part, ENTRIES):.3g} %"]
        + [f"{100 * (1 - part) ** ENTRIES:.3g} %", f"{100 * speed(0.8, part):.1f} %"]
        for part in (0.01, 0.02, 0.046, 0.1, 0.2, 0.5)
    ]
    head = ["false part f", "entries pass", "digests pass", "speed that is enough, tolerance 80 %"]
    return pages.table(head, rows)


def leases() -> str:
    """The table of cards that are sold more than once."""
    rows = [
        [str(times), *(f"{sold(times, 0.8, 10, skew):.2f} x" for skew in (0, 1, 2, 5, 10))]
        for times in (1, 2, 3, 4)
    ]
    head = ["leases on one card", *(f"skew {skew} s" for skew in (0, 1, 2, 5, 10))]
    return pages.table(head, rows)
