# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the leases: `suite` has them, and a lease that runs."""

from __future__ import annotations

import pytest

from teraproof.protocol.lease_terms import LeaseTerms
from tests.contracts import lease_actions
from tests.contracts.actions import Provider
from tests.contracts.deploy import Suite, address_of


@pytest.fixture
def suite(lease_suite: Suite) -> Suite:
    return lease_suite


@pytest.fixture
def tenant(suite: Suite) -> str:
    return address_of("tenant")


@pytest.fixture
def opened(suite: Suite, tenant: str) -> LeaseTerms:
    return lease_actions.open_lease(suite, tenant)


@pytest.fixture
def taken(suite: Suite, tenant: str, provider: Provider) -> LeaseTerms:
    """A lease that is assigned at the start rate."""
    return lease_actions.assigned(suite, tenant, provider)


@pytest.fixture
def running(suite: Suite, tenant: str, provider: Provider) -> LeaseTerms:
    """A lease that is ready and confirmed, at the start rate."""
    return lease_actions.active(suite, tenant, provider)
