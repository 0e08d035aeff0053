# SPDX-License-Identifier: Apache-2.0
"""The tenants' door: one connection, one proof, one stream."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from provider_agent.dataplane.access import Access, check_port, service_of
from provider_agent.dataplane.entrance import Guest
from provider_agent.dataplane.holders import Holding
from provider_agent.dataplane.identity import Identities, Identity
from provider_agent.dataplane.limits import PlaneLimits
from provider_agent.dataplane.link import Link
from provider_agent.dataplane.relay import Meter, until
from provider_agent.dataplane.revoked import Revoked
from provider_agent.dataplane.streams import Streams
from provider_agent.http.errors import told
from teraproof.errors import LocalError, Refused, TeraproofError
from teraproof.protocol import dataplane
from teraproof.protocol.dataplane import ALPN, Frame, Proof, Request, What
from teraproof.protocol.errors import Code

log = logging.getLogger(__name__)

Answers = Mapping[What, Callable[[Holding, Request], Awaitable[Mapping[str, Any]]]]
"""For the requests that are nothing but their answer."""


class _Opened:
    """The open streams of one lease."""

    def __init__(self) -> None:
        self.tasks: set[asyncio.Task[Any] | None] = set()
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def end(self, why: Refused) -> None:
        """All of them end now, and say why."""
        if not self._ended.done():
            self._ended.set_exception(why)
            self._ended.exception()  # there may be nobody left to hear it

    async def ended(self) -> None:
        """Raises why, once they have to end."""
        await asyncio.shield(self._ended)


class Door:
    """Serves guests of the tenants' entrance, on the loop. `end` may be called at any time."""

    def __init__(
        self,
        access: Access,
        identities: Identities,
        streams: Streams,
        answers: Answers,
        revoked: Revoked,
        limits: PlaneLimits,
        checking: ThreadPoolExecutor,
        refused: Callable[[], None] = lambda: None,
        taken_back: Callable[[str], None] = lambda account: None,
    ) -> None:
        self._refused, self._taken_back = refused, taken_back
        self._access, self._identities, self._revoked = access, identities, revoked
        self._streams, self._limits, self._checking = streams, limits, checking
        self._answers = {**answers, What.REVOKE: self._revoke}
        self._open: dict[bytes, _Opened] = {}
        self._programs: Counter[bytes] = Counter()
        self._meters: dict[bytes, Meter] = {}

    async def serve(self, guest: Guest) -> None:
        """One guest, from its connection to its end."""
        try:
            async with asyncio.timeout(self._limits.opening_seconds):
                identity = self._identities.current()
                await guest.secure(identity.tenants, self._limits.opening_seconds)
                assert guest.reader is not None and guest.writer is not None
                secured = guest.writer.get_extra_info("ssl_object")
                if secured.selected_alpn_protocol() != ALPN:
                    return
                link = Link(guest.reader, guest.writer, self._limits.idle_seconds)
                holding, request, proof = await self._admit(guest, link, identity)
        except TimeoutError:
            return
        except Refused as refused:
            self._refused()
            await link.refuse(refused)
            return
        guest.busy()
        await self._stream(link, holding, request, proof)

    async def _admit(
        self, guest: Guest, link: Link, identity: Identity
    ) -> tuple[Holding, Request, Proof]:
        """What the guest may have, and by which proof. Refused where it may have nothing."""
        hello = identity.hello(secrets.token_bytes(32))
        await link.send(Frame.HELLO, hello.encoded())
        try:
            _, opened = await link.read(Frame.OPEN, longest=dataplane.LONGEST_OPEN)
            _, proved = await link.read(Frame.PROOF, longest=dataplane.LONGEST_PROOF)
        except LocalError as error:
            raise as_told(error) from None
        try:
            request, proof = Request.parse(opened), Proof.parse(proved)
            check = partial(self._access.check, guest.address, hello, opened, request, proof)
            holding = await asyncio.get_running_loop().run_in_executor(self._checking, check)
        except Exception as error:
            if not isinstance(error, TeraproofError):
                log.exception("data plane: a proof could not be checked")
            raise as_told(error) from None
        return holding, request, proof

    async def _stream(self, link: Link, holding: Holding, request: Request, proof: Proof) -> None:
        lease = holding.lease
        task = asyncio.current_task()
        opened = self._open.setdefault(lease, _Opened())
        opened.tasks.add(task)
        program = request.what in (What.LOGS, What.SHELL)
        self._programs[lease] += program
        try:
            if len(opened.tasks) > self._limits.streams_per_lease:
                raise Refused(Code.RATE_LIMITED, "too many streams of the lease; end one first")
            if self._programs[lease] > self._limits.programs_per_lease:
                raise Refused(
                    Code.RATE_LIMITED, "too many logs and shells of the lease; end one first"
                )
            if self._programs.total() > self._limits.programs:
                raise Refused(Code.SERVER_BUSY, "too many logs and shells of all tenants; wait")
            # A key may have been taken back while a contract was asked for the tenant's word.
            self._access.check_alive(request, proof)
            if request.what is What.REVOKE:
                await self._serve(link, holding, request)  # it ends all streams but its own
            else:
                key = self._access.key_ends(proof)
                await until(self._serve(link, holding, request), opened.ended(), key)
        except Refused as refused:
            await link.refuse(refused)
        except (OSError, EOFError):
            raise
        except LocalError as error:  # what came is not a frame, or belongs elsewhere
            await link.refuse(as_told(error))
        finally:
            opened.tasks.discard(task)
            if not opened.tasks and self._open.get(lease) is opened:
                del self._open[lease]
            self._programs[lease] -= program
            if not self._programs[lease]:
                del self._programs[lease]

    async def _serve(self, link: Link, holding: Holding, request: Request) -> None:
        if request.what in self._answers:
            found = await self._answers[request.what](holding, request)
            await link.send(Frame.READY, dataplane.encoded(found))
            return
        service, lease_id = service_of(holding, request), holding.lease_id
        meter = self.meter(holding.lease)
        if request.what is What.PORT:
            check_port(service, request.port)
            await self._streams.port(link, lease_id, request, meter)
        elif request.what is What.LOGS:
            await self._streams.logs(link, lease_id, request, meter)
        else:
            await self._streams.shell(link, lease_id, request, meter)

    async def _revoke(self, holding: Holding, request: Request) -> Mapping[str, Any]:
        """Takes all session keys of a lease back, and ends what they have opened, before anything
        that may fail. Its tenant's sessions of the API end as well.
        """
        kept = True
        try:
            self._revoked.take_back(holding.lease)
        except OSError as error:
            log.warning("data plane: revocations cannot be kept: %s", error.strerror)
            kept = False
        gone = Refused(Code.SIGN_IN_EXPIRED, "the tenant has taken its keys back")
        self._cut(holding.lease, gone)
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(None, self._taken_back, holding.requester)
        except Exception:
            log.exception("data plane: the sessions of a tenant cannot be ended")
            line = "keys are taken back, sessions of the API are not: its disk fails; ask again"
            raise Refused(Code.SERVER_BUSY, line) from None
        if not kept:
            line = "taken back until this agent starts again: its disk fails; ask again soon"
            raise Refused(Code.SERVER_BUSY, line)
        return {}

    def meter(self, lease: bytes) -> Meter:
        """The bandwidth of a lease: one for its streams and its public ports."""
        return self._meters.setdefault(lease, Meter(self._limits.bytes_per_second))

    def keep(self, leases: Collection[bytes]) -> None:
        """Ends the streams of all other leases, and forgets these."""
        for lease in {*self._open, *self._meters} - set(leases):
            self.end(lease)

    def end(self, lease: bytes) -> None:
        """Ends all streams of a lease, which has ended."""
        self._cut(lease, Refused(Code.LEASE_OVER, "the lease has ended"))
        self._meters.pop(lease, None)

    def _cut(self, lease: bytes, why: Refused) -> None:
        opened = self._open.pop(lease, None)
        if opened is not None:
            opened.end(why)


def as_told(error: Exception) -> Refused:
    """An error as a stranger may see it; what is malformed is the stranger's own."""
    if isinstance(error, LocalError) and error.code in (
        Code.FIELD_INVALID,
        Code.BODY_INVALID,
        Code.BAD_REQUEST,
        Code.INPUT_INVALID,
        Code.ANSWER_INVALID,
        Code.FAILED,
    ):
        code = error.code if error.code.status else Code.FIELD_INVALID
        return Refused(code, str(error))
    return told(error)
