# SPDX-License-Identifier: Apache-2.0
"""The data plane of a lease: what the two ends of a connection say to each other. Normative.

A connection is TLS 1.3 with the ALPN name `teraproof-lease/1`, and carries one stream. Everything
inside is frames: one byte for the kind, four for the length of what follows (big-endian, at most
65,536), then that.

    agent  -> tenant   HELLO    JSON: certificate, nonce, operator, expires, signature
    tenant -> agent    OPEN     JSON: lease, what, and what it needs
    tenant -> agent    PROOF    JSON: delegate, expires, delegation, signature
    agent  -> tenant   READY    JSON, or REFUSED with the body of an error, which is the last frame
    both ways          DATA, and what else the stream needs

The certificate is trusted because the operator of the lease signed `PlaneCertificate`, and for no
other reason. The tenant's proof is over the certificate and a nonce of this connection: it serves
at no other agent, and no second time. The EIP-712 domain of all three messages is the contract
Leases. Digests of frames are sha256 of their bytes as they were sent.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Any, ClassVar

from teraproof import nesting
from teraproof.errors import AuthError, LocalError
from teraproof.protocol import signatures
from teraproof.protocol.errors import Code
from teraproof.protocol.messages import Domain, Fields, Struct, check_members, digest, recover
from teraproof.protocol.terms import address

ALPN = "teraproof-lease/1"
VERSION = 1

PIECE = 65_536
"""The most bytes of one frame, without its head."""
LONGEST_OPEN = 65_536
LONGEST_PROOF = 16_384
LONGEST_DELEGATION = 4 * 3_600
"""Seconds for which a session key may stand for a tenant. What a revocation takes back is known by
it, so a key that is signed for less than this is refused for as long after one.
"""
SKEW = 60
"""Seconds by which two clocks may differ."""
KEEP_SECONDS = 20.0
"""An end that has nothing to send sends KEEP that often."""

_HEAD = struct.Struct(">BI")
_SIZE = struct.Struct(">HH")
_EXIT = struct.Struct(">i")
_BYTES32 = re.compile(r"0x[0-9a-f]{64}")


class Frame(IntEnum):
    """The kinds of frames."""

    HELLO = 0
    OPEN = 1
    PROOF = 2
    READY = 3
    REFUSED = 4
    DATA = 5  # bytes of the port, of stdin, or of stdout
    STDERR = 6
    END = 7  # this end sends no more bytes
    SIZE = 8  # of the tenant's terminal: rows and columns, two bytes each
    EXIT = 9  # how a program ended, four bytes, signed; the last frame
    KEEP = 10  # the sender is there


class What(StrEnum):
    """What a stream is."""

    PORT = "port"  # the bytes of a TCP port of one container
    LOGS = "logs"  # what one container prints
    SHELL = "shell"  # a program in one container
    PORTS = "ports"  # nothing but its READY: the outer ports of the lease
    PUBLISH = "publish"  # nothing but its READY: how a public port is served from now on
    REVOKE = "revoke"  # nothing but its READY: no session key signed until now is good any more


@dataclass(frozen=True)
class PlaneCertificate(Struct):
    """The operator's word that a certificate is its data plane's. `certificate` is the sha256 of
    the DER form, `expires` unix seconds.
    """

    TYPE: ClassVar[str] = "PlaneCertificate"
    FIELDS: ClassVar[Fields] = (
        ("operator", "address"),
        ("certificate", "bytes32"),
        ("expires", "uint64"),
    )

    operator: str
    certificate: bytes
    expires: int


@dataclass(frozen=True)
class LeaseDelegate(Struct):
    """The tenant's word that a session key acts for it on one lease's data plane, and on nothing
    else, until `expires` (unix seconds).
    """

    TYPE: ClassVar[str] = "LeaseDelegate"
    FIELDS: ClassVar[Fields] = (
        ("lease", "bytes32"),
        ("delegate", "address"),
        ("expires", "uint64"),
    )

    lease: bytes
    delegate: str
    expires: int


@dataclass(frozen=True)
class LeaseStream(Struct):
    """Opens one stream on one connection: `certificate` and `nonce` are those of its HELLO, and
    `request` is the sha256 of the bytes of OPEN.
    """

    TYPE: ClassVar[str] = "LeaseStream"
    FIELDS: ClassVar[Fields] = (
        ("lease", "bytes32"),
        ("certificate", "bytes32"),
        ("nonce", "bytes32"),
        ("request", "bytes32"),
    )

    lease: bytes
    certificate: bytes
    nonce: bytes
    request: bytes


check_members(PlaneCertificate, LeaseDelegate, LeaseStream)


@dataclass(frozen=True)
class Hello:
    """The agent's first frame."""

    certificate: bytes
    nonce: bytes
    operator: str
    expires: int
    signature: bytes
    """Of the operator, over `PlaneCertificate`."""

    def encoded(self) -> bytes:
        """The frame's bytes."""
        return encoded(
            {
                "version": VERSION,
                "certificate": _hex(self.certificate),
                "nonce": _hex(self.nonce),
                "operator": self.operator,
                "expires": self.expires,
                "signature": _hex(self.signature),
            }
        )

    @classmethod
    def parse(cls, data: bytes) -> Hello:
        """LocalError for anything else."""
        found = decoded(data, "HELLO")
        if found.get("version") != VERSION:
            raise LocalError("the data plane speaks another version", Code.ANSWER_INVALID)
        return cls(
            bytes32(found, "certificate"),
            bytes32(found, "nonce"),
            address("operator", found.get("operator")),
            whole(found, "expires", 2**63),
            _signature(found, "signature"),
        )

    def check(self, domain: Domain, operator: str, shown: bytes, now: int) -> None:
        """Whether the lease's `operator` stands behind the certificate `shown` (DER), now.

        LocalError (certificate_unbound) where it does not.
        """
        if hashlib.sha256(shown).digest() != self.certificate:
            raise _unbound("it shows another certificate than it names")
        if address("operator", operator) != self.operator:
            raise _unbound(f"it belongs to {self.operator}, not to the lease's {operator}")
        if now >= self.expires:
            raise _unbound("the operator's word on it has expired")
        said = PlaneCertificate(self.operator, self.certificate, self.expires)
        try:
            signer = recover(domain, said, self.signature)
        except LocalError as error:
            raise _unbound(str(error)) from None
        if signer != self.operator:
            raise _unbound("another key signed for its certificate")


@dataclass(frozen=True)
class Request:
    """What a tenant asks for. `number` is that of the container. Texts and numbers that a kind
    does not need are left at their usual values.
    """

    lease: bytes
    what: What
    service: str = ""
    number: int = 0
    port: int = 0
    """In the container; for PUBLISH the outer number of the specification, its `as`."""
    follow: bool = False
    tail: int = 1000
    command: tuple[str, ...] = ()
    tty: bool = False
    rows: int = 24
    columns: int = 80
    mode: str = ""
    """For PUBLISH: `tls`, or `plain` where the container speaks TLS itself."""
    certificate: str = ""
    """For PUBLISH with `tls`: PEM, and in `key` its private key. Empty: the agent's own."""
    key: str = ""

    def __repr__(self) -> str:
        return f"Request({self.what} of {_hex(self.lease)} {self.service!r}:{self.port})"

    def encoded(self) -> bytes:
        """The bytes of OPEN."""
        members = dict(vars(self))
        members["lease"], members["what"] = _hex(self.lease), self.what.value
        usual = {name: one.default for name, one in self.__dataclass_fields__.items()}
        return encoded({name: value for name, value in members.items() if value != usual[name]})

    @classmethod
    def parse(cls, data: bytes) -> Request:
        """LocalError (field_invalid) for anything that is not a request."""
        found = decoded(data, "OPEN")
        try:
            what = What(found.get("what", ""))
        except ValueError:
            raise _malformed("OPEN", "what") from None
        if set(found) - set(cls.__dataclass_fields__):
            raise _malformed("OPEN", sorted(set(found) - set(cls.__dataclass_fields__))[0])
        command = found.get("command", [])
        if not isinstance(command, list) or not all(isinstance(word, str) for word in command):
            raise _malformed("OPEN", "command")
        mode = text(found, "mode")
        if mode not in ("", "tls", "plain") or (what is What.PUBLISH) != bool(mode):
            raise _malformed("OPEN", "mode")
        return cls(
            lease=bytes32(found, "lease"),
            what=what,
            service=text(found, "service", 63),
            number=whole(found, "number", 1_000, 0),
            port=whole(found, "port", 65_535, 0),
            follow=truth(found, "follow"),
            tail=whole(found, "tail", 100_000, 1000),
            command=tuple(command),
            tty=truth(found, "tty"),
            rows=whole(found, "rows", 10_000, 24),
            columns=whole(found, "columns", 10_000, 80),
            mode=mode,
            certificate=text(found, "certificate", LONGEST_OPEN),
            key=text(found, "key", LONGEST_OPEN),
        )


@dataclass(frozen=True)
class Proof:
    """Who asks. Without a delegate the tenant signed `LeaseStream` itself; with one, the session
    key did, and `delegation` is the tenant's signature over `LeaseDelegate`.
    """

    signature: bytes
    delegate: str = ""
    expires: int = 0
    delegation: bytes = b""

    def encoded(self) -> bytes:
        """The frame's bytes."""
        members: dict[str, Any] = {"signature": _hex(self.signature)}
        if self.delegate:
            members |= {
                "delegate": self.delegate,
                "expires": self.expires,
                "delegation": _hex(self.delegation),
            }
        return encoded(members)

    @classmethod
    def parse(cls, data: bytes) -> Proof:
        """LocalError for anything else."""
        found = decoded(data, "PROOF")
        if set(found) == {"signature"}:
            return cls(_signature(found, "signature"))
        if set(found) != set(cls.__dataclass_fields__):
            raise _malformed("PROOF", "delegate")
        return cls(
            _signature(found, "signature"),
            address("delegate", found["delegate"]),
            whole(found, "expires", 2**63),
            _signature(found, "delegation"),
        )

    def check_delegate(self, domain: Domain, stream: LeaseStream, now: int) -> bytes:
        """The digest that the tenant has to have signed as `delegation`. AuthError where the
        session key did not sign for this stream, or its time is over or too long.
        """
        if self.expires <= now:
            raise AuthError("the session key has expired; sign again", Code.SIGN_IN_EXPIRED)
        if self.expires > now + LONGEST_DELEGATION + SKEW:
            raise AuthError(
                f"a session key lives for {LONGEST_DELEGATION} s at most; sign for less",
                Code.SIGN_IN_EXPIRED,
            )
        try:
            signer = recover(domain, stream, signatures.normalised(self.signature))
        except LocalError as error:
            raise AuthError(str(error), Code.SIGNATURE_INVALID) from None
        if signer != self.delegate:
            raise AuthError("the stream is not signed by its session key", Code.SIGNATURE_INVALID)
        return digest(domain, LeaseDelegate(stream.lease, self.delegate, self.expires))


def frame(kind: Frame, data: bytes = b"") -> bytes:
    """One frame. `data` has at most PIECE bytes."""
    if len(data) > PIECE:
        raise ValueError("a frame is too long")
    return _HEAD.pack(kind, len(data)) + data


async def read_frame(reader: asyncio.StreamReader, longest: int = PIECE) -> tuple[Frame, bytes]:
    """The next frame. EOFError where the connection ends, LocalError for what is not a frame."""
    kind, length = _HEAD.unpack(await reader.readexactly(_HEAD.size))
    if length > longest or kind not in list(Frame):
        raise LocalError("not a frame of the data plane", Code.ANSWER_INVALID)
    return Frame(kind), await reader.readexactly(length)


def size(rows: int, columns: int) -> bytes:
    """The data of SIZE."""
    return _SIZE.pack(min(rows, 65_535), min(columns, 65_535))


def parse_size(data: bytes) -> tuple[int, int]:
    """Rows and columns. LocalError for anything else."""
    if len(data) != _SIZE.size:
        raise LocalError("not the size of a terminal", Code.FIELD_INVALID)
    rows, columns = _SIZE.unpack(data)
    return int(rows), int(columns)


def exit_code(code: int) -> bytes:
    """The data of EXIT."""
    return _EXIT.pack(code)


def parse_exit_code(data: bytes) -> int:
    """LocalError for anything else."""
    if len(data) != _EXIT.size:
        raise LocalError("not an exit code", Code.ANSWER_INVALID)
    return int(_EXIT.unpack(data)[0])


def encoded(members: Mapping[str, Any]) -> bytes:
    """JSON of a frame."""
    return json.dumps(members, separators=(",", ":")).encode()


def decoded(data: bytes, name: str) -> dict[str, Any]:
    """The JSON object in a frame. LocalError where there is none."""
    try:
        found = nesting.loads(data)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise LocalError(f"{name} is not a JSON object", Code.BODY_INVALID)
    return found


def bytes32(members: Mapping[str, Any], name: str) -> bytes:
    """32 bytes, written as 0x and 64 hex digits in lower case."""
    found = members.get(name)
    if not isinstance(found, str) or not _BYTES32.fullmatch(found):
        raise _malformed("a frame", name)
    return bytes.fromhex(found[2:])


def whole(members: Mapping[str, Any], name: str, most: int, usual: int | None = None) -> int:
    """A whole number from 0 to `most`."""
    found = members.get(name, usual)
    if not isinstance(found, int) or isinstance(found, bool) or not 0 <= found <= most:
        raise _malformed("a frame", name)
    return found


def text(members: Mapping[str, Any], name: str, longest: int = 64) -> str:
    """A text, empty where there is none."""
    found = members.get(name, "")
    if not isinstance(found, str) or len(found) > longest:
        raise _malformed("a frame", name)
    return found


def truth(members: Mapping[str, Any], name: str) -> bool:
    """True or false, false where it does not stand."""
    found = members.get(name, False)
    if not isinstance(found, bool):
        raise _malformed("a frame", name)
    return found


def _signature(members: Mapping[str, Any], name: str) -> bytes:
    found = members.get(name)
    read = signatures.read(found) if isinstance(found, str) else b""
    if not read:
        raise _malformed("a frame", name)
    return read


def _hex(data: bytes) -> str:
    return "0x" + data.hex()


def _malformed(where: str, name: str) -> LocalError:
    return LocalError(f"{where}: {name[:60]!a} is missing or malformed", Code.FIELD_INVALID)


def _unbound(why: str) -> LocalError:
    return LocalError(
        f"the data plane is not the lease's: {why}; nothing was sent", Code.CERTIFICATE_UNBOUND
    )
