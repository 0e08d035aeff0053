# SPDX-License-Identifier: Apache-2.0
"""What stands in for NVIDIA's container toolkit where no GPU is.

The engine finds NVIDIA's hook by its name, and has it called for each container that asks for GPUs,
before its program starts. Ours reads the same variables from the same place. For each GPU that they
name it leaves a file in the container's /dev, and a line in a log. It fails for GPUs that are lost.
"""

from __future__ import annotations

import json
import stat
import sys
from dataclasses import dataclass
from pathlib import Path

_HOOK = """#!{python} -I
import json, os, pathlib, subprocess, sys
place = pathlib.Path({place!r})
state = json.load(sys.stdin)
config = json.loads((pathlib.Path(state["bundle"]) / "config.json").read_text())
# What is named last counts, as for the program itself.
env = dict(each.split("=", 1) for each in config["process"]["env"])
asked = env.get("NVIDIA_VISIBLE_DEVICES", "")
with open(place / "calls", "a") as log:
    caps = env.get("NVIDIA_DRIVER_CAPABILITIES", "")
    log.write(json.dumps([state["id"], asked, caps]) + "\\n")
lost = (place / "lost").read_text().split()
root = pathlib.Path(state["bundle"]) / config["root"]["path"]
for uuid in asked.split(","):
    if uuid in lost or uuid in ("", "all", "void", "none"):
        sys.exit("nvidia-container-cli: device error: " + uuid + ": unknown device")
    made = str(root / "dev" / ("nvidia-" + uuid))
    subprocess.run(["nsenter", "-t", str(state["pid"]), "-m", "touch", made], check=True)
"""


@dataclass(frozen=True)
class Toolkit:
    """`place` is an empty directory; `path` has to stand first in the engine's PATH."""

    place: Path

    @property
    def path(self) -> str:
        return str(self.place / "bin")

    def install(self) -> None:
        """Before the engine starts."""
        hook = self.place / "bin" / "nvidia-container-runtime-hook"
        hook.parent.mkdir(parents=True)
        hook.write_text(_HOOK.format(python=sys.executable, place=str(self.place)))
        hook.chmod(hook.stat().st_mode | stat.S_IXUSR)
        self.lose()
        (self.place / "calls").touch()

    def lose(self, *uuids: str) -> None:
        """These GPUs, and no others, do not answer."""
        (self.place / "lost").write_text(" ".join(uuids))

    def calls(self) -> list[tuple[str, tuple[str, ...], set[str]]]:
        """Each call since the last question: the container, GPUs and capabilities that it named."""
        lines = (self.place / "calls").read_text().splitlines()
        (self.place / "calls").write_text("")
        told = [json.loads(line) for line in lines]
        return [(name, tuple(gpus.split(",")), set(caps.split(","))) for name, gpus, caps in told]
