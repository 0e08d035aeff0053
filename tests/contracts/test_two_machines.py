# SPDX-License-Identifier: Apache-2.0
"""titanoboa on revm says what titanoboa says on py-evm alone, and undoes what it would undo."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import boa
import pytest

from tests.contracts import headers
from tests.contracts.deploy import address_of
from tests.contracts.two_machines import Done, Refused, TwoMachines, titanoboa_alone

SOURCE = """
event Noted:
    who: indexed(address)
    amount: uint256

notes: public(HashMap[uint256, uint256])
done: transient(bool)

@external
@payable
def note(key: uint256, amount: uint256) -> uint256:
    assert not self.done, "twice"
    self.done = True
    assert amount < 2**16, "too large"
    assert amount != 7
    self.notes[key] += amount
    log Noted(who=msg.sender, amount=self.notes[key])
    return self.notes[key]

@external
@view
def hash_of(number: uint256) -> bytes32:
    return blockhash(number)

@external
def note_hash(number: uint256):
    assert blockhash(number) != empty(bytes32), "none"
    self.notes[number] = convert(blockhash(number), uint256)

@external
@view
def chain() -> uint256:
    return chain.id

@external
@view
def clock() -> (uint256, uint256, uint256):
    return block.timestamp, block.number, convert(block.prevrandao, uint256)
"""
SLOTS = 4

pytestmark = pytest.mark.skipif(
    not isinstance(boa.env.evm, TwoMachines), reason="titanoboa was asked to stay as it is"
)


@pytest.fixture(scope="module")
def compiled() -> Any:
    return boa.loads_partial(SOURCE)


@pytest.fixture
def book(compiled: Any) -> Any:
    return compiled.deploy()


def states(book: Any) -> list[int]:
    return [book.notes(key) for key in range(SLOTS)]


def answer_of(book: Any) -> type:
    """What titanoboa has seen of the last call."""
    return type(book._computation)


def history(compiled: Any, seed: int) -> Iterator[Any]:
    """Calls, writes past the contract, blocks, and returns to earlier states, as seen by a test."""
    source = random.Random(seed)
    # Where it would stand by itself follows from what other tests have deployed.
    book = compiled.deploy(override_address=address_of("the book"))
    kept = []
    for _ in range(60):
        what = source.randrange(7)
        key, value = source.randrange(SLOTS), source.choice((1, 6, 7, 2**16, 2**200))
        if what == 0:
            kept.append(boa.env.evm.snapshot())
        elif what == 1 and kept:
            del kept[(place := source.randrange(len(kept))) + 1 :]
            boa.env.evm.revert(kept.pop(place))
        elif what == 2:
            place = book.compiler_data.storage_layout["storage_layout"]["notes"]["slot"]
            boa.env.set_storage(book.address, place + 1, value)
            yield boa.env.get_storage(book.address, place + 1)
        elif what == 3:
            boa.env.time_travel(seconds=value % 100)
            yield book.clock()
        elif what == 4:
            headers.mine(value.to_bytes(32, "big"))
            number = max(headers.block_number() - 1 - key, 0)
            book.note_hash(number)
            yield book.hash_of(number)
        else:
            boa.env.evm.vm.state.clear_transient_storage()
            data = book.note.prepare_calldata(key, value)
            done = boa.env.execute_code(
                to_address=book.address, sender=address_of("anyone"), data=data
            )
            yield done.is_error, bytes(done.output), [*done.get_raw_log_entries()]
        yield states(book), str(boa.env.evm.get_balance(book.address))


@pytest.mark.parametrize("seed", range(5))
def test_history__is_that_of_titanoboa_alone(compiled: Any, seed: int) -> None:
    begun = boa.env.evm.patch.block_number, boa.env.timestamp
    with boa.env.anchor():
        seen = list(history(compiled, seed))
    with titanoboa_alone():
        boa.env.evm.patch.block_number, boa.env.timestamp = begun
        alone = list(history(compiled, seed))
    assert seen == alone and len(seen) > 60


def test_call__runs_on_revm__and_its_refusal_names_the_line(book: Any) -> None:
    assert book.note(1, 6) == 6
    assert answer_of(book) is Done
    with boa.reverts("too large"):
        book.note(1, 2**16)
    assert answer_of(book) is Refused
    with pytest.raises(boa.BoaError, match="assert amount != 7"):
        book.note(1, 7)
    assert book.note(1, 1) == 7


def test_refusal__is_looked_at_too_late__says_so(book: Any) -> None:
    data = book.note.prepare_calldata(1, 2**16)
    refused = boa.env.execute_code(to_address=book.address, data=data)
    book.note(1, 1)
    with pytest.raises(AssertionError, match="other things have happened"):
        _ = refused.call_trace


def test_transient_storage__ends_with_the_transaction(book: Any) -> None:
    assert [book.note(1, 1), book.note(1, 1)] == [1, 2]


def test_chain_id__of_a_tests_choice(book: Any) -> None:
    assert book.chain() == 1
    boa.env.evm.patch.chain_id = 5
    assert book.chain() == 5
    assert book.note(2, 3) == 3
    boa.env.evm.patch.chain_id = 1
    assert (book.chain(), book.notes(2)) == (1, 3)


def test_hash__is_the_one_that_the_test_has_made(book: Any) -> None:
    made = headers.mine(b"\x01" * 32)
    assert book.hash_of(made.number) == made.hash
    book.note_hash(made.number)
    assert book.notes(made.number) == int.from_bytes(made.hash, "big")


def test_money_and_code__are_undone(book: Any) -> None:
    rich = address_of("rich")
    before = boa.env.get_code(book.address)
    with boa.env.anchor():
        boa.env.set_balance(rich, 10)
        book.note(1, 1, value=4, sender=rich)
        assert (boa.env.get_balance(rich), boa.env.get_balance(book.address)) == (6, 4)
        boa.env.set_code(book.address, bytes.fromhex("60015f5260205ff3"))
        assert book.notes(1) == 1  # the code that says 1 to everything
        assert boa.env.get_storage(book.address, 0) == 0
    assert (boa.env.get_balance(rich), boa.env.get_balance(book.address)) == (0, 0)
    assert boa.env.get_code(book.address) == before
    assert states(book) == [0] * SLOTS


def test_address__follows_from_the_deployments_that_stand(compiled: Any) -> None:
    with boa.env.prank(address_of("maker")):
        with boa.env.anchor():
            first, second = compiled.deploy(), compiled.deploy()
            assert first.note(0, 5) == 5
        again = compiled.deploy()
        assert again.address == first.address != second.address
        assert states(again) == [0] * SLOTS
        chosen = compiled.deploy(override_address=address_of("a place"))
        assert chosen.address == address_of("a place") and chosen.note(0, 2) == 2
        assert compiled.deploy().address == second.address


def test_internal_function__is_called_by_itself__between_calls_of_its_contract() -> None:
    tally = boa.loads("""
kept: public(uint256)

@internal
def _add(amount: uint256) -> uint256:
    assert amount < 9, "too many"
    self.kept += amount
    return self.kept

@external
def add(amount: uint256) -> uint256:
    return self._add(amount)
""")
    with boa.env.anchor():
        assert tally.internal._add(2) == 2
        assert answer_of(tally) is Done
        assert tally.add(3) == 5
        with boa.reverts("too many"):
            tally.internal._add(9)
    assert tally.kept() == 0
