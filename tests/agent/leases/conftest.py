# SPDX-License-Identifier: Apache-2.0
"""Two providers that save leases, and what a tenant asks of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from teraproof.protocol.lease_checkpoints import Checkpoints
from teraproof.protocol.leasespec import LeaseSpec
from tests.agent.leases.documents import service, spec, volume
from tests.agent.leases.saving import Machine


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[tuple[Machine, Machine]]:
    made = Machine(tmp_path / "one"), Machine(tmp_path / "two")
    yield made
    for each in made:
        each.work.close()


@pytest.fixture
def asked(tmp_path: Path) -> LeaseSpec:
    wanted = Checkpoints("web", "/data/run", f"file://{tmp_path}/store", every_seconds=1)
    return replace(spec(service(volumes=(volume(),))), checkpoints=wanted)
