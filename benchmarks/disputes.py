# SPDX-License-Identifier: Apache-2.0
"""What a dispute costs: opened, drawn among a thousand jurors, voted on, concluded.

Seventeen jurors enlist, far from each other among a thousand leaves; the others hold no seats. So
a draw reads as many words as with a thousand jurors, and meets one that can vote.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from eth_abi.abi import encode
from eth_utils.crypto import keccak

from benchmarks.chain import BenchmarkError
from benchmarks.market import DOLLAR, Market
from benchmarks.meter import CYCLES, Meter
from benchmarks.network import TPF, Provider
from benchmarks.operations import RECEIPT, Desk
from teraproof.protocol.digests import Origin, result_digest, vote_seal
from teraproof.protocol.dispute import Case, Statement
from teraproof.protocol.messages import Attestation, sign
from teraproof.protocol.terms import ZERO_ADDRESS, Order, Record, Terms

CAPABILITY = keccak(text="a capability")
MANIFEST = b"the manifest of a result"
JURORS = 17
SEATS = 2  # each; as many as the owner's limit per order allows
LEAVES = 1_000
EVERY = LEAVES // JURORS
DURATION = 3_600
RIGHT, WRONG = 1, 2
_PLACES_AT, _TARGET_AT, _LEAF = 96, 40, 2**27 - 1
_LEAVES_AT, _LEAVES = 40, 2**32 - 1


@dataclass
class Bench:
    """The court of a market, a tenant and a provider before it."""

    market: Market
    jurors: dict[int, Provider]
    desk: Desk

    def order(self, number: int) -> Order:
        """A judged order for a few dollars."""
        order = self.desk.order(number)
        return replace(
            order,
            judged=int.from_bytes(CAPABILITY, "big"),
            start_price=2 * DOLLAR,
            max_price=4 * DOLLAR,
            duration=DURATION,
        )

    def attested(self, number: int) -> tuple[Terms, Record, Statement]:
        """A judged job with a sealed result."""
        terms, _ = self.desk.post(self.order(number))
        self.desk.accept(terms)
        chain, key = self.market.chain, self.desk.provider.operator
        origin = Origin(terms.job_id(), self.desk.provider.owner.address)
        assigned_at, result = chain.now, result_digest(MANIFEST, origin)
        said = Attestation(
            terms.job_id(), terms.order.spec, result, RECEIPT, assigned_at, chain.now
        )
        times = (said.started, said.finished)
        chain.send(key, self.desk.jobs, "attest", terms.abi_tuple(), result, RECEIPT, *times, b"")
        record = Record(
            self.desk.provider.owner.address, assigned_at, chain.now, 0, said.struct_hash()
        )
        return terms, record, Statement(said.spec, said.result, said.receipt, *times)

    def word(self, case: Case, round_number: int) -> int:
        """The word of a round."""
        return int(self.market.disputes.functions.round_of(case.job, round_number).call())

    def jury(self, case: Case, round_number: int) -> list[int]:
        """The leaves of a jury."""
        places = self.word(case, round_number) >> _PLACES_AT & 255
        read = self.market.disputes.functions.place_of
        return [int(read(case.job, round_number, place).call()) & _LEAF for place in range(places)]

    def draw(self, case: Case, round_number: int) -> int:
        """Wait for the named block and draw; returns the gas."""
        chain = self.market.chain
        target = self.word(case, round_number) >> _TARGET_AT & (2**48 - 1)
        chain.mine(target - chain.web3.eth.block_number)
        header = chain.header(target).data
        return chain.send(
            self.market.deployer, self.market.disputes, "draw", case.abi_tuple(), header
        )

    def vote(self, case: Case, round_number: int, kind: int, manifest: bytes) -> tuple[int, int]:
        """All jurors alike; returns the gas of the dearest commit and reveal."""
        seal, salt = vote_seal(manifest, case.origin, round_number), keccak(text="salt")
        calls = []
        for place, leaf in enumerate(self.jury(case, round_number)):
            juror = self.jurors[leaf]
            digest = keccak(
                encode(
                    ["bytes32", "uint256", "address", "uint256", "bytes32", "bytes32"],
                    [case.job, round_number, juror.owner.address, kind, seal, salt],
                )
            )
            calls.append((juror, place, digest))
        send, court = self.market.chain.send, self.market.disputes
        commits = [
            send(juror.operator, court, "commit", case.abi_tuple(), place, digest)
            for juror, place, digest in calls
        ]
        reveals = [
            send(juror.operator, court, "reveal", case.abi_tuple(), place, kind, seal, salt)
            for juror, place, _ in calls
        ]
        return max(commits), max(reveals)


def measure(market: Market, meter: Meter) -> None:
    """Run everything."""
    bench = _bench(market, meter)
    for cycle in range(CYCLES):
        _dispute(bench, meter, cycle)
    _conviction(bench, meter)


def _bench(market: Market, meter: Meter) -> Bench:
    desk = Desk(market, market.jobs, market.dollar, "court")
    jurors = {}
    for number in range(JURORS):
        provider, _ = market.register(f"juror {number}")
        market.holder(provider.owner, 2_000 * TPF)
        market.chain.send(
            provider.owner, market.staking, "delegate", provider.owner.address, 2_000 * TPF
        )
        leaf = (number + 1) * EVERY
        if number:
            _set_leaves(market, leaf - 1)
        gas = market.chain.send(provider.operator, market.disputes, "enlist", CAPABILITY, SEATS)
        if number in (0, JURORS - 1):
            meter.note("disputes_enlist", gas)
        jurors[leaf if number else 1] = provider
    _set_leaves(market, LEAVES)
    market.chain.pass_time(market.argument("Disputes", "period"))
    return Bench(market, jurors, desk)


def _set_leaves(market: Market, leaves: int) -> None:
    """Leaves without seats up to a number: what as many who enlist and resign would have left."""
    slot = market.chain.slot_of("Disputes", "sum_tree", "nodes")
    tree = keccak(slot.to_bytes(32, "big") + CAPABILITY)
    place = int.from_bytes(keccak(tree + bytes(32)), "big")
    address = market.disputes.address
    word = int.from_bytes(market.chain.web3.eth.get_storage_at(address, place), "big")
    word = word & ~(_LEAVES << _LEAVES_AT) | leaves << _LEAVES_AT
    market.chain.write(address, place, word.to_bytes(32, "big"))


def _dispute(bench: Bench, meter: Meter, cycle: int) -> None:
    market, send = bench.market, bench.market.chain.send
    desk = bench.desk
    for attempt in range(20):
        terms, record, said = bench.attested(100 * cycle + attempt)
        papers = (terms.abi_tuple(), record.abi_tuple())
        gas = send(desk.tenant, desk.jobs, "dispute", *papers, said.abi_tuple(), bytes(32))
        case = _case(bench, terms, record)
        drawn = bench.draw(case, 0)
        if len(bench.jury(case, 0)) == market.argument("Disputes", "panel"):
            break
    else:
        raise BenchmarkError("no jury of different jurors in 20 disputes")
    meter.note("disputes_open", gas)
    meter.note("disputes_draw_of_3", drawn)
    meter.note("disputes_draw_per_juror", math.ceil(drawn / 3))
    commit, reveal = bench.vote(case, 0, RIGHT, MANIFEST)
    meter.note("disputes_commit", commit)
    meter.note("disputes_reveal", reveal)
    meter.note("disputes_appeal", send(desk.tenant, desk.jobs, "appeal", case.abi_tuple()))
    meter.note("disputes_draw_of_appeal", bench.draw(case, 2))
    bench.vote(case, 2, WRONG, b"another manifest")
    meter.note(
        "disputes_conclude_after_appeal",
        send(market.guardian, desk.jobs, "conclude", *papers, case.abi_tuple()),
    )
    terms, record, said = bench.attested(100 * cycle + 50)
    papers = (terms.abi_tuple(), record.abi_tuple())
    send(desk.tenant, desk.jobs, "dispute", *papers, said.abi_tuple(), bytes(32))
    case = _case(bench, terms, record)
    bench.draw(case, 0)
    bench.vote(case, 0, RIGHT, MANIFEST)
    market.chain.pass_time(market.argument("Disputes", "appeal_time"))
    gas = send(market.guardian, desk.jobs, "conclude", *papers, case.abi_tuple())
    meter.note("disputes_conclude", gas)


def _case(bench: Bench, terms: Terms, record: Record) -> Case:
    half = (
        terms.order.start_price
        + (terms.order.max_price - terms.order.start_price)
        * (record.assigned_at - terms.posted_at)
        // terms.order.auction
    )
    return Case(
        job=terms.job_id(),
        provider=record.provider,
        requester=terms.requester,
        operator=bench.desk.provider.operator.address,
        principal=ZERO_ADDRESS,
        capability=CAPABILITY,
        result=result_digest(MANIFEST, Origin(terms.job_id(), record.provider)),
        price=half,
        duration=terms.order.duration,
    )


def _conviction(bench: Bench, meter: Meter) -> None:
    """Two signed results of one job, told by a stranger."""
    desk, chain = bench.desk, bench.market.chain
    domain, key = bench.market.domain(desk.jobs), desk.provider.operator
    hunter = chain.account("hunter of liars")
    for cycle in range(CYCLES):
        terms, _ = desk.post(bench.order(10_000 + cycle))
        desk.accept(terms)
        arguments: list[object] = []
        for result in (keccak(text="one"), keccak(text="two")):
            said = Attestation(terms.job_id(), terms.order.spec, result, RECEIPT, 1, 2)
            statement = Statement(said.spec, result, RECEIPT, 1, 2)
            arguments += [statement.abi_tuple(), sign(domain, said, key)]
        nothing = Record(hunter.address, 0, 0, 0, bytes(32)).abi_tuple()
        gas = chain.send(hunter, desk.jobs, "convict", terms.abi_tuple(), nothing, *arguments)
        meter.note("jobs_convict", gas)
