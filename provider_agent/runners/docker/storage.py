# SPDX-License-Identifier: Apache-2.0
"""What the containers of a lease write to: ext4 file systems of fixed size, allocated at once.

<data_dir>/leases/<lease>/<service>-<number>/
    root/       the image of what the container may write besides its volumes
    volume-N/   the image of each volume
    merged/     the container's files: its image's layers below, what it writes in `root/` above

Docker's own writable layer has no bound on most machines, so it is read-only. The directories of
the merged tree are mounted over it one by one, each as it is at the top. A source is always a name
that the container cannot change: what it could change into a link is mounted nowhere again.

After a restart of the machine nothing is mounted, and the sources do not exist: a container that
somebody starts then fails, and writes nothing to the agent's disk.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from provider_agent.errors import RunnerError
from provider_agent.runners import disk, linux
from provider_agent.runners.base import MIB
from provider_agent.runners.disk import Room, Taken
from provider_agent.runners.docker.images import Image
from provider_agent.runners.lease import Lease, Service, fit_to_mount
from teraproof.errors import Refused
from teraproof.protocol.digests import MAX_FILES
from teraproof.protocol.errors import Code

LOG_BYTES = 16 * MIB
"""What is kept of the output of a container."""
READY = "ready"  # written when an image is whole
DATA = "data"
MERGED = "merged"
_FRESH = ("tmp", "var/tmp", "run")
_KERNELS = ("proc", "sys", "dev")
_MOST_TOPS = 64
_MOST_INODES = 4_000_000
_SHARED = 0o1777  # as /tmp: whoever the program runs as can write


def room_of(size: int) -> Room:
    """The file system for `size` bytes."""
    return Room(size, min(_MOST_INODES, max(4096, size // 8192)))


def taken(service: Service) -> Taken:
    """What one container of a service takes of this machine, its log not counted."""
    rooms = [room_of(service.storage), *(room_of(volume.size) for volume in service.volumes)]
    return Taken(service.memory, sum(room.image_bytes for room in rooms), 8 * len(rooms) + 8)


def needs(lease: Lease, log_bytes: int = LOG_BYTES) -> Taken:
    """What a lease takes of a machine, besides its images and its GPUs."""
    parts = [taken(service) for service, _ in lease.parts]
    return Taken(
        memory=sum(part.memory for part in parts),
        disk=lease.copies + sum(part.disk + log_bytes for part in parts),
        inodes=(MAX_FILES if lease.copies else 0) + sum(part.inodes for part in parts),
    )


class Storage:
    """The file systems of one container. `place` is its directory."""

    def __init__(self, place: Path, service: Service) -> None:
        if any(sign in str(place) for sign in ",:\\"):
            raise RunnerError(f"{place} has a comma, a colon or a backslash; move agent.data_dir")
        self._place, self._service = place, service

    def allocate(self) -> None:
        """Makes the images that are not there yet. Raises RunnerError when the disk is full."""
        self._make("root", self._service.storage)
        for volume in self._service.volumes:
            self._make(f"volume-{volume.name}", volume.size)

    def mounts(self, image: Image) -> list[tuple[str, Path, bool]]:
        """What to mount into the container, everything attached: where, from, whether read-only."""
        root, owner = self._attach("root"), _root_of(image)
        if image.layers:
            tree = self._merge(image, root)
            found = {f"/{name}": (tree / name, False) for name in self._tops(tree)}
        else:  # the engine does not say where they are
            found = {f"/{name}": (_empty(root / name, owner), False) for name in _FRESH}
        for number, target in enumerate(image.volumes):
            # Else the engine makes a volume without a bound.
            found[target] = (_empty(root / f"{DATA}-{number}", owner), False)
        for volume in self._service.volumes:
            source = _empty(self._attach(f"volume-{volume.name}") / DATA, owner)
            found[volume.mount] = (source, volume.read_only)
        for target in found:
            _make_place(target, found)
        return [(target, *found[target]) for target in sorted(found)]

    def directory(self, volume: str) -> Path:
        """Where the files of a volume are on this machine, attached."""
        return self._attach(f"volume-{volume}") / DATA

    @staticmethod
    def release(place: Path) -> None:
        """Unmounts and deletes what a container wrote; it must be gone. Raises RunnerError."""
        with suppress(OSError):
            linux.unmount(place / MERGED)
        for directory in place.glob("*/"):
            disk.release(directory)
        left = [path for path in (*place.glob("*/"), *place.glob("*/*/")) if os.path.ismount(path)]
        if left:
            raise RunnerError(f"{left[0]} cannot be unmounted; something uses it")
        shutil.rmtree(place)

    # ------------------------------------------------------------------ parts

    def _make(self, name: str, size: int) -> None:
        directory = self._place / name
        if (directory / READY).exists():
            return
        shutil.rmtree(directory, ignore_errors=True)  # half made
        directory.mkdir(parents=True, mode=0o700)
        try:
            disk.make_image(directory, room_of(size))
        except OSError as error:
            shutil.rmtree(directory, ignore_errors=True)
            raise RunnerError(
                f"there are no {size // MIB} MiB for {self._service.name} on {self._place}: "
                f"{error.strerror}"
            ) from None
        (directory / READY).touch()

    def _attach(self, name: str) -> Path:
        place = self._place / name / disk.PLACE
        if not os.path.ismount(place):
            disk.repair(self._place / name)
            disk.attach(self._place / name)
        return place

    def _tops(self, tree: Path) -> list[str]:
        """The directories at the top of the container, which it may write to."""
        with os.scandir(tree) as entries:
            names = sorted(one.name for one in entries if one.is_dir(follow_symlinks=False))
        names = [name for name in names if name not in _KERNELS]
        if len(names) > _MOST_TOPS or not all(fit_to_mount(f"/{name}") for name in names):
            raise Refused(
                Code.IMAGE_UNFIT,
                f"{self._service.image} has more than {_MOST_TOPS} directories at its top, or "
                "names that cannot be mounted at; put them into one",
            )
        return names

    def _merge(self, image: Image, root: Path) -> Path:
        merged = self._place / MERGED
        if os.path.ismount(merged):
            return merged
        for place in (root / "upper", root / "work", merged):
            place.mkdir(mode=0o755, exist_ok=True)
        driver = image.layers[0].parent.parent
        try:
            # The driver's own short names, from its own place: a page holds all options of a mount.
            links = [f"l/{(layer.parent / 'link').read_text().strip()}" for layer in image.layers]
        except OSError as error:
            raise RunnerError(
                f"the layers of {self._service.image} are not where the engine says "
                f"({error.strerror}); the agent needs root on the engine's machine"
            ) from None
        options = f"lowerdir={':'.join(links)},upperdir={root / 'upper'},workdir={root / 'work'}"
        done = subprocess.run(
            ["mount", "-t", "overlay", "-o", f"nodev,nosuid,{options}", "overlay", str(merged)],
            cwd=driver,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=60,
        )
        if done.returncode != 0:
            said = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise RunnerError(
                f"the files of {self._service.image} cannot be laid out: {said[:300]}"
            )
        return merged


def _make_place(target: str, found: Mapping[str, tuple[Path, bool]]) -> None:
    """Where something is mounted inside of what nobody can write to, the engine makes no place for
    it. Nothing but the agent has written there, so no link is in the way.
    """
    above = [place for place in found if target.startswith(f"{place}/")]
    nearest = max(above, key=len, default=None)
    if nearest is not None and found[nearest][1]:
        inside = found[nearest][0] / target[len(nearest) + 1 :]
        inside.mkdir(parents=True, exist_ok=True)


def _root_of(image: Image) -> tuple[int, int]:
    """User and group of this machine that are root in a container: others with user namespaces."""
    if not image.layers:
        return 0, 0
    found = image.layers[0].stat()
    return found.st_uid, found.st_gid


def _empty(place: Path, owner: tuple[int, int]) -> Path:
    """An empty directory that anyone in the container may use, and its root may give away."""
    if not place.is_dir():
        place.mkdir(parents=True)
        os.chown(place, *owner)
        place.chmod(_SHARED)
    return place
