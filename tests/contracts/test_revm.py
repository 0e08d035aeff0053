# SPDX-License-Identifier: Apache-2.0
"""The fast machine agrees with titanoboa to the byte, and its packing with eth_abi."""

from __future__ import annotations

import random
from typing import Any

import boa
import pytest
from eth_abi.abi import decode, encode
from eth_utils.address import to_checksum_address

from tests.contracts import actions
from tests.contracts.codec import Function, members, split_members
from tests.contracts.deploy import (
    DAY,
    TPF,
    Suite,
    address_of,
    compiled_by_boa,
    deploy_suite,
    deployed_by,
)
from tests.contracts.revm import Handle, Revm

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
    more = ("uint256[]", "bytes32[]", "bytes32[][]", "(uint256,address)", "(bytes,uint8)[]")
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


def twins() -> tuple[Suite, Revm, dict[str, Any]]:
    """The suite on both machines, at the same addresses and the same time."""
    chain, made = Revm(actions.now()), {}
    with deployed_by(chain.deployer):
        deploy_suite(with_benchmark=True)
    with deployed_by(lambda name: Named(name, chain, made)):
        suite = deploy_suite(with_benchmark=True)
    return suite, chain, made


def step(source: random.Random, chain: Revm) -> None:
    """Time passes on both alike."""
    if source.random() < 0.1:
        chain.now += source.choice((1, 60, 3_600, 10 * DAY))
    boa.env.evm.patch.timestamp = chain.now
    boa.env.evm.patch.block_number = chain.number
    boa.env.evm.patch.prevrandao = chain.prevrandao


def test_replay__both_machines_agree_to_the_byte() -> None:
    """Outputs, revert data and logs of random transactions; every fifth one makes sense."""
    suite, chain, made = twins()
    source = random.Random(7)
    people = [address_of(f"anyone {n}") for n in range(6)]
    for person in people:
        for machine in (suite, Handles(chain)):
            machine.token.transfer(person, 10**6 * TPF, sender=suite.faucet)
            machine.token.approve(suite.staking.address, 2**255, sender=person)
            machine.payment.mint(person, 10**12)
            machine.payment.approve(suite.jobs.address, 2**255, sender=person)
    calls = [(n, f) for n, c in chain.contracts.items() for f in c.functions.values()]
    done = 0
    for _ in range(TRANSACTIONS):
        step(source, chain)
        name, function = source.choice(calls)
        args = [random_value(kind, source) for kind in function.inputs]
        data = function.data(args)
        sender = source.choice((*people, suite.owner, suite.deployer))
        done += agree(chain, made, name, data, sender)
    assert done > TRANSACTIONS // 10, "next to nothing went through"


class Handles:
    """The two tokens on the fast machine, by their names in Suite."""

    def __init__(self, chain: Revm) -> None:
        self.token = Handle(chain, "Token", chain.addresses["Token"])
        self.payment = Handle(
            chain, "testnet/PaymentToken", chain.addresses["testnet/PaymentToken"]
        )


def agree(chain: Revm, made: dict[str, Any], name: str, data: bytes, sender: str) -> bool:
    """One transaction on both; True if it went through."""
    output, failed = chain.raw(chain.addresses[name], data, sender)
    slow = boa.env.execute_code(to_address=chain.addresses[name], sender=sender, data=data)
    assert slow.is_error == (failed is not None), (name, data.hex(), failed, slow.output)
    assert bytes(slow.output).hex() == (failed if failed is not None else output.hex())
    if failed is None:
        seen = [
            (to_checksum_address(address), tuple(topic.to_bytes(32, "big") for topic in topics), d)
            for _, address, topics, d in slow.get_raw_log_entries()
        ]
        assert seen == [(log.address, log.topics, log.data) for log in chain.logs()]
    return failed is None
