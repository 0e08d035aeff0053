# SPDX-License-Identifier: Apache-2.0
"""kill -9 at each step of a paid channel, from its deposit to its refund: the agent that is started
next goes on with it, each call is sent once, and accounts equal receipts.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent_e2e.chain import USD, Deployment
from tests.agent_e2e.inference_world import DEPOSIT, Buyer, InferenceWorld
from tests.agent_e2e.leasehold import passed
from tests.agent_e2e.nursery import Nursery
from tests.support import budget
from tests.support.model_server import running

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


@pytest.fixture
def world(tmp_path: Path, busy_market: Deployment) -> Iterator[InferenceWorld]:
    with running() as server:
        made = InferenceWorld(tmp_path, busy_market, server=server)
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


def test_kill_at_every_point_of_a_channel__each_call_once_and_accounts_equal_receipts(
    tmp_path: Path, world: InferenceWorld, nursery: Nursery
) -> None:
    buyers: list[Buyer] = []
    diary, deaths = tmp_path / "diary", 0
    # All of them in `make test-deep`; the others count as passed.
    tried = set(budget.every(6, sorted(POINTS)))
    diary.write_text("".join(f"{point}\n" for point in POINTS - tried))
    while not passed(diary) >= POINTS:
        assert len(buyers) < MOST_CHANNELS, POINTS - passed(diary)
        buyer = Buyer(world)
        buyers.append(buyer)
        while not is_over(world, buyer):
            world.fork_agent(nursery, die_at="each", diary=str(diary))
            process = world.process
            assert process is not None

            def ended() -> bool:
                if process.poll() is not None:  # noqa: B023 - used now
                    return True
                go_on(world, buyer)  # noqa: B023
                return process.poll() is not None or is_over(world, buyer)  # noqa: B023

            world.until(ended, "death", DEATH)
            assert process.poll() in (-9, None), world.log()
            deaths += process.poll() == -9
            world.kill_agent()
    # Jobs, which see the events of the whole market, have points as well.
    assert passed(diary) >= POINTS and deaths >= len(tried)

    world.fork_agent(nursery)
    world.until(world._answers, "the agent's API", 120)
    world.until(lambda: all(is_over(world, buyer) for buyer in buyers), "rest", DEATH)
    assert world.stop_agent() == 0, world.log()
    made = world.check_sent_once()
    assert made["deposit"] == made["refund"] == len(buyers)
    check_accounts(world, buyers)


def check_accounts(world: InferenceWorld, buyers: list[Buyer]) -> None:
    """The payer paid what it was charged and no unit more, and the provider has just that."""
    charged = 0
    for buyer in buyers:
        balance, claimed = buyer.on_chain()
        ((row_charged, number),) = world.rows(
            f"SELECT charged, number FROM paid_channels WHERE channel = x'{buyer.channel.hex()}'"
        )
        assert claimed == balance == int(row_charged)
        assert world.balance(buyer.account.address) == 10 * USD - claimed
        assert claimed < DEPOSIT
        # What no receipt shows is of requests whose answers were lost: their receipts were written.
        lost = int(number) - len(buyer.receipts)
        assert buyer.paid <= claimed <= buyer.paid + lost * buyer.ceiling
        charged += claimed
    assert world.received() == (charged, charged)
    assert world.balance(world.owner.address) == charged
