# SPDX-License-Identifier: Apache-2.0
"""Images: named by digest, fetched within bounds, deleted when no lease needs them and the disk is
short (`fetches`).

What this agent has fetched is marked by a file, before it is fetched. The owner's own images have
none, and stay. Another file says of an image that its registry gives it to everybody.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from provider_agent.runners.base import MIB
from provider_agent.runners.docker.engine import Engine, EngineAway, EngineRefused, named
from provider_agent.runners.docker.space import Space, Work
from provider_agent.runners.lease import Credentials, fit_to_mount
from teraproof.errors import Refused
from teraproof.protocol.errors import Code

_REFERENCE = re.compile(
    r"(?P<name>[a-z0-9][A-Za-z0-9.-]*(:[0-9]{1,5}/)?[a-z0-9._/-]*)"
    r"(:(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?(@(?P<digest>sha256:[0-9a-f]{64}))?"
)
_ASK_SECONDS = 60.0
_LATE_SECONDS = 3600.0
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
    unpacked.
    """

    def __init__(self, engine: Engine, place: Path, space: Space, *, most: int) -> None:
        self._engine, self._place, self._space = engine, place, space
        self._open = place.with_name("open-images")
        #: Held while it is decided which images are needed, and while one of them is marked.
        self.deciding = threading.RLock()
        self._most = most
        #: Images that the agent has made itself: their ids by the names that a lease has for them.
        self.own: dict[str, str] = {}

    def resolve(self, reference: str, credentials: Credentials | None) -> str:
        """The image as `name@digest`, as its registry has it now. Raises Refused, EngineAway."""
        name, tag, digest = split(reference)
        if digest:
            return f"{name}@{digest}"
        digest = self._ask(f"{name}:{tag or 'latest'}", credentials, None)
        return f"{name}@{digest}"

    def find(self, pinned: str) -> Image | None:
        """An image that is there; None when it is not. Raises Refused where it cannot be kept."""
        found = self._look(pinned)
        return None if found is None else _read(pinned, found)

    def has(self, pinned: str) -> bool:
        """Whether an image is there."""
        return self._look(pinned) is not None

    def fetch(self, pinned: str, credentials: Credentials | None, work: Work) -> None:
        """Has an image be there, if its registry gives it to this tenant. What came lowers
        `work.most`.

        Raises Refused, EngineAway, and RunnerError where the disk is full or it was given up.
        """
        if pinned in self.own:
            return
        with self.deciding:
            work.check()
            there = self.has(pinned)
            if not there:
                self._mark(pinned, 0)
                work.fetched.add(pinned)
        if not there:
            self._pull(pinned, credentials, work)
        elif not self._open_of(pinned).exists():
            # It may be here for another tenant, who had a password for it.
            self._ask(pinned, credentials, work)
        if credentials is None:
            self._open.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._open_of(pinned).touch()
        found = self._look(pinned)
        if found is None:
            work.check()
            raise Refused(Code.IMAGE_UNFIT, f"the registry sent something else than {pinned}")
        _read(pinned, found)
        if not self._is_marked(pinned):
            return  # the owner's
        size = int(found["Size"])
        if size > min(self._most, work.most):
            raise Refused(
                Code.IMAGE_UNFIT,
                f"{pinned} unpacks to {size // MIB} MiB; this provider keeps "
                f"{min(self._most, work.most) // MIB}",
            )
        self._mark(pinned, size)
        if pinned in work.fetched:
            self._space.check(work, pinned)
            work.most -= size

    def known(self) -> list[tuple[str, int]]:
        """The images that this agent has fetched, with their bytes; that which was asked for least
        lately first.
        """
        found = []
        with suppress(FileNotFoundError):
            for mark in self._place.iterdir():
                with suppress(FileNotFoundError):
                    if not mark.suffix:
                        pinned, _, size = mark.read_text().partition("\n")
                        found.append((mark.stat().st_mtime_ns, pinned, int(size or 0)))
        return [(pinned, size) for _, pinned, size in sorted(found)]

    def touch(self, pinned: str) -> None:
        """It was needed until now."""
        now = time.time_ns()  # the file system's own times are coarse
        with suppress(FileNotFoundError):
            os.utime(self._mark_of(pinned), ns=(now, now))

    def delete(self, pinned: str) -> bool:
        """Whether an image that this agent has fetched was there and is gone; one that is in use
        stays. Raises EngineAway.
        """
        mark = self._mark_of(pinned)
        try:
            marked = mark.stat().st_mtime
            there = self._engine.delete(f"/images/{named(pinned)}")
        except (FileNotFoundError, EngineRefused):
            return False  # not ours, or a container has it
        # The engine may still finish a fetch that was broken off.
        if there or time.time() - marked > _LATE_SECONDS:
            mark.unlink(missing_ok=True)
            self._open_of(pinned).unlink(missing_ok=True)
        return there

    # ------------------------------------------------------------------ marks

    def _mark_of(self, pinned: str) -> Path:
        return self._place / hashlib.sha256(pinned.encode()).hexdigest()

    def _open_of(self, pinned: str) -> Path:
        return self._open / self._mark_of(pinned).name

    def _is_marked(self, pinned: str) -> bool:
        return self._mark_of(pinned).exists()

    def _mark(self, pinned: str, size: int) -> None:
        self._place.mkdir(parents=True, exist_ok=True, mode=0o700)
        made = self._mark_of(pinned).with_suffix(f".{threading.get_native_id()}")
        made.write_text(f"{pinned}\n{size}")
        made.replace(self._mark_of(pinned))

    # ------------------------------------------------------------------ the registry

    def _look(self, pinned: str) -> dict[str, Any] | None:
        found: dict[str, Any] | None = self._engine.find(
            f"/images/{named(self.own.get(pinned, pinned))}/json"
        )
        return found

    def _ask(self, asked: str, credentials: Credentials | None, work: Work | None) -> str:
        """The digest of an image, as its registry tells this tenant."""
        with self._asking(asked, work):
            found = self._engine.ask(
                "GET",
                f"/distribution/{named(asked)}/json",
                {},
                headers=_signed_in(credentials),
                seconds=_left(work),
                cut=None if work is None else work.cut,
            )
        digest = str(found["Descriptor"]["digest"])
        if not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
            raise Refused(Code.IMAGE_UNFIT, f"the registry names {asked} by {digest[:100]!r}")
        return digest

    def _pull(self, pinned: str, credentials: Credentials | None, work: Work) -> None:
        name, _, digest = pinned.partition("@")
        work.parts.clear()
        # Closing the stream breaks the download off.
        with (
            self._asking(pinned, work),
            self._engine.stream(
                "POST",
                "/images/create",
                {"fromImage": name, "tag": digest},
                headers=_signed_in(credentials),
                seconds=work.until - time.monotonic(),
                first=_left(work),
                cut=work.cut,
            ) as stream,
        ):
            for said in stream.lines():
                _fail_on_error(pinned, said)
                part = said.get("progressDetail") or {}
                came, whole = (int(part.get(key) or 0) for key in ("current", "total"))
                place = str(said.get("id", ""))[:64]
                before = work.parts.get(place, (0, 0))
                work.parts[place] = max(came, before[0]), max(whole, before[1])
                if work.expected > min(self._most, work.most):
                    raise Refused(
                        Code.IMAGE_UNFIT,
                        f"{pinned} has more than {min(self._most, work.most) // MIB} MiB, which "
                        "this provider keeps",
                    )
                self._space.check(work, pinned)
            work.check()

    @contextmanager
    def _asking(self, pinned: str, work: Work | None) -> Iterator[None]:
        """Whose fault it is that an answer does not come: ours, the registry's or the engine's."""
        try:
            yield
        except EngineAway as away:
            if work is not None:
                work.check()
            if not away.late:
                raise
            self._engine.ping()
            raise Refused(
                Code.IMAGE_UNFIT, f"{pinned} did not come in time; its registry is too slow"
            ) from None
        except EngineRefused as refused:
            raise Refused(Code.IMAGE_UNFIT, f"{pinned} cannot be had: {refused.words}") from None


def _left(work: Work | None) -> float:
    """Seconds for the registry's first word."""
    left = _ASK_SECONDS if work is None else work.until - time.monotonic()
    return max(0.1, min(_ASK_SECONDS, left))


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
