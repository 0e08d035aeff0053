# SPDX-License-Identifier: Apache-2.0
"""`teraproof lease ssh`: the machine's own ssh, and one line where something is missing."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from click.testing import CliRunner

from teraproof.cli.main import main
from teraproof.errors import WrongInput
from teraproof.market import lease_notes, lease_ssh
from teraproof.market.leases import Lease
from teraproof.protocol.errors import Code, Exit
from teraproof.sdl.leases import read
from tests.support.codes import fails_as
from tests.support.sdl import SMALL, changed


@pytest.fixture
def lease(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lease:
    """One whose service `page` has port 22, by a specification that is noted here."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (found,) = read(changed(SMALL, "- port: 80", "- port: 22"))
    lease_notes.keep_spec(found.spec)
    order = SimpleNamespace(spec=found.spec.digest())
    return cast(Lease, SimpleNamespace(lease=b"\xab" * 32, terms=SimpleNamespace(order=order)))


def test_no_ssh_here__says_what_to_do_before_anything_is_asked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with fails_as(Code.EXTRA_MISSING) as caught:
        lease_ssh.program()
    assert "lease shell" in str(caught.value)
    key = tmp_path / "key"
    key.touch(mode=0o600)
    key.write_text("0x" + "11" * 32)
    line = ["lease", "ssh", "0xabcdef", "--key-file", str(key), "--rpc-url", "http://127.0.0.1:1"]
    done = CliRunner().invoke(main, line)
    assert done.exit_code == Exit.INPUT and "OpenSSH" in done.output, done.output


def test_port_that_the_file_does_not_name__says_so(lease: Lease) -> None:
    lease_ssh.check_port(lease, "page", 22)
    with pytest.raises(WrongInput, match="lease shell"):
        lease_ssh.check_port(lease, "page", 2_222)


def test_line__by_the_lease_and_not_by_the_local_port(lease: Lease) -> None:
    first, second = (
        lease_ssh.line_of("/usr/bin/ssh", lease, "page", 0, local, "me", ("uname", "-a"))
        for local in (4_001, 4_002)
    )
    assert first[-3:] == ["me@127.0.0.1", "uname", "-a"] and first[0] == "/usr/bin/ssh"
    assert first[first.index("-p") + 1] == "4001"
    names = [word for word in first if word.startswith("HostKeyAlias=")]
    assert names == [word for word in second if word.startswith("HostKeyAlias=")] != []
    assert "abab" in names[0] and "page" in names[0]
