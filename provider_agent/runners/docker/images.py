# SPDX-License-Identifier: Apache-2.0
"""Images: named by digest, fetched within bounds, deleted when no lease needs them.

What this agent has fetched is marked by a file, before it is fetched. The owner's own images have
none, and stay.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from provider_agent.runners.base import MIB
from provider_agent.runners.docker.engine import Engine, EngineAway, EngineRefused, named
from provider_agent.runners.lease import Credentials, fit_to_mount
from teraproof.errors import Refused
from teraproof.protocol.errors import Code

_REFERENCE = re.compile(
    r"(?P<name>[a-z0-9][A-Za-z0-9.-]*(:[0-9]{1,5}/)?[a-z0-9._/-]*)"
    r"(:(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?(@(?P<digest>sha256:[0-9a-f]{64}))?"
)
_ASK_SECONDS = 60.0
_MOST_VOLUMES = 32


@dataclass(frozen=True)
class Image:
    """What the engine has of an image. `layers` are directories, the top one first; none where the
    engine does not say where they are. `volumes` are the paths that it declares.
    """

    id: str
    layers: tuple[Path, ...]
    volumes: tuple[str, ...]


def split(reference: str) -> tuple[str, str, str]:
    """Name, tag and digest of an image's name; the latter two may be "". Raises Refused."""
    found = _REFERENCE.fullmatch(reference) if len(reference) <= 512 else None
    if found is None or ".." in reference or "//" in reference:
        raise Refused(Code.IMAGE_UNFIT, f"{reference[:200]!r} is not the name of an image")
    return found["name"], found["tag"] or "", found["digest"] or ""


class Images:
    """See the module. `place` keeps the marks; `most` bytes is how large an image may be, packed or
    unpacked; `reserve` bytes of the engine's disk stay free.
    """

    def __init__(
        self, engine: Engine, place: Path, *, most: int, reserve: int, seconds: float
    ) -> None:
        self._engine, self._place = engine, place
        self._most, self._reserve, self._seconds = most, reserve, seconds
        #: Images that the agent has made itself: their ids by the names that a lease has for them.
        self.own: dict[str, str] = {}

    def resolve(self, reference: str, credentials: Credentials | None) -> str:
        """The image as `name@digest`, as its registry has it now. Raises Refused, EngineAway."""
        name, tag, digest = split(reference)
        if digest:
            return f"{name}@{digest}"
        digest = self._ask(f"{name}:{tag or 'latest'}", credentials)
        return f"{name}@{digest}"

    def _ask(self, asked: str, credentials: Credentials | None) -> str:
        """The digest of an image, as its registry tells this tenant."""
        try:
            found = self._engine.ask(
                "GET",
                f"/distribution/{named(asked)}/json",
                {},
                headers=_signed_in(credentials),
                seconds=_ASK_SECONDS,
            )
        except EngineRefused as refused:
            raise Refused(
                Code.IMAGE_UNFIT, f"no registry says what {asked} is: {refused.words}"
            ) from None
        digest = str(found["Descriptor"]["digest"])
        if not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
            raise Refused(Code.IMAGE_UNFIT, f"the registry names {asked} by {digest[:100]!r}")
        return digest

    def find(self, pinned: str) -> Image | None:
        """An image that is there; None when it is not. Raises Refused where it cannot be kept."""
        found = self._engine.find(f"/images/{named(self.own.get(pinned, pinned))}/json")
        return None if found is None else _read(pinned, found)

    def fetch(self, pinned: str, credentials: Credentials | None = None) -> Image:
        """An image, fetched where it is not there. Raises Refused, EngineAway."""
        found = self.find(pinned)
        if found is not None and pinned not in self.own:
            # It may be here for another tenant, who had a password for it.
            self._ask(pinned, credentials)
        if found is None:
            self._mark(pinned)
            self._pull(pinned, credentials)
            found = self.find(pinned)
        if found is None:
            raise Refused(Code.IMAGE_UNFIT, f"the registry sent something else than {pinned}")
        size = int(self._engine.get(f"/images/{named(found.id)}/json")["Size"])
        if size > self._most and self._is_marked(pinned):
            self._delete(pinned)
            raise Refused(
                Code.IMAGE_UNFIT,
                f"{pinned} unpacks to {size // MIB} MiB; this provider keeps {self._most // MIB}",
            )
        return found

    def sweep(self, used: Collection[str]) -> None:
        """Deletes what this agent has fetched and no lease needs. Raises EngineAway."""
        with suppress(FileNotFoundError):
            for mark in sorted(self._place.iterdir()):
                pinned = mark.read_text()
                if pinned not in used:
                    self._delete(pinned)

    # ------------------------------------------------------------------ marks

    def _mark_of(self, pinned: str) -> Path:
        return self._place / hashlib.sha256(pinned.encode()).hexdigest()

    def _is_marked(self, pinned: str) -> bool:
        return self._mark_of(pinned).exists()

    def _mark(self, pinned: str) -> None:
        self._place.mkdir(parents=True, exist_ok=True, mode=0o700)
        made = self._mark_of(pinned).with_suffix(".new")
        made.write_text(pinned)
        made.replace(self._mark_of(pinned))

    def _delete(self, pinned: str) -> None:
        try:
            self._engine.delete(f"/images/{named(pinned)}")
        except EngineRefused:
            return  # a container has it; the next sweep tries again
        self._mark_of(pinned).unlink(missing_ok=True)

    # ------------------------------------------------------------------ fetching

    def _pull(self, pinned: str, credentials: Credentials | None) -> None:
        name, _, digest = pinned.partition("@")
        root = self._engine.get("/info")["DockerRootDir"]
        start = time.monotonic()
        sizes: dict[str, int] = {}
        try:
            # Closing the stream breaks the download off.
            with self._engine.stream(
                "POST",
                "/images/create",
                {"fromImage": name, "tag": digest},
                headers=_signed_in(credentials),
                seconds=self._seconds,
            ) as stream:
                for said in stream.lines():
                    _fail_on_error(pinned, said)
                    part = said.get("progressDetail") or {}
                    sizes[str(said.get("id", ""))[:64]] = int(part.get("total") or 0)
                    self._check_room(pinned, sum(sizes.values()), root)
        except EngineAway:
            if time.monotonic() - start < self._seconds:
                raise
            raise Refused(
                Code.IMAGE_UNFIT, f"{pinned} did not arrive within {self._seconds:.0f} s"
            ) from None
        except EngineRefused as refused:
            raise Refused(Code.IMAGE_UNFIT, f"{pinned} cannot be had: {refused.words}") from None

    def _check_room(self, pinned: str, packed: int, root: str) -> None:
        if packed > self._most:
            raise Refused(
                Code.IMAGE_UNFIT,
                f"{pinned} has more than {self._most // MIB} MiB, which this provider keeps",
            )
        with suppress(OSError):  # an engine elsewhere
            disk = os.statvfs(root)
            if disk.f_bavail * disk.f_frsize < self._reserve:
                raise Refused(Code.IMAGE_UNFIT, f"there is no room on the disk for {pinned}")


def _fail_on_error(pinned: str, said: Mapping[str, Any]) -> None:
    if "error" in said:
        words = " ".join(str(said["error"]).split())[:300]
        raise Refused(Code.IMAGE_UNFIT, f"{pinned} cannot be had: {words}")


def _signed_in(credentials: Credentials | None) -> dict[str, str]:
    if credentials is None:
        return {}
    said = {
        "username": credentials.username,
        "password": credentials.password,
        "serveraddress": credentials.host,
    }
    return {"X-Registry-Auth": base64.urlsafe_b64encode(json.dumps(said).encode()).decode()}


def _read(pinned: str, found: Mapping[str, Any]) -> Image:
    if found.get("Os", "linux") != "linux":
        raise Refused(Code.IMAGE_UNFIT, f"{pinned} is made for another system than Linux")
    volumes = tuple(sorted((found.get("Config") or {}).get("Volumes") or {}))
    if len(volumes) > _MOST_VOLUMES or not all(fit_to_mount(place) for place in volumes):
        raise Refused(
            Code.IMAGE_UNFIT,
            f"{pinned} declares volumes at places where nothing can be mounted, or more than "
            f"{_MOST_VOLUMES}",
        )
    driver = found.get("GraphDriver") or {}
    data = driver.get("Data") or {}
    layers: list[Path] = []
    if driver.get("Name") == "overlay2" and data.get("UpperDir"):
        layers = [Path(data["UpperDir"]), *map(Path, _parts(data.get("LowerDir", "")))]
    return Image(str(found["Id"]), tuple(layers), volumes)


def _parts(joined: str) -> list[str]:
    return [part for part in joined.split(":") if part]
