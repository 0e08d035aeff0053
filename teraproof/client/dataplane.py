# SPDX-License-Identifier: Apache-2.0
"""The tenant's end of a lease's data plane: ports, logs and programs of its containers.

`session_key` asks the account for one signature, which serves for a while. `connect` opens one
stream; `forward`, `logs` and `shell` do the whole of what a command wants. Nothing is sent before
the agent has shown that the lease's operator stands behind its certificate.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
import ssl
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO, Protocol
from urllib.parse import urlsplit

from eth_account import Account
from eth_account.signers.local import LocalAccount

from teraproof.client.dialling import dialled
from teraproof.client.sessions import KeptSession
from teraproof.errors import LocalError, RemoteError, WrongInput
from teraproof.protocol import dataplane, messages, signatures
from teraproof.protocol.dataplane import (
    ALPN,
    KEEP_SECONDS,
    PIECE,
    Frame,
    Hello,
    LeaseDelegate,
    LeaseStream,
    Proof,
    Request,
    What,
)
from teraproof.protocol.errors import Code, WireError
from teraproof.storage.reach import Reach

KEY_SECONDS = dataplane.LONGEST_DELEGATION
"""How long a session key is asked for."""
_MARGIN = 60  # seconds before its end in which a session key is not begun with
_SILENCE = 4 * KEEP_SECONDS  # without any frame, the agent is gone
_AGAIN = 1.0  # seconds between two tries
_OPENING = 30.0  # seconds for everything up to READY
_TOKEN = re.compile(r"([0-9a-f]{64})\.([0-9]{1,12})\.((?:[0-9a-f]{2})+)")


class TypedSigner(Protocol):
    """An account that signs EIP-712 documents."""

    @property
    def address(self) -> str:
        """EIP-55."""
        ...

    def sign_typed(self, document: dict[str, Any]) -> bytes:
        """The signature over a document."""
        ...


def host_and_port(endpoint: str) -> tuple[str, int]:
    """The two parts of `host:port`. WrongInput where it is not that."""
    try:
        parts = urlsplit(f"//{endpoint}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or not port or parts.path or "@" in endpoint or " " in endpoint:
        raise WrongInput(f"{endpoint[:100]!a} is not an endpoint; give host:port")
    return host, port


@dataclass(frozen=True)
class Place:
    """Where the data plane of a lease is. `operator` is the lease's, by the chain: whatever an
    agent says of itself counts for nothing. `domain` is that of the contract Leases.
    """

    host: str
    port: int
    lease: bytes
    operator: str
    domain: messages.Domain
    patience: float = 0.0
    """Seconds for which an agent is asked again that has not seen yet that the tenant confirmed: it
    reads the chain some blocks deep.
    """
    reach: Reach = field(default_factory=Reach.own)
    """Which addresses it may be at. An agent says by itself where its data plane is."""

    @classmethod
    def at(cls, endpoint: str, lease: bytes, operator: str, domain: messages.Domain) -> Place:
        """The place at an endpoint `host:port`. WrongInput where it is not one."""
        return cls(*host_and_port(endpoint), lease, operator, domain)

    @property
    def endpoint(self) -> str:
        """The inverse of `at`."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class SessionKey:
    """A key of this program that stands for the tenant on one lease's data plane, for a while."""

    account: LocalAccount
    expires: int
    delegation: bytes
    kept: KeptSession | None = field(default=None, compare=False)
    """Where it is kept for later commands."""

    def __repr__(self) -> str:
        return f"SessionKey({self.account.address})"

    def proof(self, domain: messages.Domain, stream: LeaseStream) -> Proof:
        """Who asks for this stream."""
        signature = messages.sign(domain, stream, self.account)
        return Proof(signature, str(self.account.address), self.expires, self.delegation)

    def forget(self) -> None:
        """The agent does not take it: the next command asks the account for another."""
        if self.kept is not None:
            self.kept.forget()


class Prover(Protocol):
    """What can open streams: a `SessionKey`, or `Signed` for each stream by itself."""

    def proof(self, domain: messages.Domain, stream: LeaseStream) -> Proof:
        """Who asks for this stream."""
        ...


@dataclass(frozen=True)
class Signed:
    """The account signs each stream by itself: no key is made."""

    signer: TypedSigner

    def proof(self, domain: messages.Domain, stream: LeaseStream) -> Proof:
        """Asks the account."""
        return Proof(self.signer.sign_typed(messages.typed_data(domain, stream)))


def session_key(
    place: Place,
    signer: TypedSigner,
    kept: KeptSession | None = None,
    seconds: int = KEY_SECONDS,
    clock: Callable[[], float] = time.time,
) -> SessionKey:
    """A session key for a lease: the kept one while it lasts, or a new one that `signer`, the
    tenant, signs for. `kept` is `Sessions.of(lease_url(place), signer.address)`; None keeps none.
    """
    token = None if kept is None else kept.token()
    found = None if token is None else _from_token(token)
    if found is not None and found.expires > clock() + _MARGIN:
        return replace(found, kept=kept)
    made: LocalAccount = Account.create()
    expires = int(clock()) + seconds
    said = LeaseDelegate(place.lease, str(made.address), expires)
    delegation = signer.sign_typed(messages.typed_data(place.domain, said))
    if kept is not None:
        kept.keep(f"{made.key.hex().removeprefix('0x')}.{expires}.{delegation.hex()}", expires)
    return SessionKey(made, expires, delegation, kept)


def lease_url(place: Place) -> str:
    """What the session key of a lease is kept under."""
    return f"teraproof-lease://0x{place.lease.hex()}"


def _from_token(token: str) -> SessionKey | None:
    found = _TOKEN.fullmatch(token)
    if found is None:
        return None
    try:
        account = Account.from_key(bytes.fromhex(found[1]))
        return SessionKey(account, int(found[2]), signatures.read(found[3]))
    except (ValueError, LocalError):
        return None


class Stream:
    """One open stream. One task reads, and any number write."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        place: Place,
    ) -> None:
        self._reader, self._writer, self._place = reader, writer, place
        self._keeping: asyncio.Task[None] | None = None
        #: What the agent said in READY.
        self.details: dict[str, Any] = {}

    async def open(self, request: Request, prover: Prover) -> None:
        """Shows who asks, and what for. LocalError where the agent is another's, or refuses."""
        kind, data = await dataplane.read_frame(self._reader)
        if kind is Frame.REFUSED:
            raise self._refused(data)
        if kind is not Frame.HELLO:
            raise self._no_agent()
        hello = Hello.parse(data)
        shown = self._writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        hello.check(self._place.domain, self._place.operator, shown or b"", int(time.time()))
        asked = request.encoded()
        if len(asked) > dataplane.LONGEST_OPEN:
            raise WrongInput("the command or the certificate is too long for one request")
        stream = LeaseStream(
            request.lease, hello.certificate, hello.nonce, hashlib.sha256(asked).digest()
        )
        # A signer may ask a person, or read from a disk.
        proof = await asyncio.to_thread(prover.proof, self._place.domain, stream)
        self._writer.write(dataplane.frame(Frame.OPEN, asked))
        self._writer.write(dataplane.frame(Frame.PROOF, proof.encoded()))
        await self._writer.drain()
        kind, data = await dataplane.read_frame(self._reader)
        while kind is Frame.KEEP:
            kind, data = await dataplane.read_frame(self._reader)
        if kind is Frame.REFUSED:
            raise self._refused(data)
        if kind is not Frame.READY:
            raise self._no_agent()
        self.details = dataplane.decoded(data, "READY")
        self._keeping = asyncio.create_task(self._keep())

    async def read(self) -> tuple[Frame, bytes]:
        """The next DATA, STDERR, END or EXIT. LocalError when the connection or the agent ends."""
        while True:
            try:
                async with asyncio.timeout(_SILENCE):
                    kind, data = await dataplane.read_frame(self._reader)
            except TimeoutError:
                raise self._broke("the agent is silent") from None
            except (OSError, EOFError) as error:
                raise self._broke("the connection broke") from error
            if kind is Frame.REFUSED:
                raise self._refused(data)
            if kind is not Frame.KEEP:
                return kind, data

    async def pieces(self) -> AsyncIterator[bytes]:
        """The bytes that the other end sends, to its END."""
        while True:
            kind, data = await self.read()
            if kind is Frame.END:
                return
            if kind is Frame.DATA:
                yield data

    async def write(self, data: bytes) -> None:
        """Sends bytes; waits where the other end does not read."""
        try:
            for at in range(0, len(data), PIECE):
                self._writer.write(dataplane.frame(Frame.DATA, data[at : at + PIECE]))
                await self._writer.drain()
        except OSError as error:
            raise self._broke("the connection broke") from error

    async def finish(self) -> None:
        """Says that no more bytes come from here."""
        await self._send(Frame.END)

    async def resize(self, rows: int, columns: int) -> None:
        """Says how large the terminal is."""
        await self._send(Frame.SIZE, dataplane.size(rows, columns))

    async def close(self) -> None:
        """Ends the stream and its connection."""
        if self._keeping is not None:
            self._keeping.cancel()
        self._writer.transport.abort()

    async def _keep(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                await asyncio.sleep(KEEP_SECONDS)
                await self._send(Frame.KEEP)

    async def _send(self, kind: Frame, data: bytes = b"") -> None:
        with contextlib.suppress(OSError):  # who reads finds out
            self._writer.write(dataplane.frame(kind, data))
            await self._writer.drain()

    def _refused(self, data: bytes) -> LocalError:
        error = WireError.parse(data)
        return self._no_agent() if error is None else RemoteError(self._place.endpoint, error)

    def _no_agent(self) -> LocalError:
        return LocalError(
            f"{self._place.endpoint}: no Teraproof data plane answers there", Code.ANSWER_INVALID
        )

    def _broke(self, why: str) -> LocalError:
        return LocalError(f"{self._place.endpoint}: {why}; try again", Code.AGENT_UNREACHABLE)


async def connect(
    place: Place, request: Request, prover: Prover, seconds: float = _OPENING
) -> Stream:
    """Opens a stream within `seconds` and the place's patience. LocalError says why not; the caller
    closes it.
    """
    until = time.monotonic() + place.patience
    while True:
        try:
            return await _connect(place, request, prover, seconds)
        except RemoteError as error:
            if error.code is not Code.LEASE_UNCONFIRMED or time.monotonic() >= until:
                raise
        await asyncio.sleep(_AGAIN)


async def _connect(place: Place, request: Request, prover: Prover, seconds: float) -> Stream:
    stream: Stream | None = None
    try:
        async with asyncio.timeout(seconds):
            reader, writer = await dialled(
                (place.host, place.port), place.reach, seconds, _context(), 2 * PIECE
            )
            stream = Stream(reader, writer, place)
            if writer.get_extra_info("ssl_object").selected_alpn_protocol() != ALPN:
                raise stream._no_agent()
            await stream.open(replace(request, lease=place.lease), prover)
            return stream
    except BaseException as error:
        if stream is not None:
            await stream.close()
        expired = isinstance(error, RemoteError) and error.code is Code.SIGN_IN_EXPIRED
        if expired and isinstance(prover, SessionKey):
            prover.forget()
        if isinstance(error, TimeoutError):
            line = f"{place.endpoint}: no answer within {seconds:g} s; try again"
            raise LocalError(line, Code.AGENT_UNREACHABLE) from None
        if isinstance(error, OSError | EOFError):
            line = f"{place.endpoint}: no connection to the data plane; try again"
            raise LocalError(line, Code.AGENT_UNREACHABLE) from error
        raise


def _context() -> ssl.SSLContext:
    """No authority is asked: `Hello.check` decides, before anything is sent."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols([ALPN])
    return context


# ---------------------------------------------------------------------------- ports


async def forwarding(
    place: Place,
    prover: Prover,
    request: Request,
    local_port: int = 0,
    host: str = "127.0.0.1",
    say: Callable[[LocalError], None] = lambda error: None,
) -> asyncio.Server:
    """A server on this machine whose connections lead to a port of the lease. `say` hears why one
    did not. WrongInput when the local port cannot be had.
    """

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            stream = await connect(place, replace(request, what=What.PORT), prover)
            try:
                await _join(stream, reader, writer)
            finally:
                await stream.close()
        except LocalError as error:
            say(error)
        finally:
            writer.transport.abort()

    try:
        return await asyncio.start_server(serve, host, local_port, limit=PIECE)
    except (OSError, OverflowError):
        raise WrongInput(f"port {local_port} of {host} cannot be had; name another") from None


def forward(
    place: Place,
    prover: Prover,
    request: Request,
    local_port: int = 0,
    ready: Callable[[int], None] = lambda port: None,
    say: Callable[[LocalError], None] = lambda error: None,
) -> None:
    """Forwards a port of this machine until it is interrupted. `ready` hears which one."""

    async def work() -> None:
        # Who may not finds out now. The port itself is not tried: some serve one connection.
        probe = await connect(place, Request(place.lease, What.PORTS), prover)
        await probe.close()
        server = await forwarding(place, prover, request, local_port, say=say)
        ready(int(server.sockets[0].getsockname()[1]))
        await server.serve_forever()

    asyncio.run(work())


def forwarded(
    place: Place,
    prover: Prover,
    request: Request,
    use: Callable[[int], int],
    say: Callable[[LocalError], None] = lambda error: None,
) -> int:
    """What `use` returns. Until then a port of this machine, which it is given, leads there."""

    async def work() -> int:
        probe = await connect(place, Request(place.lease, What.PORTS), prover)
        await probe.close()
        async with await forwarding(place, prover, request, say=say) as server:
            return await asyncio.to_thread(use, int(server.sockets[0].getsockname()[1]))

    return asyncio.run(work())


async def _join(stream: Stream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Carries both ways until both have ended, or one breaks."""

    async def out() -> None:
        while piece := await reader.read(PIECE):
            await stream.write(piece)
        await stream.finish()

    async def back() -> None:
        async for piece in stream.pieces():
            writer.write(piece)
            await writer.drain()
        writer.write_eof()

    tasks = [asyncio.create_task(out()), asyncio.create_task(back())]
    try:
        await asyncio.gather(*tasks)
        await writer.drain()
        writer.close()
        await writer.wait_closed()
    except OSError:
        return  # this machine's own program has gone
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


# ---------------------------------------------------------------------------- logs, publishing


def logs(place: Place, prover: Prover, request: Request, out: BinaryIO, errors: BinaryIO) -> None:
    """Writes what a container printed to `out` and `errors`; with `follow` until it ends."""

    async def work() -> None:
        stream = await connect(place, replace(request, what=What.LOGS), prover)
        try:
            while True:
                kind, data = await stream.read()
                if kind is Frame.END:
                    return
                target = errors if kind is Frame.STDERR else out
                await asyncio.to_thread(written, target, data)
        finally:
            await stream.close()

    asyncio.run(work())


def asked(place: Place, prover: Prover, request: Request) -> dict[str, Any]:
    """The answer to a request that is nothing but its answer: PORTS, PUBLISH and REVOKE."""

    async def work() -> dict[str, Any]:
        stream = await connect(place, request, prover)
        await stream.close()
        return stream.details

    return asyncio.run(work())


def written(target: BinaryIO, data: bytes) -> None:
    """All of it, and at once."""
    target.write(data)
    target.flush()
