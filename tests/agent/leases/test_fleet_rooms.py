# SPDX-License-Identifier: Apache-2.0
"""What leases may have of the disk of a machine: what its owner has told Ray, and no more than the
disk really has.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

pytest.importorskip("cryptography")

from provider_agent.runners.lease import ImageRoom
from provider_agent.runners.ray.node import DISK, allocated
from provider_agent.runners.ray.rooms import Disk, machine_of
from tests.agent.leases.documents import MIB

FILES = 1 << 20


def disk_of(said: int, held: int, images: ImageRoom, free: int, taken: int) -> int:
    """MiB that leases may have together, of MiB."""
    real = Disk(free * MIB, taken * MIB, FILES)
    there = {"CPU": 4.0, DISK: float(said)}
    rest = {"CPU": 4.0, DISK: float(said - held)}
    made = machine_of("a", there, rest, [{DISK: float(held)}], images, real, (), ())
    assert made.inodes == FILES and made.coming == images.expected
    return made.ours.disk // MIB


def room(held: int = 0, expected: int = 0, idle: int = 0) -> ImageRoom:
    return ImageRoom(held * MIB, expected * MIB, idle * MIB)


def test_owner_says_less_than_there_is__that_is_it() -> None:
    assert disk_of(1000, 0, room(), free=5000, taken=0) == 1000
    assert disk_of(1000, 300, room(), free=4700, taken=300) == 1000
    assert disk_of(1000, 300, room(held=200), free=4500, taken=300) == 800


def test_owner_says_more_than_there_is__no_lease_is_promised_what_is_not_there() -> None:
    assert disk_of(9000, 0, room(), free=500, taken=0) == 500
    # What leases have allocated is theirs; what they were promised and have not yet is not gone.
    assert disk_of(9000, 300, room(), free=200, taken=300) == 500
    assert disk_of(9000, 300, room(), free=500, taken=0) == 500
    # Images of leases take room there. Those that nobody needs make way.
    assert disk_of(9000, 0, room(held=400), free=100, taken=0) == 100
    assert disk_of(9000, 0, room(idle=400), free=100, taken=0) == 500


def test_disk_is_full__nothing_and_not_less() -> None:
    assert disk_of(1000, 0, room(held=2000), free=0, taken=0) == 0


def test_allocated__is_what_files_have_and_what_links_lead_to_is_not(tmp_path: Path) -> None:
    place, other = tmp_path / "runner", tmp_path / "other"
    (place / "deep").mkdir(parents=True)
    other.mkdir()
    (other / "large").write_bytes(b"1" * 4 * MIB)
    (place / "one").write_bytes(b"1" * MIB)
    (place / "deep" / "two").write_bytes(b"2" * MIB)
    with open(place / "sparse", "wb") as file:
        file.truncate(64 * MIB)
    (place / "link").symlink_to(other / "large")
    (place / "folder").symlink_to(other)
    os.mkfifo(place / "pipe")
    assert 2 * MIB <= allocated(place) < 3 * MIB
    assert allocated(tmp_path / "nothing") == 0
