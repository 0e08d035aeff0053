# SPDX-License-Identifier: Apache-2.0
"""A court that says what the test wants; calldata is made by the real ABI."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

from eth_account import Account
from eth_account.signers.local import LocalAccount

from teraproof.contracts.abi import Function
from teraproof.contracts.disputes import DisputesContract
from teraproof.rpc.client import RpcPool
from teraproof.rpc.errors import Reverted
from teraproof.rpc.types import Block
from tests.agent.duty_parts import TPF

PERIOD, SEAT, TERM, LONGEST = 100, TPF, 10_000, 2_000
DRAW, COMMIT, REVEAL, REDRAW, CLOSE = 80, 400, 200, 600, 1_000
PLACE = "0x" + "0d" * 20
JURORS: list[LocalAccount] = [Account.from_key(bytes([0x40 + n]) * 32) for n in range(4)]


@dataclass
class Seat:
    """A juror of the capability under test."""

    owner: str
    seats: int
    last: int = 10**6
    went: int = 0

    @property
    def word(self) -> int:
        return int(self.owner, 16) | self.seats << 160 | self.last << 192 | self.went << 224


@dataclass
class Sitting:
    """A jury: votes by leaf, and what each place has done."""

    since: int
    target: int = 90
    stage: int = 1
    places: list[tuple[int, int]] = field(default_factory=list)
    committed: dict[int, int] = field(default_factory=dict)
    """Place -> the upper bits of what it committed to."""
    revealed: dict[int, int] = field(default_factory=dict)

    @property
    def word(self) -> int:
        word = self.since | self.target << 40 | self.stage << 88 | len(self.places) << 96
        for place in self.committed:
            word |= 1 << (104 + place)
        for place, kind in self.revealed.items():
            word |= 1 << (136 + place) | kind << (168 + 2 * place)
        return word


class PlainCourt(DisputesContract):
    """See the module. Leaves count from 1."""

    def __init__(self) -> None:
        super().__init__(cast(RpcPool, self), PLACE)
        self.members: list[Seat] = []
        self.rounds: dict[int, Sitting] = {}
        self.standing: tuple[int, int, int, int] | None = None
        self.reads = 0
        self.elsewhere: set[bytes] = set()
        """Capabilities in which nobody here has seats."""

    def header(self, number: int) -> Any:
        return type("Header", (), {"data": b"header %d" % number})()

    def _read(self, function: Function, block: Block, *arguments: object) -> tuple[Any, ...]:
        self.reads += 1
        values: dict[str, Any] = {
            "PERIOD": PERIOD,
            "SEAT": SEAT,
            "TERM": TERM,
            "longest": LONGEST,
            "MAX_DURATION": 600,
            "DRAW_TIME": DRAW,
            "COMMIT_TIME": COMMIT,
            "REVEAL_TIME": REVEAL,
            "REDRAW_TIME": REDRAW,
            "CLOSE_TIME": CLOSE,
        }
        if function.name in values:
            return (values[function.name],)
        return cast(tuple[Any, ...], getattr(self, f"_{function.name}")(*arguments))

    def _costs_of(self, price: int, duration: int) -> tuple[int, int, int]:
        return 5, 50, 55

    def _standing_of(self, case: object) -> tuple[int, int, int, int]:
        if self.standing is None:
            raise Reverted("court: no such dispute")
        return self.standing

    def _round_of(self, job: bytes, number: int) -> tuple[int]:
        sitting = self.rounds.get(number)
        return (0 if sitting is None else sitting.word,)

    def _place_of(self, job: bytes, number: int, place: int) -> tuple[int]:
        sitting = self.rounds[number]
        leaf, votes = sitting.places[place]
        return (leaf | votes << 27 | sitting.committed.get(place, 0),)

    def _juror_of(self, capability: bytes, leaf: int) -> tuple[int]:
        return (self.members[leaf - 1].word if 0 < leaf <= len(self.members) else 0,)

    def _leaf_of(self, juror: str, capability: bytes) -> tuple[int]:
        owners = [] if capability in self.elsewhere else [one.owner for one in self.members]
        return (owners.index(juror) + 1 if juror in owners else 0,)
