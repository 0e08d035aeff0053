# SPDX-License-Identifier: Apache-2.0
"""Whether a tenant may have a stream, and what of its lease it means."""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from provider_agent.dataplane.holders import Holding, Leaseholders, Phase
from provider_agent.dataplane.limits import PlaneLimits
from provider_agent.dataplane.revoked import Revoked
from provider_agent.http.clients import RateLimit
from teraproof.errors import AuthError, Refused, counted
from teraproof.protocol import leasespec, siwe
from teraproof.protocol.dataplane import Hello, LeaseStream, Proof, Request, What
from teraproof.protocol.errors import Code
from teraproof.protocol.messages import Domain, digest

_KEPT = 1_024
_LOOK_SECONDS = 30.0  # a clock may be set


class Access:
    """Checks proofs; called from several threads. Delegations that were found good are remembered,
    so that a session key costs one look at the tenant's account and not one for each stream.
    """

    def __init__(
        self,
        holders: Leaseholders,
        domain: Domain,
        eth_call: siwe.EthCall,
        limits: PlaneLimits,
        revoked: Revoked,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._holders, self._domain, self._eth_call = holders, domain, eth_call
        self._revoked = revoked
        self._clock, self._lock = clock, threading.Lock()
        self._known: OrderedDict[bytes, None] = OrderedDict()
        keys, proofs = limits.keys_per_minute, limits.proofs_per_minute
        self._strange = RateLimit(keys, keys)
        self._proofs = RateLimit(proofs, proofs // 10 or 1)

    def check(
        self, address: str, hello: Hello, opened: bytes, request: Request, proof: Proof
    ) -> Holding:
        """The lease that the sender of `opened`, the bytes of the request, may use now. `address`
        is where it comes from.

        Refused or AuthError say why there is none; ChainError where a contract wallet cannot be
        asked.
        """
        holding = self._holders.find(request.lease)
        if holding is None:
            raise Refused(Code.LEASE_UNKNOWN, "the agent has no such lease; try again soon")
        stream = LeaseStream(
            request.lease, hello.certificate, hello.nonce, hashlib.sha256(opened).digest()
        )
        name, turn = _name(holding, proof), self._revoked.turn(request.lease)
        with self._lock:
            known = name in self._known
        self._count(self._proofs if known else self._strange, address)
        said, signature = digest(self._domain, stream), proof.signature
        if proof.delegate:
            said = proof.check_delegate(self._domain, stream, int(self._clock()))
            signature = proof.delegation
            if request.what is What.REVOKE:
                # Who has stolen one would take all others back.
                line = "only the tenant itself takes session keys back; sign the request with it"
                raise AuthError(line, Code.NOT_TENANT)
            self.check_alive(request, proof)
        if not known:
            error = siwe.refusal(holding.requester, said, signature, self._eth_call)
            if error is not None:
                raise _of_the_tenant(error, holding.requester)
            if proof.delegate:
                self._remember(name)
        if proof.delegate and not self._revoked.used(request.lease, proof.expires, turn):
            raise _taken_back()
        check_phase(holding)
        return holding

    def check_alive(self, request: Request, proof: Proof) -> None:
        """AuthError where the session key of a proof was taken back."""
        if proof.delegate and self._revoked.is_dead(request.lease, proof.expires):
            raise _taken_back()

    async def key_ends(self, proof: Proof) -> None:
        """Raises AuthError once the session key of a proof has expired; what the tenant has signed
        itself goes on.
        """
        if not proof.delegate:
            return
        while (left := proof.expires - self._clock()) > 0:
            await asyncio.sleep(min(left, _LOOK_SECONDS))
        raise AuthError("the session key has expired; sign again", Code.SIGN_IN_EXPIRED)

    def _count(self, rate: RateLimit, address: str) -> None:
        if not rate.allow(address):
            pause = rate.pause(address)
            line = f"too many streams; wait for {counted(pause, 'second')}"
            raise Refused(Code.RATE_LIMITED, line, retry_after=pause)

    def _remember(self, name: bytes) -> None:
        """A contract may take its word back, so a stream that it signs itself is always asked for;
        a key that it has named is good until it expires.
        """
        with self._lock:
            self._known[name] = None
            while len(self._known) > _KEPT:
                self._known.popitem(last=False)


def _name(holding: Holding, proof: Proof) -> bytes:
    """Stands for all that a tenant's signature on a session key depends on."""
    parts = (
        holding.lease,
        holding.requester.encode(),
        proof.delegate.encode(),
        proof.expires.to_bytes(8, "big"),
        proof.delegation,
    )
    return hashlib.sha256(b"|".join(hashlib.sha256(part).digest() for part in parts)).digest()


def check_phase(holding: Holding) -> None:
    """Refused unless a lease's ports are open now."""
    if holding.phase is Phase.GRACE:
        raise Refused(
            Code.LEASE_UNCONFIRMED, "the lease is in its grace: confirm it, or wait for its end"
        )
    if holding.phase is Phase.ENDED:
        raise Refused(Code.LEASE_OVER, "the lease has ended")


def service_of(holding: Holding, request: Request) -> leasespec.Service:
    """The service that a request means. Refused where the lease has no such container."""
    for service in holding.spec.services:
        if service.name == request.service:
            if request.number >= service.count:
                raise Refused(
                    Code.PORT_UNKNOWN, f"{service.name} has {service.count} containers, from 0 on"
                )
            return service
    names = ", ".join(each.name for each in holding.spec.services)
    raise Refused(Code.PORT_UNKNOWN, f"the lease has no such service; it has {names}")


def check_port(service: leasespec.Service, port: int) -> None:
    """Refused unless the specification names this TCP port: no other is reachable."""
    named = sorted({each.port for each in service.ports if each.protocol == "tcp"})
    if port not in named:
        said = ", ".join(map(str, named)) or "none"
        raise Refused(
            Code.PORT_UNKNOWN, f"{service.name} has no TCP port {port}; its file names {said}"
        )


def _taken_back() -> AuthError:
    line = "the tenant has taken this session key back; sign again, for the whole time"
    return AuthError(line, Code.SIGN_IN_EXPIRED)


def _of_the_tenant(error: AuthError, tenant: str) -> AuthError:
    """What is signed by another key is another's; how a signature is malformed stays said."""
    if error.code is not Code.SIGNATURE_INVALID:
        return error
    return AuthError(f"not signed by the lease's tenant, {tenant}", Code.NOT_TENANT)
