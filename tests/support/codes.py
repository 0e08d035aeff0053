# SPDX-License-Identifier: Apache-2.0
"""Errors by their codes: tests pin these, never the words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from teraproof.errors import TeraproofError
from teraproof.protocol.errors import Code


@contextmanager
def fails_as(code: Code) -> Iterator[pytest.ExceptionInfo[TeraproofError]]:
    """The block ends with an error of this code."""
    with pytest.raises(TeraproofError) as caught:
        yield caught
    assert caught.value.code is code, f"{caught.value.code}: {caught.value}"


def code_or_none(refusal: TeraproofError | None) -> Code | None:
    """The code of a refusal that was returned."""
    return None if refusal is None else refusal.code
