# SPDX-License-Identifier: Apache-2.0
"""The messages of an acceptance challenge, as JSON values, read strictly.

A challenge has four steps. Each begins with a nonce of the tenant (64 hex digits), which the
provider cannot know before; each answer has one member for each device of the lease, in order.

    fill    {"work": {...}}   {"filled": [blocks, ...]}          room is made, memory is filled
    work                      {"commitments": [hex, ...]}        rounds are done
    sweep                     {"sweeps": [[hex, ...], ...]}      the memory is read, sweep by sweep
    open                      {"openings": [{"entries": [hex, ...], "digests": [hex, ...]}, ...]}

Whatever does not fit raises a LocalError: what answers is a stranger.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, TypeVar

from teraproof import nesting
from teraproof.acceptance import format as fmt
from teraproof.acceptance.format import Work
from teraproof.errors import LocalError
from teraproof.pog.errors import BenchmarkError
from teraproof.pog.format import LEAF_BYTES, Shape, round_path
from teraproof.protocol.errors import Code

_HEX = re.compile(r"(?:[0-9a-f]{2})*")
_MEMBERS = ("n", "matrix_blocks", "rounds", "devices", "blocks", "sweeps", "seconds")

T = TypeVar("T")


class Step(StrEnum):
    """The steps, in their order."""

    FILL = "fill"
    WORK = "work"
    SWEEP = "sweep"
    OPEN = "open"


@dataclass(frozen=True)
class Digest:
    """An opened digest of a sweep: its leaf (512 digests) and the leaf's path to the root."""

    leaf: bytes
    path: tuple[bytes, ...]

    def encode(self) -> bytes:
        """The leaf, then the path from the leaf upwards."""
        return self.leaf + b"".join(self.path)


@dataclass(frozen=True)
class Openings:
    """What a device opens: entries as format v2 encodes openings, and digests of its sweeps."""

    entries: tuple[bytes, ...]
    digests: tuple[Digest, ...]

    def to_json(self) -> dict[str, list[str]]:
        """As it travels."""
        return {
            "entries": [one.hex() for one in self.entries],
            "digests": [one.encode().hex() for one in self.digests],
        }


def malformed(line: str) -> LocalError:
    """The error for an answer that has not the form of its step."""
    return LocalError(f"the answer is malformed: {line}", Code.ANSWER_INVALID)


# ---------------------------------------------------------------------- what is asked


def work_to_json(work: Work) -> str:
    """The work as JSON text."""
    return json.dumps(
        {
            "n": work.shape.n,
            "matrix_blocks": work.shape.blocks,
            **{name: value for name, value in asdict(work).items() if name != "shape"},
        }
    )


def work_from_json(text: str) -> Work:
    """The inverse of `work_to_json`. BenchmarkError for anything else."""
    try:
        found = nesting.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or sorted(found) != sorted(_MEMBERS):
        raise BenchmarkError(f"expected an object with {', '.join(_MEMBERS)}")
    if any(type(value) is not int for value in found.values()):
        raise BenchmarkError("expected whole numbers")
    shape = Shape(found.pop("n"), found.pop("matrix_blocks"))
    return Work(shape, **found)


def hex32(value: object) -> bytes:
    """32 bytes from 64 lower-case hex digits. LocalError for anything else."""
    return _bytes(value, 32)


def _bytes(value: object, size: int) -> bytes:
    if not isinstance(value, str) or len(value) != 2 * size or not _HEX.fullmatch(value):
        raise malformed(f"expected {size} bytes as hex digits")
    return bytes.fromhex(value)


# ---------------------------------------------------------------------- what is answered


def _list(value: object, count: int, read: Callable[[object], T]) -> tuple[T, ...]:
    if not isinstance(value, list) or len(value) != count:
        raise malformed(f"expected a list of {count}")
    return tuple(read(one) for one in value)


def _member(answer: Mapping[str, Any], name: str) -> object:
    if name not in answer:
        raise malformed(f"{name} is missing")
    return answer[name]


def filled(answer: Mapping[str, Any], work: Work) -> tuple[int, ...]:
    """The blocks that each device has filled, at most those asked for."""

    def read(value: object) -> int:
        if type(value) is not int or not 0 <= value <= work.blocks:
            raise malformed(f"expected a number of blocks up to {work.blocks}")
        return value

    return _list(_member(answer, "filled"), work.devices, read)


def commitments(answer: Mapping[str, Any], work: Work) -> tuple[bytes, ...]:
    """The commitment to the rounds of each device."""
    return _list(_member(answer, "commitments"), work.devices, hex32)


def sweeps(
    answer: Mapping[str, Any], work: Work, filled: Sequence[int]
) -> tuple[tuple[bytes, ...], ...]:
    """The roots of the sweeps of each device; none where it has filled nothing."""
    given = _list(_member(answer, "sweeps"), work.devices, lambda value: value)
    return tuple(
        _list(roots, work.sweeps if blocks else 0, hex32)
        for roots, blocks in zip(given, filled, strict=True)
    )


def openings(answer: Mapping[str, Any], work: Work, filled: Sequence[int]) -> tuple[Openings, ...]:
    """What each device opens; sizes fit, all else is still to be checked."""
    given = _list(_member(answer, "openings"), work.devices, lambda value: value)
    return tuple(
        _openings(value, work, blocks) for value, blocks in zip(given, filled, strict=True)
    )


def _openings(value: object, work: Work, blocks: int) -> Openings:
    if not isinstance(value, dict):
        raise malformed("expected an object for each device")

    def read_entry(entry: object) -> bytes:
        # How long it is depends on its round: `Opening.decode` sees to that.
        if not isinstance(entry, str) or len(entry) > 2 * most or not _HEX.fullmatch(entry):
            raise malformed("expected the bytes of an opening as hex digits")
        return bytes.fromhex(entry)

    def read_digest(digest: object) -> Digest:
        data = _bytes(digest, fmt.LEAF_BYTES + 32 * fmt.leaf_path(blocks))
        nodes = [data[at : at + 32] for at in range(fmt.LEAF_BYTES, len(data), 32)]
        return Digest(data[: fmt.LEAF_BYTES], tuple(nodes))

    most = 64 + LEAF_BYTES + 32 * (work.shape.leaf_path + 2 * round_path(work.rounds))
    return Openings(
        _list(_member(value, "entries"), fmt.ENTRIES, read_entry),
        _list(_member(value, "digests"), fmt.ENTRIES if blocks else 0, read_digest),
    )


def most_bytes(work: Work) -> int:
    """The most bytes that an answer to any step of this work may have."""
    entry = 64 + LEAF_BYTES + 32 * (work.shape.leaf_path + 2 * round_path(work.rounds))
    digest = fmt.LEAF_BYTES + 32 * fmt.leaf_path(max(1, work.blocks))
    device = max(fmt.ENTRIES * (2 * (entry + digest) + 16), work.sweeps * 72)
    return 4096 + work.devices * (device + 256)
