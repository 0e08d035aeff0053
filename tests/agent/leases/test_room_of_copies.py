# SPDX-License-Identifier: Apache-2.0
"""What a lease holds for its checkpoints is what saving them may take, at most."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from provider_agent.runners.lease_spec import copies_of
from teraproof.protocol.leasespec import LeaseSpec
from teraproof.storage.checkpoints import Writer
from teraproof.storage.layout import Destination
from teraproof.storage.limits import Limits
from teraproof.storage.reach import Reach
from teraproof.storage.snapshot import Snapshots
from teraproof.storage.transfer import open_store
from teraproof.storage.uris import parse


@pytest.mark.parametrize("size", [1, 4 << 20, 1 << 30, 1 << 40])
def test_room__copies_index_and_journal_fit_together(size: int, tmp_path: Path) -> None:
    spec = SimpleNamespace(saved=(SimpleNamespace(bytes=size), ""))
    held = copies_of(cast(LeaseSpec, spec))
    limits = Limits(most_bytes=size)
    store = open_store(parse(f"file://{tmp_path}/store"), Reach.own(), limits)
    made = Writer(Destination(store, limits), tmp_path, tmp_path / "state")
    journal = 66 * made._most_noted  # 64 digits a line, its end, and one of a line before
    index = Snapshots(tmp_path, tmp_path / "stage", size)._index_bytes
    assert size + 2 * index + journal <= held, "an index is there twice while it is replaced"
    assert index >= 2 << 20 and journal >= 4_000_000
    made.close()
