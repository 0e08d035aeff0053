# SPDX-License-Identifier: Apache-2.0
"""RPC endpoints that go wrong when a transaction is sent, or all the time: one job each.

A case is the trouble, whether a good endpoint stands next to the bad one, and the transaction that
it hits. In all of them the job is finished, and nothing lands twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future

import pytest

from tests.agent.faulty_rpc import FaultyRpc, Mode
from tests.agent_e2e.chain import Deployment
from tests.agent_e2e.nursery import Nursery
from tests.agent_e2e.together import together
from tests.agent_e2e.world import World
from tests.support import budget

SEND = "eth_sendRawTransaction"
# Answers to the transaction itself, and how often they are given.
ANSWERS = {
    Mode.HANG: 2,
    Mode.DROP: 2,
    Mode.DROP_RESPONSE: 2,
    Mode.ERROR_500: 3,
    Mode.GARBAGE: 3,
    Mode.RATE_LIMIT: 2,
    Mode.NONCE_TOO_LOW: 3,
    Mode.NONCE_TOO_LOW_AFTER: 2,
    Mode.UNDERPRICED: 3,
    Mode.KNOWN_AFTER: 2,
    Mode.KNOWN: 1,
}
# What an endpoint does to every request, for as long as the job takes.
ALWAYS = (Mode.LAG, Mode.HANG, Mode.ERROR_500, Mode.GARBAGE, Mode.WRONG_CHAIN)
HITS = ("accept", "attest")
# With a good endpoint next to the bad one.
BESIDE = (Mode.HANG, Mode.DROP_RESPONSE, Mode.NONCE_TOO_LOW_AFTER)


def cases() -> list[str]:
    """Each trouble at one of the two transactions, in turn; in `make test-deep` at both."""
    found = [
        f"{mode}-{place}-{hit}"
        for n, mode in enumerate(ANSWERS)
        for m, place in enumerate(("alone", "beside"))
        for hit in HITS
        if (place == "alone" or mode in BESIDE) and (budget.deep() or hit == HITS[(n + m) % 2])
    ]
    return [*found, *(f"{mode}-beside-always" for mode in ALWAYS), "lag-alone-always"]


@pytest.fixture(scope="module")
def outcomes(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    busy_market: Deployment,
    nursery: Nursery,
) -> Iterator[dict[str, Future[None]]]:
    # Made by one thread: pytest's factory is not made for several.
    base = tmp_path_factory.mktemp("cases")

    def run(case: str) -> None:
        name, place, hit = case.split("-")
        mode = Mode(name)
        world = World(
            base / case,
            busy_market,
            # A node that answers may be slow; one that hangs is waited for each time.
            settings={"TERAPROOF_CHAIN__RPC_TIMEOUT_SECONDS": "3"} if mode is Mode.HANG else {},
        ).set_up()
        with FaultyRpc(world.anvil.url) as proxy:
            world.rpc_urls = [proxy.url] + ([world.anvil.url] if place == "beside" else [])
            if hit == "always":
                rule = proxy.fault(mode, blocks=3)
            else:
                # The first transaction accepts; those that are let through come before the fault.
                rule = proxy.fault(mode, SEND, times=ANSWERS[mode], after=int(hit == "attest"))
            try:
                world.fork_agent(nursery)
                job = world.quick_job()
                world.until(job.try_upload, "upload", 60)
                world.settled(job, seconds=120)
                world.check_clean(accept=1, attest=1, finalize=1)
                assert rule.applied > 0
            finally:
                world.close()

    with together(request, "test_bad_rpc__job_is_finished_once", run) as made:
        yield made


@pytest.mark.parametrize("case", cases())
def test_bad_rpc__job_is_finished_once(case: str, outcomes: dict[str, Future[None]]) -> None:
    outcomes[case].result()
