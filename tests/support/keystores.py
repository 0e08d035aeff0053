# SPDX-License-Identifier: Apache-2.0
"""Keystores that are encrypted at once, for tests whose subject is something else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from eth_account import Account


@contextmanager
def weak() -> Iterator[None]:
    """Inside, a new keystore takes a thousandth of the work, as it does to guess its password."""
    real = Account.encrypt

    def encrypt(key: Any, password: str) -> Any:
        return real(key, password, kdf="pbkdf2", iterations=1_000)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Account, "encrypt", encrypt)
        yield
