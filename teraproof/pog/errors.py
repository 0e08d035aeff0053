# SPDX-License-Identifier: Apache-2.0
"""What can go wrong with a proof, each as one line for a person."""

from __future__ import annotations

from typing import ClassVar

from teraproof.errors import LocalError
from teraproof.protocol.errors import Code


class BenchmarkError(LocalError):
    """A parameter of a proof is out of its range, or a value has the wrong size."""

    default: ClassVar[Code] = Code.PROOF_INVALID


class OpeningError(BenchmarkError):
    """An opening does not show what its commitment claims; the contract would refuse it."""

    default: ClassVar[Code] = Code.OPENING_INVALID


class EngineError(BenchmarkError):
    """The device asked for cannot make proofs: missing, without its library, or out of memory."""

    default: ClassVar[Code] = Code.ENGINE_FAILED


_LINE = 120


def brief(error: Exception) -> str:
    """What a library said, in one short line: some of them write a page."""
    line = str(error).strip().partition("\n")[0].partition(". ")[0]
    return line[:_LINE] or type(error).__name__
