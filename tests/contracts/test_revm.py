# SPDX-License-Identifier: Apache-2.0
"""The fast machine agrees with titanoboa to the byte, and its packing with eth_abi."""

from __future__ import annotations

import random
from typing import Any

import boa
import pytest
from eth_abi.abi import decode, encode
from eth_utils.address import to_checksum_address

from teraproof.headers import HISTORY
from tests.contracts import headers
from tests.contracts.codec import Function, members, split_members
from tests.contracts.deploy import (
    DAY,
    address_of,
    compiled_by_boa,
    deploy_suite,
    deployed_by,
)
from tests.contracts.revm import Revm
from tests.contracts.stateful.driver import Tally, run
from tests.contracts.stateful.market import Market
from tests.contracts.stateful.world import MANAGERS, PARAMETERS, STARTED, build
from tests.contracts.two_machines import titanoboa_alone

TRANSACTIONS = 1_500


def random_value(kind: str, source: random.Random) -> Any:
    """A value of an ABI type; small numbers and edges are likely."""
    if kind.endswith("]"):
        inner, _, size = kind[:-1].rpartition("[")
        return [random_value(inner, source) for _ in range(int(size or source.randrange(4)))]
    if kind.startswith("("):
        return tuple(random_value(part, source) for part in split_members(kind[1:-1]))
    if kind == "address":
        return address_of(f"anyone {source.randrange(6)}")
    if kind == "bool":
        return source.random() < 0.5
    if kind == "string":
        return "x" * source.randrange(70)
    if kind == "bytes":
        return source.randbytes(source.choice((0, 1, 31, 32, 65)))
    if kind.startswith("bytes"):
        return source.randbytes(int(kind[5:]))
    bits = int(kind.removeprefix("uint"))
    return source.choice(
        (0, 1, source.randrange(10**6) % 2**bits, source.randrange(2**bits), 2**bits - 1)
    )


@pytest.mark.parametrize("seed", range(40))
def test_codec__agrees_with_eth_abi(seed: int) -> None:
    source = random.Random(seed)
    plain = ("uint256", "address", "bytes32", "bool", "bytes", "string", "uint64", "bytes4")
    more: tuple[str, ...] = (
        "uint256[]",
        "bytes32[]",
        "bytes32[][]",
        "(uint256,address)",
        "(bytes,uint8)[]",
    )
    more += ("(address,uint64)[3]",)
    types = tuple(source.choice(plain + more) for _ in range(source.randrange(1, 7)))
    values = tuple(random_value(kind, source) for kind in types)
    packed = members(types).pack(values)
    assert packed == encode(types, values)
    entry = {"name": "f", "inputs": [], "outputs": [as_entry(kind) for kind in types]}
    seen = Function(entry).value(packed)
    seen = (seen,) if len(types) == 1 else seen
    assert normal(seen) == normal(decode(types, packed))


def as_entry(kind: str) -> dict[str, Any]:
    if not kind.startswith("("):
        return {"type": kind}
    inner, _, rest = kind[1:].partition(")")
    return {"type": f"tuple{rest}", "components": [{"type": t} for t in inner.split(",")]}


def normal(value: Any) -> Any:
    """Lists and tuples alike, addresses in small letters."""
    if isinstance(value, list | tuple):
        return [normal(part) for part in value]
    return value.lower() if isinstance(value, str) else value


class Named:
    """titanoboa's deployer, at an address of choice."""

    def __init__(self, name: str, chain: Revm, made: dict[str, Any]) -> None:
        self.name, self.chain, self.made = name, chain, made

    def deploy(self, *args: Any) -> Any:
        contract = compiled_by_boa(self.name).deploy(
            *args, override_address=self.chain.addresses[self.name]
        )
        self.made[self.name] = contract
        return contract


def twins() -> Revm:
    """The suite on both machines, at the same addresses and the same time."""
    chain, made = Revm(STARTED), dict[str, Any]()
    boa.env.evm.patch.timestamp = STARTED
    with deployed_by(chain.deployer):
        deploy_suite(with_benchmark=True, with_court=True)
    with deployed_by(lambda name: Named(name, chain, made)):
        deploy_suite(with_benchmark=True, with_court=True)
    return chain


def repeat(address: str, data: bytes, sender: str, done: bool, output: bytes, logs: Any) -> None:
    """A transaction of the fast machine on titanoboa: output, revert data and logs to the byte."""
    slow = boa.env.execute_code(to_address=address, sender=sender, data=data)
    assert slow.is_error != done, (address, data.hex(), output, slow.output)
    assert bytes(slow.output) == output
    if done:
        seen = [
            (to_checksum_address(a), tuple(topic.to_bytes(32, "big") for topic in topics), d)
            for _, a, topics, d in slow.get_raw_log_entries()
        ]
        assert seen == [(log.address, log.topics, log.data) for log in logs]


@titanoboa_alone()
def test_replay__random_calls_agree_to_the_byte() -> None:
    """Any function with any arguments, most of them refused."""
    chain = twins()
    source = random.Random(7)
    calls = [(n, f) for n, c in chain.contracts.items() for f in c.functions.values()]
    people = [address_of(f"anyone {n}") for n in range(6)] + [address_of("owner")]
    chain.journal = []
    for _ in range(TRANSACTIONS):
        name, function = source.choice(calls)
        args = [random_value(kind, source) for kind in function.inputs]
        chain.raw(chain.addresses[name], function.data(args), source.choice(people))
        if source.random() < 0.1:
            chain.now += source.choice((1, 60, 3_600, 10 * DAY))
    replay(chain.journal)


@titanoboa_alone()
def test_replay__the_market_agrees_to_the_byte() -> None:
    """What the stateful machine did in an example, set-up and all, again on titanoboa."""
    chain, journal, made = Revm(STARTED), list[tuple[Any, ...]](), dict[str, Any]()
    world = build(chain, journal)
    boa.env.evm.patch.timestamp = STARTED
    headers.keep(1, b"")
    with deployed_by(lambda name: Named(name, chain, made)):
        deploy_suite(PARAMETERS, with_benchmark=True, with_court=True, managers=MANAGERS)
    run(lambda: Market(world), 1, 150, Tally())
    replay(journal)


def replay(journal: list[tuple[Any, ...]]) -> None:
    """Everything that was written down, on titanoboa."""
    kept: dict[int, Any] = {}
    went_through = 0
    for what, *rest in journal:
        if what == "block":
            boa.env.evm.patch.timestamp, boa.env.evm.patch.block_number = rest
        elif what == "hash":
            boa.env.set_storage(HISTORY, *rest)
        elif what == "keep":
            kept[rest[0]] = boa.env.evm.snapshot()
        elif what == "undo":
            boa.env.evm.revert(kept.pop(rest[0]))
        else:
            repeat(*rest)
            went_through += rest[3]
    assert went_through > len(journal) // 20, "next to nothing went through"
