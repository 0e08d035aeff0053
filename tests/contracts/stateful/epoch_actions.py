# SPDX-License-Identifier: Apache-2.0
"""Windows that open by a block's randomness, close, and are drawn by a named block (I-10, I-14)."""

from __future__ import annotations

from teraproof.pog import format as pog
from teraproof.pog.format import Sample
from tests.contracts import headers
from tests.contracts.deploy import TPF
from tests.contracts.revm import SPACING
from tests.contracts.stateful.driver import action
from tests.contracts.stateful.epoch import SHAPE, Epoch, Proof, loser, tagged, winner, wins
from tests.contracts.stateful.machine import Why
from tests.contracts.stateful.money_actions import MoneyActions
from tests.contracts.stateful.world import STRANGER


class EpochActions(MoneyActions):
    """Windows open, close and are drawn."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.epochs: list[Epoch] = []
        self.proofs: dict[str, Proof] = {}
        self.bonds: dict[str, int] = {}
        self.results: dict[str, tuple[int, Epoch]] = {}
        self.genesis = self.view("benchmark", "GENESIS")

    # -------------------------------------------------------------------------------- tools

    @property
    def epoch(self) -> Epoch | None:
        return self.epochs[-1] if self.epochs else None

    @property
    def next_window(self) -> int:
        return self.epochs[-1].opened_at + self.p.spacing if self.epochs else self.genesis

    def moments(self) -> set[int]:
        times = super().moments()
        if self.epochs:
            e = self.epochs[-1]
            times |= {e.window_end, e.close_until, e.draw_until, e.ends_at, e.fault_end}
        times |= {proof.epoch.fault_end for proof in self.proofs.values() if not proof.settled}
        return times

    def busy_until(self) -> int:
        """What the running epoch waits for: commits, close, draw, openings."""
        if not self.epochs or self.now >= self.epochs[-1].ends_at:
            return super().busy_until()
        e = self.epochs[-1]
        if not e.target:
            return e.window_end if self.now < e.window_end else e.close_until
        if not e.draw:
            return e.draw_until
        return e.ends_at if self.waiting() else super().busy_until()

    def unsettled(self, provider: str) -> Proof | None:
        proof = self.proofs.get(provider)
        return proof if proof and proof.rounds and not proof.settled else None

    def is_scored(self, proof: Proof) -> bool:
        return proof.verified == self.p.samples

    def is_open(self, proof: Proof) -> bool:
        """Committed, and still to be opened or to fail."""
        if not proof.rounds or proof.settled or self.is_scored(proof):
            return False
        if not proof.epoch.draw:
            return proof.epoch.can_be_drawn(self.now)
        return self.now < proof.epoch.fault_end

    def score_of(self, provider: str) -> int:
        """I-7: what is proven, not too old, and backed by the stake of now."""
        found = self.results.get(provider)
        if not found:
            return 0
        score, epoch = found
        if self.now > epoch.ends_at + self.p.score_life:
            return 0
        return min(score, self.backed(self.books["active", provider], epoch.number))

    def backed(self, stake: int, epoch: int) -> int:
        return stake * self.ops_per_tpf(epoch) // TPF

    def ops_per_tpf(self, epoch: int) -> int:
        raise NotImplementedError

    def counted(self, provider: str, proof: Proof, active: int) -> int:
        """The stake of the last commit less what was seized since, and no more than is there."""
        return max(0, min(active, proof.stake - (self.seized[provider] - proof.seized)))

    def challenge(self, provider: str, epoch: Epoch) -> bytes:
        return pog.challenge(1, self.benchmark_address, epoch.number, epoch.beacon, provider, SHAPE)

    def samples(self, provider: str, proof: Proof) -> list[Sample]:
        return pog.samples(
            proof.epoch.draw,
            proof.rounds,
            proof.commitment,
            self.challenge(provider, proof.epoch),
            SHAPE,
            self.p.samples,
        )

    def waiting(self) -> list[str]:
        """Providers whose proof can be opened now."""
        return [
            name
            for name, proof in self.proofs.items()
            if self.is_open(proof) and proof.epoch.draw and self.now < proof.epoch.ends_at
        ]

    # ------------------------------------------------------------------------------- epochs

    def make_block(self, time: int, randomness: bytes, parent_time: int, now: int) -> headers.Block:
        """A block that was, far enough back to be read from the history; then it is `now`."""
        number = self.chain.number + 1
        parent = headers.build(number - 1, parent_time, bytes(32))
        header = headers.build(number, time, randomness, parent_hash=headers.hash_of(parent))
        self.chain.remember(number, headers.hash_of(header))
        self.chain.set_block(max(now, self.now), number + SPACING)
        return headers.Block(number, time, randomness, header, parent)

    @action(5, lambda self: self.ready_for_a_window())
    def open_window(self) -> None:
        """At the next boundary that counts, by its first block."""
        slot = self.p.slot
        ahead = max(self.now + 1, self.next_window) - self.genesis
        boundary = self.genesis + -(-ahead // slot) * slot
        late = self.choices.between(0, self.p.open_period // 2)
        seen = boundary + late + self.choices.between(0, self.p.open_period // 2)
        number = len(self.epochs) + 1
        block = self.make_block(boundary + late, winner(number), boundary - 1, seen)
        self.present(block, boundary)

    def ready_for_a_window(self) -> bool:
        """Somebody could prove, and the last epoch is over."""
        if self.epochs and self.now < self.epochs[-1].ends_at:
            return False
        return any(self.books["stake", p, p] >= self.p.bond for p in self.registered)

    @action(0.5)
    def open_wrongly(self) -> None:
        """A block too early, not the first, of another boundary, too late, or one that loses."""
        slot, open_period = self.p.slot, self.p.open_period
        boundary = self.genesis + ((self.now - self.genesis) // slot + 1) * slot
        shift, word = 0, winner(len(self.epochs) + 1)
        time, before, seen = boundary, boundary - 1, boundary
        kind = self.pick(("early", "second", "old", "late", "loser", "other"))
        if kind == "early":
            time, before = boundary - 1, boundary - 2
        elif kind == "second":
            time, before = boundary + 1, boundary
        elif kind == "old":
            time, before, shift = boundary - slot, boundary - slot - 1, slot
        elif kind == "late":
            seen = boundary + open_period + 1
        elif kind == "loser":
            word = loser(self.fresh % 20)
        del shift
        block = self.make_block(time, word, before, seen)
        if kind == "other":
            block = headers.block(block.number, time, word)
        self.present(block, boundary, known=kind != "other", first=kind != "second")

    def present(
        self, block: headers.Block, boundary: int, *, known: bool = True, first: bool = True
    ) -> bool:
        why = Why()
        why.need(self.now <= boundary + self.p.open_period, "boundary is past")
        why.need(known, "not of that block")
        why.need(block.timestamp >= boundary, "too early")
        why.need(first, "not the first block")
        why.need(block.timestamp >= self.next_window, "window too early")
        why.need(wins(block.prevrandao), "does not win")
        args = (block.number, block.header, block.parent)
        done = self.act("benchmark.open", args, STRANGER, why)
        if done:
            beacon = tagged(b"beacon", block.prevrandao)
            self.epochs.append(Epoch(len(self.epochs) + 1, beacon, block.timestamp))
        return done

    @action(7, lambda self: self.epochs and not self.epochs[-1].target)
    def close(self) -> None:
        """Once, between the window and the end of the draw period."""
        e = self.epochs[-1]
        if self.chance(0.7) and self.now < e.window_end:
            self.go_to(e.window_end - self.pick((0, 0, 0, 1)))
        elif self.chance(0.1):
            self.go_to(e.close_until + self.pick((0, 1)))
        why = Why()
        why.need(self.now >= e.window_end, "not the time to close")
        why.need(self.now <= e.close_until, "not the time to close")
        if self.act("benchmark.close", (e.number,), STRANGER, why):
            e.target = self.chain.number + self.p.draw_delay

    @action(9, lambda self: self.epochs and self.epochs[-1].target and not self.epochs[-1].draw)
    def draw(self) -> None:
        e = self.epochs[-1]
        if self.chance(0.1):
            self.go_to(e.draw_until + self.pick((0, 1)))
        self.draw_epoch(e)

    def draw_epoch(self, e: Epoch) -> bool:
        word = self.word("draw")
        header = headers.build(e.target, self.now, word)
        self.chain.remember(e.target, headers.hash_of(header))
        self.chain.set_block(self.now, max(self.chain.number, e.target + SPACING))
        shown = header if self.chance(0.95) else headers.build(e.target, self.now + 1, word)
        why = Why()
        why.need(self.now <= e.draw_until, "too late to draw")
        why.need(shown == header, "not of that block")
        done = self.act("benchmark.draw", (e.number, shown), STRANGER, why)
        if done:
            e.draw = tagged(b"draw", word)
        return done
