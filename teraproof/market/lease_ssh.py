# SPDX-License-Identifier: Apache-2.0
"""The system's ssh, led into a container of a lease."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence

from teraproof.client import dataplane
from teraproof.errors import LocalError, WrongInput
from teraproof.market import lease_notes
from teraproof.market.lease_plane import Way
from teraproof.market.leases import Lease
from teraproof.market.ui import Ui
from teraproof.protocol.dataplane import Request, What
from teraproof.protocol.errors import Code

PORT = 22


def program() -> str:
    """Where ssh is. LocalError where this machine has none."""
    found = shutil.which("ssh")
    if found is None:
        raise LocalError(
            "there is no ssh on this machine; install the client of OpenSSH, or use lease shell",
            Code.EXTRA_MISSING,
        )
    return found


def check_port(lease: Lease, service: str, port: int) -> None:
    """WrongInput unless the specification names the port, as far as it is known here."""
    spec = lease_notes.spec_of(lease.terms.order.spec)
    for one in () if spec is None else spec.services:
        if one.name == service and (port, "tcp") not in {(p.port, p.protocol) for p in one.ports}:
            raise WrongInput(
                f"{service} has no port {port}; run an ssh server in it and put the port into "
                "`expose` of the file, or use lease shell, which needs none"
            )


def line_of(
    ssh: str,
    lease: Lease,
    service: str,
    number: int,
    local: int,
    user: str,
    words: Sequence[str] = (),
) -> list[str]:
    """The words of the command. The container is known by a name of its own, since the local port
    is another one each time.
    """
    alias = f"{lease.lease.hex()[:16]}-{service}-{number}.teraproof"
    known = lease_notes.folder() / "known_hosts"
    known.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    options = {
        "HostKeyAlias": alias,
        "UserKnownHostsFile": f'"{known}"',
        "StrictHostKeyChecking": "accept-new",
    }
    said = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    return [ssh, *said, "-p", str(local), f"{user}@127.0.0.1", *words]


def run(
    way: Way,
    ui: Ui,
    lease: Lease,
    service: str,
    number: int,
    port: int,
    user: str,
    words: Sequence[str],
) -> int:
    """Run ssh, with COMMAND if there are `words`; its exit code."""
    ssh = program()
    check_port(lease, service, port)
    wanted = Request(lease.lease, What.PORT, service, number, port)

    def use(local: int) -> int:
        line = line_of(ssh, lease, service, number, local, user, words)
        return subprocess.run(line, env=os.environ, check=False).returncode

    return dataplane.forwarded(way.place, way.key, wanted, use, lambda error: ui.note(str(error)))
