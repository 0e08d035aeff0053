# SPDX-License-Identifier: Apache-2.0
"""The leases as others see them: the tenant by its report, the challenge's desk by its devices."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from provider_agent.devices import Device
from provider_agent.modules.leases.checkpoints import LeaseCheckpoints
from provider_agent.modules.leases.machine import Machine
from provider_agent.modules.leases.repository import LIVE, LeaseRow, LeasesRepository
from provider_agent.modules.leases.specs import Specs
from provider_agent.modules.leases.stock import Chosen
from provider_agent.prover.acceptance.desk import Place
from provider_agent.runners.lease import Credentials
from teraproof.acceptance.format import Lease
from teraproof.errors import Refused
from teraproof.protocol.errors import Code, one_line
from teraproof.protocol.lease_checkpoints import AskedSave
from teraproof.protocol.lease_terms import LeaseStatus
from teraproof.protocol.lease_wire import (
    MOST_TEXT,
    ContainerReport,
    EndpointReport,
    LeaseReport,
    RegistryLogins,
)
from teraproof.protocol.leasespec import LeaseSpec


class LeaseViews:
    """See the module. Asked from any thread.

    `owner` is the provider's address, None while there is none; `find` the devices of UUIDs;
    `command` starts the worker of a challenge by the runner's name of a lease, () for here.
    `endpoints` says how a port is reached, by lease and specification: the data plane's to answer.
    """

    def __init__(
        self,
        *,
        store: LeasesRepository,
        specs: Specs,
        machine: Machine,
        chain_id: int,
        contract: str,
        owner: Callable[[], str | None],
        find: Callable[[Mapping[str, tuple[str, ...]]], Chosen | None],
        checkpoints: LeaseCheckpoints,
        command: Callable[[str], tuple[str, ...]] = lambda name: (),
    ) -> None:
        self._store, self._specs, self._machine = store, specs, machine
        self._chain_id, self._contract = chain_id, contract
        self._owner, self._find, self._checkpoints = owner, find, checkpoints
        self._command = command
        self.endpoints: Callable[[LeaseRow, LeaseSpec], Sequence[EndpointReport]] = unreached

    # ------------------------------------------------------------------ the tenant

    def report(self, lease: bytes) -> LeaseReport | None:
        """How a lease stands; None for one that is not known."""
        row = self._store.lease(lease)
        if row is None:
            return None
        spec, state = self._specs.spec(row.spec), row.state
        kept = self._checkpoints.kept(row.name)
        is_active, is_live = row.status is LeaseStatus.ACTIVE, row.is_ours and row.status in LIVE
        return LeaseReport(
            lease=lease,
            spec=row.spec,
            requester=row.requester,
            status=row.status,
            rate=row.rate if row.is_ours else 0,
            outcome=row.outcome if row.status is LeaseStatus.NONE else None,
            blocked_by=row.code if row.status is not LeaseStatus.NONE else None,
            note=row.note,
            running=is_live and self._machine.is_up(row.name),
            suspended=is_active and row.marks.suspended_at > 0,
            assigned_at=state.since if row.status is LeaseStatus.ASSIGNED else 0,
            ready_at=state.since if is_active else 0,
            leaves_at=row.marks.leaves_at if is_active else 0,
            ends_at=row.ends_at if is_active else 0,
            seconds=row.seconds,
            seconds_paid=state.paid,
            affordable=state.deposited // row.rate if is_active else 0,
            containers=self._containers(row) if is_live else (),
            endpoints=tuple(self.endpoints(row, spec)) if is_live and spec is not None else (),
            logins=self._waiting(row, spec) if is_live and spec is not None else (),
            checkpoint=kept.checkpoint,
            saved_at=kept.at,
            unsaved=one_line(kept.trouble, MOST_TEXT),
        )

    def log_in(self, lease: bytes, logins: RegistryLogins) -> None:
        """Use these credentials for the images of a lease: they stay in memory. What opens a store
        is kept as long as the lease.
        """
        row = self._store.lease(lease)
        if row is None or not row.is_ours:
            raise Refused(Code.LEASE_UNKNOWN, "this provider does not have the lease")
        if row.status not in LIVE:
            raise Refused(Code.LEASE_OVER, "the lease has ended")
        spec = self._specs.spec(row.spec)
        known = set() if spec is None else {each.name for each in spec.services}
        unknown = sorted(logins.by_service.keys() - known)
        if unknown:
            line = f"the lease has no service {unknown[0]}"
            raise Refused(Code.FIELD_INVALID, line, field="services")
        if logins.store is not None:
            self._checkpoints.give(row.name, logins.store)
        self._machine.log_in(
            row.name,
            {
                name: Credentials(one.username, one.password, one.host)
                for name, one in logins.by_service.items()
            },
        )

    def save(self, lease: bytes, save: int) -> AskedSave:
        """Have the checkpoint of a lease be saved now, and how far that is; see `LeaseCheckpoints`.
        Refused for one that is not active, or names none.
        """
        row = self._store.lease(lease)
        if row is None or not row.is_ours:
            raise Refused(Code.LEASE_UNKNOWN, "this provider does not have the lease")
        if row.status not in LIVE:
            raise Refused(Code.LEASE_OVER, "the lease has ended")
        spec = self._specs.spec(row.spec)
        if spec is not None and spec.checkpoints is None:
            raise Refused(Code.CHECKPOINTS_NOT_OFFERED, "the lease names no checkpoints")
        return self._checkpoints.ask(row.name, save)

    def _containers(self, row: LeaseRow) -> tuple[ContainerReport, ...]:
        state = self._machine.states.get(row.name)
        if state is None:
            return ()
        return tuple(
            ContainerReport(
                service=one.service,
                number=one.number,
                status=one.status.value,
                exit_code=one.exit_code,
                started=None if one.started is None else int(one.started),
                deaths=one.deaths,
                detail=one.detail,
            )
            for one in state.containers
        )

    def _waiting(self, row: LeaseRow, spec: LeaseSpec) -> tuple[str, ...]:
        """Services whose registry wants credentials that are not here."""
        if row.was_up:
            return ()
        have = self._machine.logins(row.name)
        return tuple(one.name for one in spec.services if one.registry and one.name not in have)

    # ------------------------------------------------------------------ the challenge

    def place(self, lease: bytes) -> Place | None:
        """Where a lease is challenged; None unless it is ours and goes on. A tenant may see `ready`
        on the chain before we do.
        """
        row, owner = self._store.lease(lease), self._owner()
        if row is None or owner is None or not row.is_ours:
            return None
        spec = self._specs.spec(row.spec)
        if row.status not in LIVE or spec is None:
            return None
        one = Lease(self._chain_id, self._contract, owner, lease)
        found = self._find(row.devices) if row.devices else {}
        devices: list[Device] = [each for service in (found or {}).values() for each in service]
        memory = spec.needs().memory_bytes
        engines: tuple[str, ...] = ("cpu",)
        if devices:
            memory = min(each.memory_bytes for each in devices)
            engines = tuple(f"cuda:{each.index}" for each in devices)
        place = Place(one, row.requester, engines, memory)
        command = self._command(row.name)
        return replace(place, command=command) if command else place


def unreached(row: LeaseRow, spec: LeaseSpec) -> Sequence[EndpointReport]:
    """The ports that the tenant has asked for, without a way to them."""
    return [
        EndpointReport(each.name, port.port, port.as_port, port.protocol, port.public)
        for each in spec.services
        for port in each.ports
    ]
