# SPDX-License-Identifier: Apache-2.0
"""A shell at a real terminal, as a person has it: the client in a process of its own."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time

import pytest

from tests.agent.dataplane.conftest import DOMAIN, LEASE, Rig

PROGRAM = """
import json, sys
from eth_account import Account
from teraproof.client import dataplane, terminal
from teraproof.errors import LocalError
from teraproof.market.signers import KeySigner
from teraproof.protocol.dataplane import Request, What
from teraproof.protocol.messages import Domain

said = json.loads(sys.argv[1])
place = dataplane.Place.at(
    said["endpoint"], bytes.fromhex(said["lease"]), said["operator"], Domain(*said["domain"])
)
key = dataplane.session_key(place, KeySigner(Account.from_key(said["key"]), "test"))
try:
    wanted = Request(place.lease, What.SHELL, "web", command=tuple(said["command"]))
    code = terminal.shell(place, key, wanted)
except LocalError as error:
    print(f"error: {error.code}")
    code = 77
print(f"ended with {code}")
sys.exit(code)
"""


def words(rig: Rig, *command: str) -> list[str]:
    said = {
        "endpoint": rig.place().endpoint,
        "lease": LEASE.hex(),
        "operator": str(rig.operator.address),
        "domain": [DOMAIN.chain_id, DOMAIN.contract],
        "key": rig.tenant.key.hex(),
        "command": list(command),
    }
    return [sys.executable, "-c", PROGRAM, json.dumps(said)]


class Terminal:
    """A terminal with a program in it."""

    def __init__(self, command: list[str]) -> None:
        self.ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 99, 0, 0))
        self.before = termios.tcgetattr(theirs)
        self.theirs = theirs
        self.process = subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
        )
        self.seen = b""

    def until(self, text: bytes) -> None:
        end = time.monotonic() + 60
        while text not in self.seen:
            assert time.monotonic() < end, self.seen
            found, _, _ = select.select([self.ours], [], [], 1)
            if found:
                self.seen += os.read(self.ours, 65_536)

    def type(self, keys: bytes) -> None:
        os.write(self.ours, keys)

    def size(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        os.kill(self.process.pid, signal.SIGWINCH)  # which the kernel sends to a foreground group

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.ours)
        os.close(self.theirs)


def test_terminal__keys_as_they_are__its_size__and_as_before_at_the_end(rig: Rig) -> None:
    rig.start()
    screen = Terminal(words(rig, "/bin/sh", "-c", "echo ready; head -c 3 | od -c; exit 5"))
    try:
        screen.until(b"ready")
        assert rig.runner.asked[-1][-1] is True  # a terminal for the program, too
        program = rig.runner.programs[-1]
        assert program.sizes == [(33, 99)]
        screen.size(40, 120)
        end = time.monotonic() + 30
        while program.sizes[-1] != (40, 120):
            assert time.monotonic() < end
            time.sleep(0.05)
        screen.type(b"\x03\x04q")  # Ctrl-C and Ctrl-D are the program's
        screen.until(b"003 004   q")
        screen.until(b"ended with 5")
        assert screen.process.wait(30) == 5
        assert termios.tcgetattr(screen.theirs) == screen.before
    finally:
        screen.close()


def test_terminal__agent_goes__as_before__and_an_error(rig: Rig) -> None:
    rig.start()
    screen = Terminal(words(rig, "/bin/sh", "-c", "echo ready; cat"))
    try:
        screen.until(b"ready")
        rig.stop()
        screen.until(b"error: agent_unreachable")
        assert screen.process.wait(30) == 77
        assert termios.tcgetattr(screen.theirs) == screen.before
    finally:
        screen.close()


@pytest.mark.parametrize("code", [0, 9])
def test_pipe__input_to_its_end__output_and_errors_apart(rig: Rig, code: int) -> None:
    rig.start()
    text = os.urandom(300_000)
    done = subprocess.run(
        words(rig, "/bin/sh", "-c", f"cat; echo wrong >&2; exit {code}"),
        input=text,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == text + f"ended with {code}\n".encode()
    assert done.stderr == b"wrong\n"
    assert done.returncode == code
    assert rig.runner.asked[-1][-1] is False
