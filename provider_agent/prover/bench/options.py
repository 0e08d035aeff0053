# SPDX-License-Identifier: Apache-2.0
"""Values that people give on the command line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from teraproof.errors import WrongInput
from teraproof.pog.errors import BenchmarkError


@contextmanager
def options() -> Iterator[None]:
    """What the format of proofs refuses in it is WrongInput: a person gave the value."""
    try:
        yield
    except BenchmarkError as error:
        raise WrongInput(str(error)) from None
