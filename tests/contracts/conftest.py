# SPDX-License-Identifier: Apache-2.0
"""Fixtures: the suite is deployed once a session, each test starts from that state.

titanoboa's plugin rolls every fixture and test back, so nothing leaks from one test to the next.
Actors are named by what they do.
"""

from __future__ import annotations

import gc
from collections.abc import Callable

import boa
import pytest

from tests.contracts import actions, court_room
from tests.contracts.actions import Provider
from tests.contracts.deploy import (
    LOCK,
    REWARD,
    SLASH,
    TPF,
    USD,
    Contract,
    Parameters,
    Suite,
    account_of,
    address_of,
    deploy_suite,
)

# Those of a court: a test file may have its own in their place.
full_court, court, disputes = court_room.full_court, court_room.court, court_room.disputes
accused, tenant = court_room.accused, court_room.tenant
case, drawn = court_room.case, court_room.drawn


def pytest_sessionfinish() -> None:
    """pytest collects garbage five times at the end, and looks at each syntax tree each time."""
    gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def forget_written_slots() -> None:
    """titanoboa's list of written slots is not rolled back with the chain.

    Where another contract stood at the same address before, it would be read by the wrong types.
    """
    boa.env.sstore_trace.clear()


@pytest.fixture(scope="session")
def suite() -> Suite:
    """Everything deployed; the account `manager` has every permission in Staking."""
    return deploy_suite(managers={address_of("manager"): LOCK | SLASH | REWARD})


@pytest.fixture(scope="session")
def scored_suite() -> Suite:
    """The same with a source of scores behind Jobs."""
    return deploy_suite(managers={address_of("manager"): LOCK | SLASH | REWARD}, with_scores=True)


@pytest.fixture(scope="session")
def lease_suite() -> Suite:
    """Everything with Leases, and a source of scores behind it."""
    return deploy_suite(
        managers={address_of("manager"): LOCK | SLASH | REWARD}, with_scores=True, with_leases=True
    )


@pytest.fixture
def leases(suite: Suite) -> Contract:
    """Where a module's own `suite` has them."""
    return suite.leases


@pytest.fixture
def staking(suite: Suite) -> Contract:
    return suite.staking


@pytest.fixture
def jobs(suite: Suite) -> Contract:
    return suite.jobs


@pytest.fixture
def benchmark(suite: Suite) -> Contract:
    """Where a module's own `suite` has one."""
    return suite.benchmark


@pytest.fixture
def p(suite: Suite) -> Parameters:
    return suite.parameters


@pytest.fixture
def token(suite: Suite) -> Contract:
    return suite.token


@pytest.fixture
def payment(suite: Suite) -> Contract:
    return suite.payment


@pytest.fixture
def make_provider(suite: Suite) -> Callable[..., Provider]:
    """Factory: register a provider, `make_provider("role", stake=...)`."""

    def make(role: str = "provider", **options: int) -> Provider:
        return actions.register(suite, role, **options)

    return make


@pytest.fixture
def provider(make_provider: Callable[..., Provider]) -> Provider:
    """A provider with 1,000 TPF of its own stake, 500 an order and 800 in all lockable."""
    return make_provider()


@pytest.fixture
def requester(suite: Suite) -> str:
    address = address_of("requester")
    actions.give_usd(suite, address, 1_000 * USD)
    return address


@pytest.fixture
def delegator(suite: Suite) -> str:
    address = address_of("delegator")
    actions.give_tpf(suite, address, 10_000 * TPF)
    return address


@pytest.fixture
def manager(suite: Suite) -> str:
    """May lock, slash and reward; holds TPF to reward with."""
    address = address_of("manager")
    actions.give_tpf(suite, address, 10_000 * TPF)
    return address


@pytest.fixture
def owner(suite: Suite) -> str:
    return suite.owner


@pytest.fixture
def stranger() -> str:
    return address_of("stranger")


@pytest.fixture
def victim() -> str:
    return address_of("victim")


@pytest.fixture
def hunter() -> str:
    return account_of("hunter").address
