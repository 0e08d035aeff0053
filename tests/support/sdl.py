# SPDX-License-Identifier: Apache-2.0
"""Files of SDL for the tests: our own, and Akash's samples where a checkout has them next to it."""

from __future__ import annotations

from pathlib import Path

from tests.support.anvil import ROOT

FILES = ROOT / "tests" / "sdk" / "sdl_files"
FULL = (FILES / "full.yaml").read_text()
#: A short file without anything that is optional.
SMALL = (
    "\n".join((FILES / "reclamation.yaml").read_text().split("reclamation:")[0].splitlines()) + "\n"
)


def samples(kind: str) -> list[Path]:
    """Akash's samples that a project's documents may bring along: `valid` or `invalid`."""
    for above in ROOT.parents:
        folder = above / "shared" / "vectors" / "sdl" / kind
        if folder.is_dir():
            return sorted(folder.glob("*.yaml"))
    return []


def changed(text: str, old: str, new: str) -> bytes:
    """A file with one place changed; the place must stand there once."""
    assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times"
    return text.replace(old, new).encode()


def line_of(data: bytes, part: str) -> int:
    """The number of the only line that has `part`."""
    lines = [number for number, line in enumerate(data.decode().splitlines(), 1) if part in line]
    assert len(lines) == 1, f"{part!r} stands in lines {lines}"
    return lines[0]
