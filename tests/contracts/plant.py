# SPDX-License-Identifier: Apache-2.0
"""Plants a fault in a contract, so that a test can show that it would be found."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.contracts import deploy, revm

EVERY = 3


def some(names: Iterable[str]) -> list[str]:
    """One of EVERY names; all of them with ATTACK_ALL_PLANTED=1, as `make attack` has it."""
    return [*names][:: 1 if "ATTACK_ALL_PLANTED" in os.environ else EVERY]


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
        only.setattr(deploy, "CONTRACTS", copy)
        only.setattr(revm, "compiled_by_boa", deploy.compiled_by_boa.__wrapped__)
        faulty = revm.compiled.__wrapped__(contract)
    patch.setattr(revm, "compiled", lambda name: faulty if name == contract else sound(name))
