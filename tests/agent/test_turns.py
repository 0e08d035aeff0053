# SPDX-License-Identifier: Apache-2.0
"""What costs nothing is had by turns: quotes, and places to upload for them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from provider_agent.modules.jobs.quotes import QuoteDesk
from provider_agent.modules.jobs.settings import JobsSettings
from provider_agent.modules.jobs.turns import Turns
from teraproof.protocol.errors import Code
from tests.agent.duty_parts import OTHER
from tests.agent.duty_rig import Rig
from tests.agent.test_quotes import accounts_with, desk_of, refused

RICH = 10**12


def made(folder: Path, slots: int) -> tuple[Rig, QuoteDesk]:
    rig = Rig(folder, agent={"slots": slots})
    rig.cycle()
    return rig, desk_of(rig)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """A provider with one slot."""
    found, _desk = made(tmp_path, 1)
    yield found
    found.duty.close()


@pytest.fixture
def desk(rig: Rig) -> QuoteDesk:
    return desk_of(rig)


def later(rig: Rig, seconds: int | None = None) -> None:
    """Until a quote of now has ended, or for some seconds."""
    rig.next_block(
        rig.settings.section(JobsSettings).quote_seconds + 5 if seconds is None else seconds
    )
    rig.cycle()


# ---------------------------------------------------------------------- quotes


@pytest.mark.parametrize("askers", [2, 4])
def test_quotes__asked_for_again_and_again__others_have_their_turn(
    rig: Rig, desk: QuoteDesk, askers: int
) -> None:
    """Whoever asks at once when its quote has ended, and never orders, comes after the others."""
    greedy, *others = accounts_with(rig, askers)
    desk.issue(*greedy)
    for other in others:
        assert refused(desk, *other) is Code.SLOTS_TAKEN
    while others:
        later(rig)
        assert refused(desk, *greedy) is Code.SLOTS_TAKEN
        desk.issue(*others.pop(0))
        for other in others:  # they ask now and then
            assert refused(desk, *other) is Code.SLOTS_TAKEN
    later(rig)
    desk.issue(*greedy)


def test_quotes__nobody_else_asks__the_same_account_gets_one_again(
    rig: Rig, desk: QuoteDesk
) -> None:
    (asked,) = accounts_with(rig, 1)
    for _ in range(5):
        desk.issue(*asked)
        later(rig)


def test_quotes__who_waited_and_left__keeps_nobody_waiting_for_long(
    rig: Rig, desk: QuoteDesk
) -> None:
    first, left, newcomer = accounts_with(rig, 3)
    desk.issue(*first)
    assert refused(desk, *left) is Code.SLOTS_TAKEN
    later(rig)
    assert refused(desk, *newcomer) is Code.SLOTS_TAKEN
    later(rig, 60)
    desk.issue(*newcomer)


def test_quotes__room_for_all_who_wait__nobody_waits(tmp_path: Path) -> None:
    rig, desk = made(tmp_path, 8)
    asked = accounts_with(rig, 8)
    for one in asked[:4]:
        desk.issue(*one)
    assert refused(desk, *asked[4]) is Code.SLOTS_TAKEN
    later(rig)
    # Four places and one who waits: three newcomers find room.
    for one in asked[5:8]:
        desk.issue(*one)
    desk.issue(*asked[4])
    rig.duty.close()


def test_quotes__who_has_ordered__is_not_behind(rig: Rig, desk: QuoteDesk) -> None:
    tenant, other = accounts_with(rig, 2)
    desk.issue(*tenant)
    later(rig)
    quote, _signature = desk.issue(*tenant)
    rig.chain.used_quotes.add(quote.nonce)
    later(rig, quote.duration + 200)
    desk.issue(*other)
    assert refused(desk, *tenant) is Code.SLOTS_TAKEN
    later(rig)
    assert refused(desk, *other) is Code.SLOTS_TAKEN
    desk.issue(*tenant)


def test_quotes__start_in_between__what_was_wasted_is_remembered(rig: Rig, desk: QuoteDesk) -> None:
    greedy, other = accounts_with(rig, 2)
    desk.issue(*greedy)
    later(rig)
    rig.restart()
    rig.cycle()
    desk = desk_of(rig)
    desk.issue(*greedy)
    assert refused(desk, *other) is Code.SLOTS_TAKEN
    later(rig)
    assert refused(desk, *greedy) is Code.SLOTS_TAKEN
    desk.issue(*other)


def test_quotes__one_balance_moves__it_holds_one_place(rig: Rig, desk: QuoteDesk) -> None:
    """Nobody waits for accounts whose money has gone."""
    first, honest, *moved = accounts_with(rig, 6)
    rig.chain.money = 0
    rig.chain.wallets = {first[0]: RICH, honest[0]: RICH}
    desk.issue(*first)
    for account, spec in moved:
        rig.chain.wallets[account] = RICH
        assert refused(desk, account, spec) is Code.SLOTS_TAKEN
        rig.chain.wallets[account] = 0
    assert refused(desk, *honest) is Code.SLOTS_TAKEN
    later(rig)
    desk.issue(*honest)


# ---------------------------------------------------------------------- places to upload


def accounts(number: int) -> list[str]:
    return [f"0x{n:040x}" for n in range(number)]


def test_reservations__one_balance_moves__others_get_a_place(rig: Rig, desk: QuoteDesk) -> None:
    rig.chain.money = 0
    for account in accounts(40):
        rig.chain.wallets[account] = RICH
        assert refused(desk, account, rig.spec()) is Code.INPUTS_MISSING
        rig.chain.wallets[account] = 0
        later(rig, 6)  # the money moves in a transaction
    rig.chain.wallets[OTHER] = RICH
    assert refused(desk, OTHER, rig.spec()) is Code.INPUTS_MISSING
    assert desk.specs_of(OTHER)


def test_reservations__held_for_long__who_sends_nothing_gives_way(
    rig: Rig, desk: QuoteDesk
) -> None:
    idle, *busy = accounts(32)
    for account in [idle, *busy]:
        refused(desk, account, rig.spec())
    assert refused(desk, OTHER, rig.spec()) is Code.UPLOADERS_BUSY
    later(rig, 121)
    for account in busy:
        assert desk.specs_of(account)  # asked for each file that comes
    assert refused(desk, OTHER, rig.spec()) is Code.INPUTS_MISSING
    assert desk.specs_of(OTHER) and not desk.specs_of(idle)
    assert all(desk.specs_of(account) for account in busy)
    # It may come again; what it has sent is still here.
    assert refused(desk, idle, rig.spec()) is Code.INPUTS_MISSING


def test_reservations__asked_for_again__no_firmer_for_that(rig: Rig, desk: QuoteDesk) -> None:
    for _ in range(3):
        for account in accounts(32):
            refused(desk, account, rig.spec())
        later(rig, 50)
    assert refused(desk, OTHER, rig.spec()) is Code.INPUTS_MISSING


# ---------------------------------------------------------------------- the line


def has_money(account: str, price: int) -> bool:
    return True


def test_line__full_of_repeaters__others_find_a_place() -> None:
    turns = Turns(90, lambda: 0.0)
    for number in range(200):
        turns.wasted(f"greedy {number}")
        turns.refused(f"greedy {number}", 1)
    turns.refused("honest", 1)
    assert turns.ahead_of("honest", has_money) == 0
    assert 1 <= turns.ahead_of("greedy 199", has_money) <= 64


def test_line__long__what_one_request_asks_of_the_nodes_is_bounded() -> None:
    looks: list[str] = []
    turns = Turns(90, lambda: 0.0)

    def look(account: str, price: int) -> bool:
        looks.append(account)
        return True

    assert turns.ahead_of("alone", look) == 0
    assert looks == [], "nothing where nobody waits"
    now = 1.0
    turns = Turns(90, lambda: now)
    for number in range(60):
        turns.refused(f"{number}", 1)
    now = 2.0
    assert turns.ahead_of("last", look) == 60
    assert 1 <= len(looks) <= 8


def test_line__old_sins_are_forgotten() -> None:
    now = 0.0
    turns = Turns(90, lambda: now)
    turns.wasted("tenant")
    now = 1.0
    turns.refused("other", 1)
    assert turns.ahead_of("tenant", has_money) == 1
    now = 1_000.0
    turns.refused("tenant", 1)
    now = 1_001.0
    turns.refused("other", 1)
    assert turns.ahead_of("tenant", has_money) == 0
    assert turns.ahead_of("other", has_money) == 1
