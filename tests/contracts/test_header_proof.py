# SPDX-License-Identifier: Apache-2.0
"""Headers of blocks, and the randomness of named ones: by BLOCKHASH, EIP-2935 and ArbSys.

The contract's reader is held against the `rlp` package, which makes the headers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import boa
import pytest
import rlp
from eth_utils.crypto import keccak
from hypothesis import given
from hypothesis import strategies as st

from teraproof.headers import HISTORY
from tests.contracts import headers
from tests.contracts.actions import go_to
from tests.contracts.deploy import Contract, deployer_of
from tests.contracts.headers import FORKS, HISTORY_CODE, HISTORY_REACH
from tests.support.anvil import Anvil

pytestmark = pytest.mark.invariant("I-14")

NUMBER = 23_456_789
TIME = 1_800_000_000
MIX = keccak(b"prevrandao")
ZERO = bytes(32)
ARB_SYS = "0x0000000000000000000000000000000000000064"
PREVRANDAO, BLOCK_HASH, ARBITRUM = 0, 1, 2

NO_HASH = "randomness: no hash of the block"
OTHER = "header: not of that block"

# Integers of every length that fits, the borders of RLP's forms among them.
integers = st.one_of(
    st.sampled_from([0, 1, 127, 128, 255, 256]),
    st.integers(0, 31).flatmap(lambda size: st.integers(0, 256**size - 1)),
)


def deploy(source: int) -> Contract:
    return deployer_of("mocks/DesignatedBlock").deploy(source)


@pytest.fixture(scope="module")
def blocks() -> Contract:
    return deploy(PREVRANDAO)


@pytest.fixture
def block() -> headers.Block:
    """The newest block."""
    headers.go_to_block(NUMBER)
    go_to(TIME)
    return headers.mine(MIX)


def refuses(contract: Contract, header: bytes) -> bool:
    """Whether `fields` refuses, for whatever reason."""
    done = boa.env.execute_code(
        to_address=contract.address, data=contract.fields.prepare_calldata(header)
    )
    return bool(done.is_error)


# ---------------------------------------------------------------------- reading


@pytest.mark.parametrize("fork", FORKS)
def test_fields__of_every_fork(blocks: Contract, fork: Any) -> None:
    header = headers.build(NUMBER, TIME, MIX, fork=fork)
    assert len(rlp.decode(header)) == FORKS[fork]
    assert blocks.fields(header) == (TIME, MIX)


@given(
    numbers=st.tuples(*[integers] * 4),
    time=integers,
    mix=st.binary(min_size=32, max_size=32),
    extra=st.one_of(st.binary(max_size=55), st.binary(min_size=56, max_size=255)),
    fork=st.sampled_from(sorted(FORKS)),
)
def test_fields__of_whatever_integers_and_extra_data(
    blocks: Contract, numbers: Any, time: Any, mix: Any, extra: Any, fork: Any
) -> None:
    difficulty, number, limit, used = numbers
    header = headers.build(
        number,
        time,
        mix,
        fork=fork,
        difficulty=difficulty,
        gas_limit=limit,
        gas_used=used,
        extra_data=extra,
    )
    assert blocks.fields(header) == (time, mix)


def test_fields__longest_header(blocks: Contract) -> None:
    """1,024 bytes are taken, and none more."""
    fields = rlp.decode(headers.build(NUMBER, TIME, MIX))
    # A field of 256 bytes or more has a head of three.
    rest = 1_024 - len(rlp.encode(fields)) - 3
    longest, longer = (rlp.encode([*fields, bytes(size)]) for size in (rest, rest + 1))
    assert (len(longest), len(longer)) == (1_024, 1_025)
    assert blocks.fields(longest) == (TIME, MIX)
    with pytest.raises(boa.BoaError):
        blocks.fields(longer)


@pytest.mark.parametrize("fork", FORKS)
def test_fields__cut_anywhere__refused(blocks: Contract, fork: Any) -> None:
    header = headers.build(NUMBER, TIME, MIX, fork=fork)
    assert all(refuses(blocks, header[:size]) for size in range(len(header)))
    assert refuses(blocks, header + b"\0")


@pytest.mark.parametrize(
    "field",
    [7, 8, 9, 10, 11],
    ids=["difficulty", "number", "gas limit", "gas used", "timestamp"],
)
def test_fields__integer_of_32_bytes__refused(blocks: Contract, field: int) -> None:
    values = rlp.decode(headers.build(NUMBER, TIME, MIX))
    values[field] = b"\x01" * 31
    assert not refuses(blocks, rlp.encode(values))
    values[field] = b"\x01" * 32
    assert refuses(blocks, rlp.encode(values))


def test_fields__extra_data_of_256_bytes__refused(blocks: Contract) -> None:
    values = rlp.decode(headers.build(NUMBER, TIME, MIX))
    values[12] = bytes(255)
    assert blocks.fields(rlp.encode(values)) == (TIME, MIX)
    values[12] = bytes(256)
    assert refuses(blocks, rlp.encode(values))


@pytest.mark.parametrize("extra", [b"\xa0" * 256, [b"\x07" * 32] * 7], ids=["long", "list"])
def test_fields__extra_data_that_looks_like_a_mix_hash_inside__refused(
    blocks: Contract, extra: Any
) -> None:
    """Whoever builds the block chooses it; wherever a reader lands, it must not find a value."""
    values = rlp.decode(headers.build(NUMBER, TIME, MIX))
    values[12] = extra
    assert refuses(blocks, rlp.encode(values))


@pytest.mark.parametrize("size", [0, 31, 33])
def test_fields__mix_hash_of_another_size__refused(blocks: Contract, size: int) -> None:
    values = rlp.decode(headers.build(NUMBER, TIME, MIX))
    values[13] = b"\x07" * size
    assert refuses(blocks, rlp.encode(values))


def test_fields__a_list_instead_of_a_number__refused(blocks: Contract) -> None:
    values = rlp.decode(headers.build(NUMBER, TIME, MIX))
    values[11] = [b"\x01"]
    assert refuses(blocks, rlp.encode(values))


# ---------------------------------------------------------------- presenting


def test_value__is_prevrandao(blocks: Contract, block: headers.Block) -> None:
    assert blocks.value(block.number, block.header) == (TIME, MIX)


def test_value__every_flipped_byte__refused(blocks: Contract, block: headers.Block) -> None:
    for at in range(len(block.header)):
        flipped = bytearray(block.header)
        flipped[at] ^= 1 << (at % 8)
        with boa.reverts(OTHER):
            blocks.value(block.number, bytes(flipped))


@given(cut=st.integers(0, 610))
def test_value__cut__refused(blocks: Contract, cut: Any) -> None:
    headers.go_to_block(NUMBER)
    go_to(TIME)
    block = headers.mine(MIX)
    with boa.reverts(OTHER):
        blocks.value(block.number, block.header[:cut])


def test_value__header_of_another_block__refused(blocks: Contract, block: headers.Block) -> None:
    headers.mine(MIX)
    with boa.reverts(OTHER):
        blocks.value(block.number + 1, block.header)
    with boa.reverts(OTHER):
        blocks.value(block.number, block.parent)


def test_value__block_to_come__refused(blocks: Contract, block: headers.Block) -> None:
    """Not even the present one: its hash is not known in it."""
    for number in (block.number + 1, block.number + 2, 2**64, 2**256 - 1):
        with boa.reverts(NO_HASH):
            blocks.value(number, block.header)
        assert blocks.hash_of(number) == ZERO


def test_value__zero__refused(blocks: Contract) -> None:
    headers.go_to_block(NUMBER)
    go_to(TIME)
    block = headers.mine(ZERO)
    with boa.reverts("randomness: none in the block"):
        blocks.value(block.number, block.header)


@pytest.mark.parametrize("source", [PREVRANDAO, BLOCK_HASH])
def test_first_block__its_parent_is_before_the_time(source: Any, block: headers.Block) -> None:
    contract = deploy(source)
    assert contract.SOURCE() == source
    arguments = (block.number, block.header, block.parent)
    expected = (TIME, MIX if source == PREVRANDAO else block.hash)
    assert contract.first_block(*arguments, TIME) == expected
    with boa.reverts("randomness: block is too early"):
        contract.first_block(*arguments, TIME + 1)
    with boa.reverts("randomness: not the first block"):
        contract.first_block(*arguments, TIME - 1)


@given(gap=st.integers(1, 10_000), after=st.integers(0, 10_000))
def test_first_block__exact_bounds(blocks: Contract, gap: Any, after: Any) -> None:
    """A block that comes late is the first one for every time since its parent's."""
    headers.go_to_block(NUMBER)
    go_to(TIME + after)
    block = headers.mine(MIX, seconds=gap)
    arguments = (block.number, block.header, block.parent, TIME)
    if after < gap:
        assert blocks.first_block(*arguments) == (TIME + after, MIX)
    else:
        with boa.reverts("randomness: not the first block"):
            blocks.first_block(*arguments)


def test_first_block__another_parent__refused(blocks: Contract, block: headers.Block) -> None:
    forged = headers.build(block.number - 1, TIME - 5, MIX)
    for parent in (forged, block.header, b"", block.parent[:-1]):
        with boa.reverts("header: not of the parent"):
            blocks.first_block(block.number, block.header, parent, TIME)


@pytest.mark.parametrize("source", [PREVRANDAO, BLOCK_HASH])
def test_first_block__without_a_header__refused(source: Any, block: headers.Block) -> None:
    reason = OTHER if source == PREVRANDAO else "randomness: block is too early"
    with boa.reverts(reason):
        deploy(source).first_block(block.number, b"", block.parent, TIME)


# -------------------------------------------------------------------- sources


def test_source__unknown() -> None:
    with boa.reverts("randomness: unknown source"):
        deploy(3)


def test_block_hash__is_the_value_with_or_without_a_header(block: headers.Block) -> None:
    contract = deploy(BLOCK_HASH)
    assert contract.value(block.number, block.header) == (TIME, block.hash)
    assert contract.value(block.number, b"") == (0, block.hash)
    with boa.reverts(OTHER):
        contract.value(block.number, block.parent)


def test_prevrandao__needs_the_header(blocks: Contract, block: headers.Block) -> None:
    with boa.reverts(OTHER):
        blocks.value(block.number, b"")


def test_hash__by_blockhash_for_256_blocks__exact(blocks: Contract, block: headers.Block) -> None:
    headers.go_to_block(block.number + 256)
    assert blocks.hash_of(block.number) == block.hash
    headers.go_to_block(block.number + 257)
    assert blocks.hash_of(block.number) == ZERO
    with boa.reverts(NO_HASH):
        blocks.value(block.number, block.header)


def test_hash__by_the_history_contract_for_8191_blocks__exact(
    blocks: Contract, block: headers.Block
) -> None:
    headers.keep(block.number, block.header)
    for distance in (257, HISTORY_REACH):
        headers.go_to_block(block.number + distance)
        assert blocks.hash_of(block.number) == block.hash
        assert blocks.value(block.number, block.header) == (TIME, MIX)
    headers.go_to_block(block.number + HISTORY_REACH + 1)
    assert blocks.hash_of(block.number) == ZERO


def test_hash__history_that_knows_nothing_of_the_block(
    blocks: Contract, block: headers.Block
) -> None:
    """The contract is there since a later block than the one that is asked for."""
    boa.env.set_code(HISTORY, HISTORY_CODE)
    headers.go_to_block(block.number + 300)
    assert blocks.hash_of(block.number) == ZERO


def test_hash__history_of_another_make(blocks: Contract, block: headers.Block) -> None:
    """An answer that is not a word is none: 31 bytes, or the 33rd is cut off."""
    headers.go_to_block(block.number + 300)
    boa.env.set_code(HISTORY, bytes.fromhex("601f5ff3"))
    assert blocks.hash_of(block.number) == ZERO
    boa.env.set_code(HISTORY, bytes.fromhex("60015f5260215ff3"))
    assert blocks.hash_of(block.number) == (1).to_bytes(32, "big")
    # A refusal is none either, whatever it says.
    boa.env.set_code(HISTORY, bytes.fromhex("60015f5260205ffd"))
    assert blocks.hash_of(block.number) == ZERO


@pytest.fixture
def arb_sys() -> Contract:
    """Arbitrum's precompile, with numbers that are not those of `block.number`."""
    deployer = deployer_of("mocks/ArbSys")
    boa.env.set_code(ARB_SYS, boa.env.get_code(deployer.deploy().address))
    return deployer.at(ARB_SYS)


def test_arbitrum__numbers_and_hashes_are_those_of_arb_sys(arb_sys: Contract) -> None:
    contract = deploy(ARBITRUM)
    block = headers.block(2**33, TIME, MIX)
    headers.go_to_block(20_000_000)
    arb_sys.set_block(block.number + 1, block.hash)
    assert contract.number() == block.number + 1
    assert contract.hash_of(block.number) == block.hash
    assert contract.value(block.number, b"") == (0, block.hash)
    assert contract.value(block.number, block.header) == (TIME, block.hash)
    found = contract.first_block(block.number, block.header, block.parent, TIME)
    assert found == (TIME, block.hash)
    # A block of the chain whose numbers `block.number` follows.
    assert contract.hash_of(19_999_999) == ZERO
    assert contract.hash_of(block.number + 1) == ZERO


def test_arbitrum__hashes_far_back_are_those_of_its_history_contract(arb_sys: Contract) -> None:
    contract = deploy(ARBITRUM)
    block = headers.block(2**33, TIME, MIX)
    arb_sys.set_block(block.number + 1, block.hash)
    arb_sys.set_block(block.number + 256, ZERO)
    assert contract.hash_of(block.number) == block.hash
    arb_sys.set_block(block.number + 257, ZERO)
    assert contract.hash_of(block.number) == ZERO
    # Its history contract counts in its own numbers; the plain one will do for one answer.
    headers.go_to_block(block.number + 257)
    headers.keep(block.number, block.header)
    assert contract.hash_of(block.number) == block.hash


def test_arbitrum__without_arb_sys__refused() -> None:
    contract = deploy(ARBITRUM)
    with pytest.raises(boa.BoaError):
        contract.number()


# ------------------------------------------------------------------- real nodes


@pytest.fixture(scope="module")
def node() -> Iterator[Anvil]:
    """Anvil: real headers, real hashes, the real history contract."""
    with Anvil(arguments=["--hardfork", "prague"]) as chain:
        yield chain


def test_node__its_headers_and_history_are_what_the_contracts_expect(
    node: Anvil, blocks: Contract
) -> None:
    """The contract itself runs on the node, and reads its blocks near and far."""
    sender = node.accounts[0].address
    initcode = bytes(deployer_of("mocks/DesignatedBlock").compiler_data.bytecode)
    receipt = node.wait(node.send(sender, data=initcode + PREVRANDAO.to_bytes(32, "big")))
    address = receipt["contractAddress"]
    assert node.rpc("eth_getCode", HISTORY, "latest") == "0x" + HISTORY_CODE.hex()

    def ask(name: str, *arguments: Any) -> bytes:
        data = getattr(blocks, name).prepare_calldata(*arguments)
        answer = node.rpc("eth_call", {"to": address, "data": "0x" + data.hex()}, "latest")
        return bytes.fromhex(answer[2:])

    node.mine(3, 12)
    number = node.number() - 1
    header, parent = (headers.of_node(node.block(n)) for n in (number, number - 1))
    time = int(node.block(number)["timestamp"], 16)
    mix = bytes.fromhex(node.block(number)["mixHash"][2:])
    expected = time.to_bytes(32, "big") + mix
    for distance in (2, 256, 257, 1_000):
        node.mine(number + distance - node.number())
        assert ask("value", number, header) == expected
        assert ask("first_block", number, header, parent, time) == expected
        assert ask("hash_of", number).hex() == node.block(number)["hash"][2:]
