# SPDX-License-Identifier: Apache-2.0
"""kill -9 at each step of a paid channel, from its deposit to its refund or its payer's withdrawal:
the agent that is started next goes on with it, each call is sent once, and accounts equal receipts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.agent_e2e.chain import USD, Deployment
from tests.agent_e2e.inference_world import DEPOSIT, Buyer, InferenceWorld
from tests.agent_e2e.leasehold import passed
from tests.agent_e2e.nursery import Nursery
from tests.support import budget
from tests.support.model_server import ModelServer, running

ACTIONS = ("deposit", "claim", "settle", "refund")
STATES = ("planned", "signed", "broadcast", "sent", "mined", "final")
WRITTEN = ("ask_deposit", "set_deposit", "begin", "end", "ask_refund", "set_refund", "see")
BATCHES = ("add", "forget")
POINTS = {
    f"{step}.{side}"
    for step in (
        *(f"channel_{action}.{state}" for action in ACTIONS for state in STATES),
        *(f"book.{written}" for written in WRITTEN),
        *(f"batch.{written}" for written in BATCHES),
    )
    for side in ("before", "after")
}
MOST_CHANNELS = 12
REQUESTS = 3  # that are served on a channel at least
DEATH = 90.0  # seconds that an agent may live before it passes a new point or all is done


#: Of a claim that a withdrawal calls for.
URGENT = {
    point
    for point in POINTS
    if point.startswith(("channel_claim", "batch", "book.see", "book.begin", "book.end"))
}


@pytest.fixture
def served() -> Iterator[ModelServer]:
    with running() as server:
        yield server


@pytest.fixture
def world(tmp_path: Path, busy_market: Deployment, served: ModelServer) -> Iterator[InferenceWorld]:
    made = InferenceWorld(tmp_path, busy_market, server=served)
    made.set_up()
    yield made
    made.close()


@pytest.fixture
def patient(
    tmp_path: Path, busy_market: Deployment, served: ModelServer
) -> Iterator[InferenceWorld]:
    """Its agent claims nothing by itself: what a channel owes is more than its gas, and never
    twenty times as much.
    """
    made = InferenceWorld(
        tmp_path, busy_market, server=served, coin_price="6", claim_hours=1_000_000
    )
    made.set_up()
    yield made
    made.close()


def state_of(world: InferenceWorld, table: str, buyer: Buyer) -> str:
    query = f"SELECT state FROM {table} WHERE channel = x'{buyer.channel.hex()}'"
    found = world.rows(query)
    return str(found[0][0]) if found else ""


def go_on(world: InferenceWorld, buyer: Buyer) -> None:
    """What a buyer does next."""
    if len(buyer.receipts) < REQUESTS:
        buyer.ask()
    elif state_of(world, "channel_refunds", buyer) != "done":
        buyer.give_back()


def is_over(world: InferenceWorld, buyer: Buyer) -> bool:
    """Whether all was given back, claimed and paid out, and nothing is under way."""
    if state_of(world, "channel_refunds", buyer) != "done" or world.waiting():
        return False
    claimed, settled = world.received()
    balance, total = buyer.on_chain()
    return claimed == settled and balance == total


def leave(world: InferenceWorld, buyer: Buyer) -> None:
    """What a buyer does next who takes its deposit out by itself."""
    if len(buyer.receipts) < REQUESTS:
        buyer.ask()
    elif not buyer.withdraws:
        assert buyer.on_chain() == (DEPOSIT, 0)
        buyer.begin_withdrawal(DEPOSIT)


def has_left(world: InferenceWorld, buyer: Buyer) -> bool:
    """Whether all that was served to a buyer who withdraws is claimed; its delay is running."""
    if not buyer.withdraws or world.waiting():
        return False
    claimed = buyer.on_chain()[1]
    return 0 < claimed == charged_of(world, buyer)[0]


Step = Callable[[InferenceWorld, Buyer], None]
End = Callable[[InferenceWorld, Buyer], bool]


def sweep(
    world: InferenceWorld, nursery: Nursery, points: set[str], step: Step, over: End
) -> list[Buyer]:
    """Agents that each die at a point that none has died at, until there is none left; the buyers
    whose channels went through that.
    """
    buyers: list[Buyer] = []
    diary, deaths = world.directory / "diary", 0
    # All of them in `make test-deep`; the others count as passed.
    tried = set(budget.every(6, sorted(points)))
    diary.write_text("".join(f"{point}\n" for point in points - tried))
    while not passed(diary) >= points:
        assert len(buyers) < MOST_CHANNELS, points - passed(diary)
        buyer = Buyer(world)
        buyers.append(buyer)
        while not over(world, buyer):
            world.fork_agent(nursery, die_at="each", diary=str(diary))
            process = world.process
            assert process is not None

            def ended() -> bool:
                if process.poll() is not None:  # noqa: B023 - used now
                    return True
                step(world, buyer)  # noqa: B023
                return process.poll() is not None or over(world, buyer)  # noqa: B023

            world.until(ended, "death", DEATH)
            assert process.poll() in (-9, None), world.log()
            deaths += process.poll() == -9
            world.kill_agent()
    # Jobs, which see the events of the whole market, have points as well.
    assert passed(diary) >= points and deaths >= len(tried)

    world.fork_agent(nursery)
    world.until(world._answers, "the agent's API", 120)
    world.until(lambda: all(over(world, buyer) for buyer in buyers), "rest", DEATH)
    return buyers


def test_kill_at_every_point_of_a_channel__each_call_once_and_accounts_equal_receipts(
    world: InferenceWorld, nursery: Nursery
) -> None:
    buyers = sweep(world, nursery, POINTS, go_on, is_over)
    assert world.stop_agent() == 0, world.log()
    made = world.check_sent_once()
    assert made["deposit"] == made["refund"] == len(buyers)
    charged = check_accounts(world, buyers)
    assert world.received() == (charged, charged)
    assert world.balance(world.owner.address) == charged


def test_kill_at_every_point_of_a_withdrawal__what_was_served_is_claimed_before_it_ends(
    patient: InferenceWorld, nursery: Nursery
) -> None:
    world = patient
    buyers = sweep(world, nursery, URGENT, leave, has_left)
    assert world.stop_agent() == 0, world.log()
    # Each channel was claimed because its payer left, all of it at once.
    assert world.check_sent_once()["claim"] == len(buyers)
    world.anvil.increase_time(86_400)
    for buyer in buyers:
        buyer.end_withdrawal()
    assert world.received()[0] == check_accounts(world, buyers)


def charged_of(world: InferenceWorld, buyer: Buyer) -> tuple[int, int]:
    """What the book has charged on a buyer's channel, and for how many requests."""
    ((charged, number),) = world.rows(
        f"SELECT charged, number FROM paid_channels WHERE channel = x'{buyer.channel.hex()}'"
    )
    return int(charged), int(number)


def check_accounts(world: InferenceWorld, buyers: list[Buyer]) -> int:
    """The payer paid what it was charged and no unit more; how much that was of all of them."""
    total = 0
    for buyer in buyers:
        balance, claimed = buyer.on_chain()
        charged, number = charged_of(world, buyer)
        assert claimed == balance == charged
        assert world.balance(buyer.account.address) == 10 * USD - claimed
        assert claimed < DEPOSIT
        # What no receipt shows is of requests whose answers were lost: their receipts were written.
        lost = number - len(buyer.receipts)
        assert buyer.paid <= claimed <= buyer.paid + lost * buyer.ceiling
        total += claimed
    return total
