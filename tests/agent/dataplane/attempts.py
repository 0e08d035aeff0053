# SPDX-License-Identifier: Apache-2.0
"""What strangers and tenants try, in single frames where it has to be."""

from __future__ import annotations

import hashlib
import json
import ssl
import struct
from typing import Any

import pytest

from teraproof.client import dataplane as client
from teraproof.errors import LocalError
from teraproof.protocol.dataplane import (
    Frame,
    LeaseStream,
)
from teraproof.protocol.errors import Code
from tests.agent.dataplane.conftest import (
    DOMAIN,
    LEASE,
    Rig,
    asking,
    run,
)

HEAD = struct.Struct(">BI")


def refused(work: Any) -> Code:
    """The code of what an attempt is refused with."""
    with pytest.raises(LocalError) as caught:
        run(work)
    return caught.value.code


def take(link: ssl.SSLSocket) -> tuple[Frame, bytes]:
    """A frame from a bare connection."""
    head = b""
    while len(head) < HEAD.size:
        piece = link.recv(HEAD.size - len(head))
        if not piece:
            raise EOFError
        head += piece
    kind, size = HEAD.unpack(head)
    data = b""
    while len(data) < size:
        data += link.recv(size - len(data))
    return Frame(kind), data


def code_of(data: bytes) -> str:
    return str(json.loads(data)["error"]["code"])


def proof_for(rig: Rig, hello: bytes, opened: bytes, lease: bytes = LEASE) -> bytes:
    found = json.loads(hello)
    stream = LeaseStream(
        lease,
        bytes.fromhex(found["certificate"][2:]),
        bytes.fromhex(found["nonce"][2:]),
        hashlib.sha256(opened).digest(),
    )
    return rig.key(lease).proof(DOMAIN, stream).encoded()


async def opened(rig: Rig, key: client.SessionKey) -> None:
    stream = await client.connect(rig.place(), asking(), key)
    await stream.close()


def opens(rig: Rig) -> None:
    """A tenant gets a stream."""

    async def work() -> None:
        stream = await client.connect(rig.place(), asking(), rig.key())
        await stream.write(b"x")
        assert (await stream.read())[1] == b"x"
        await stream.close()

    run(work())
