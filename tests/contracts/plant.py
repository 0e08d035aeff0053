# SPDX-License-Identifier: Apache-2.0
"""Plants a fault in a contract, and shows that the search of `make attack` finds it."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.attack.search import work
from tests.contracts import deploy, revm
from tests.contracts.deploy import half_compiled

EVERY = 3
"""One of three faults is planted in `make test`."""
SEED = 1


def plant(
    contract: str, file: str, line: str, fault: str, folder: Path, patch: pytest.MonkeyPatch
) -> None:
    """Until the test ends, revm deploys `contract` with `fault` where `line` is in `file`."""
    copy = folder / "contracts"
    shutil.copytree(deploy.CONTRACTS, copy)
    source = (copy / file).read_text()
    assert source.count(line) == 1, "the place of the fault has moved"
    (copy / file).write_text(source.replace(line, fault))
    sound = revm.compiled
    with patch.context() as only:
        only.setattr(revm, "compiled_by_boa", lambda name: half_compiled(copy / f"{name}.vy"))
        faulty = revm.compiled.__wrapped__(contract)
    patch.setattr(revm, "compiled", lambda name: faulty if name == contract else sound(name))


def check_found(moment: str, says: str, *, tries: int = 2_000) -> None:
    """The search finds what is planted in the world that it runs in, and says so."""
    share = work(moment, range(tries), SEED)
    told = rf"try {share.tries - 1} at '{moment}': ({says})"
    assert re.match(told, share.found), share.found or f"{share.tries} tries"
