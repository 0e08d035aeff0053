# SPDX-License-Identifier: Apache-2.0
"""How this machine holds a job to its limits: what there is, and whether it is enough."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from provider_agent.errors import RunnerError
from provider_agent.runners import cgroup, disk

ACCEPTED: Final = "I accept that a job can take all memory and all disk of this machine"
"""What an owner writes into the settings to run strangers' work without limits that hold."""

_KERNEL = Path("/proc/sys")
_PROFILE = (
    "give bwrap an AppArmor profile that allows it (docs/operations.md, Sandbox, has one), or set "
    "kernel.apparmor_restrict_unprivileged_userns to 0"
)


@dataclass(frozen=True)
class Containment:
    """What keeps jobs apart from this machine. `groups` is the version of control groups, 0 for
    none; `disk` a kind of `runners.disk`.
    """

    sandbox: str
    groups: int
    disk: str

    @property
    def holds(self) -> bool:
        """Whether the kernel itself keeps jobs to their memory and disk."""
        return self.groups > 0 and self.disk != disk.DIRECTORY

    def __str__(self) -> str:
        """One line for people."""
        walls = "walled in" if self.sandbox != "none" else "no sandbox"
        memory = f"memory held by cgroup v{self.groups}" if self.groups else "memory only watched"
        room = {
            disk.IMAGE: "disk held by a file system of its own",
            disk.MEMORY: "disk held by a file system in memory",
            disk.DIRECTORY: "disk only watched",
        }
        return f"{walls}, {memory}, {room[self.disk]}"

    def to_json(self) -> dict[str, str]:
        """As JSON values, for tenants."""
        return {
            "walls": self.sandbox,
            "memory": f"cgroup v{self.groups}" if self.groups else "watched",
            "disk": "watched" if self.disk == disk.DIRECTORY else self.disk,
        }

    def refuse(self) -> None:
        """Raises RunnerError where the limits do not hold."""
        lacking = [] if self.groups else ["memory (no control group can be made)"]
        if self.disk == disk.DIRECTORY:
            lacking.append("disk (no file system of a fixed size can be made)")
        if lacking:
            raise RunnerError(
                f"this machine does not hold jobs to their {' and '.join(lacking)}; run the agent "
                "as a systemd service with Delegate=yes or as root, or say that you accept it in "
                "runner.allow_unlimited (docs/operations.md, Sandbox)"
            )


def of_this_machine(sandbox_kind: str) -> Containment:
    """What a run would get now."""
    groups = cgroup.version()
    return Containment(sandbox_kind, groups, disk.choose(sandbox_kind != "none", groups > 0))


def advice(kernel: Path = _KERNEL) -> str:
    """What to do where bubblewrap cannot make a user namespace. `kernel` is /proc/sys."""
    if _setting(kernel / "kernel" / "apparmor_restrict_unprivileged_userns") == "1":
        return f"AppArmor does not let it make user namespaces: {_PROFILE}"
    if _setting(kernel / "user" / "max_user_namespaces") == "0":
        return "user namespaces are off: set user.max_user_namespaces to 10000"
    if _setting(kernel / "kernel" / "unprivileged_userns_clone") == "0" and os.geteuid() != 0:
        return "user namespaces are for root alone: set kernel.unprivileged_userns_clone to 1"
    return f"it needs user namespaces. Under Ubuntu 24.04: {_PROFILE}. In a container: allow them"


def _setting(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
