# SPDX-License-Identifier: Apache-2.0
"""Many reads in one request: the same answers as one by one, whatever the node thinks of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from teraproof.rpc import gather
from teraproof.rpc.client import RpcPool
from teraproof.rpc.errors import Reverted
from tests.agent.faulty_rpc import FaultyRpc, Mode
from tests.support.anvil import Anvil

VIEW = "0x" + "be" * 20
# Gives one more than the word behind the selector; reverts for zero, and gives nothing for one.
CODE = "0x600435 80 15 6021 57 80 6001 14 601f 57 6001 01 6000 52 6020 6000 f3".replace(" ", "")
CODE += "00" * (0x1F - len(CODE[2:]) // 2) + "5b00" + "5b60006000fd"
PAIR = "0x" + "bd" * 20
# Gives the word behind the selector and its complement; reverts for zero.
PAIR_CODE = "0x600435 80 600c 57 6000 6000 fd 5b 80 6000 52 19 6020 52 6040 6000 f3".replace(
    " ", ""
)
SELECTOR = b"\xaa\xbb\xcc\xdd"


class Counting:
    """A pool over a node, and how often each method was asked for."""

    def __init__(self, url: str, chain_id: int) -> None:
        self.asked: Counter[str] = Counter()
        self.pool = RpcPool([url], chain_id, timeout=5, max_wait=1, observer=self._count)

    def _count(self, endpoint: str, method: str, outcome: str, seconds: float) -> None:
        self.asked[method] += 1


@pytest.fixture
def view(anvil: Anvil) -> str:
    anvil.rpc("anvil_setCode", VIEW, CODE)
    return VIEW


@pytest.fixture
def made(anvil: Anvil, view: str) -> Iterator[Counting]:
    found = Counting(anvil.url, anvil.chain_id)
    yield found
    found.pool.close()


def calls(*numbers: int) -> list[bytes]:
    return [SELECTOR + number.to_bytes(32, "big") for number in numbers]


def numbers(found: list[bytes]) -> list[int]:
    return [int.from_bytes(word, "big") for word in found]


@pytest.mark.parametrize("count", [1, 2, 17, gather.MOST, gather.MOST + 1, 1_000])
def test_read_many__one_request_for_each_400(made: Counting, count: int) -> None:
    asked = list(range(2, 2 + count))
    found = made.pool.read_many(VIEW, calls(*asked), "latest")
    assert numbers(found) == [number + 1 for number in asked]
    assert made.asked["eth_call"] == -(-count // gather.MOST)


@pytest.mark.parametrize("count", [1, 2, gather.MOST // 2, gather.MOST // 2 + 1])
def test_read_many__two_words_each__one_request_for_each_200(
    anvil: Anvil, made: Counting, count: int
) -> None:
    anvil.rpc("anvil_setCode", PAIR, PAIR_CODE)
    asked = list(range(1, 1 + count))
    found = made.pool.read_many(PAIR, calls(*asked), "latest", 2)
    both = [number.to_bytes(32, "big") + (~number % 2**256).to_bytes(32, "big") for number in asked]
    assert found == both
    assert made.asked["eth_call"] == -(-2 * count // gather.MOST)


def test_read_many__other_than_the_words_asked_for__as_one_by_one(
    anvil: Anvil, made: Counting
) -> None:
    anvil.rpc("anvil_setCode", PAIR, PAIR_CODE)
    assert [len(one) for one in made.pool.read_many(PAIR, calls(5, 6), "latest", 1)] == [64, 64]
    with pytest.raises(Reverted):
        made.pool.read_many(PAIR, calls(5, 0), "latest", 2)


def test_read_many__none__nothing_is_asked(made: Counting) -> None:
    assert made.pool.read_many(VIEW, [], "latest") == [] and not made.asked["eth_call"]


def test_first_byte_of_a_word_is_no_code(made: Counting) -> None:
    """What begins with 0xef is refused as code, but not behind another byte."""
    high = 0xEF << 248
    assert numbers(made.pool.read_many(VIEW, calls(high, high), "latest")) == [high + 1] * 2


def test_one_reverts__the_error_is_its_own(made: Counting) -> None:
    with pytest.raises(Reverted):
        made.pool.read_many(VIEW, calls(5, 0, 6), "latest")
    assert numbers(made.pool.read_many(VIEW, calls(5, 6), "latest")) == [6, 7]
    assert made.asked["eth_call"] == 1 + 2 + 1, "the next ones are together again"


def test_one_gives_nothing__as_one_by_one(made: Counting) -> None:
    assert made.pool.read_many(VIEW, calls(5, 1), "latest") == [(6).to_bytes(32, "big"), b""]


def test_node_refuses_it__asked_one_by_one_from_then_on(anvil: Anvil, view: str) -> None:
    with FaultyRpc(anvil.url) as proxy:
        made = Counting(proxy.url, anvil.chain_id)
        proxy.fault(Mode.GARBAGE, "eth_call", times=3)
        assert numbers(made.pool.read_many(VIEW, calls(5, 6, 7), "latest")) == [6, 7, 8]
        before = made.asked["eth_call"]
        assert numbers(made.pool.read_many(VIEW, calls(5, 6), "latest")) == [6, 7]
        assert made.asked["eth_call"] == before + 2
        made.pool.close()


def test_program__too_many_or_of_two_lengths__refused() -> None:
    for wrong in (calls(*range(gather.MOST + 1)), [b"\1" * 36, b"\1" * 35], [b"\1" * 200]):
        with pytest.raises(Exception, match="calls of one length"):
            gather.program(VIEW, wrong)
