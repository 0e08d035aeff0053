# SPDX-License-Identifier: Apache-2.0
"""What is owed to one lease of ours at a block: see `duty` for the whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from provider_agent.core.attempts import Attempts
from provider_agent.errors import RunnerError
from provider_agent.modules.leases.chain_view import LeaseView, Standing
from provider_agent.modules.leases.collecting import Collecting
from provider_agent.modules.leases.last_look import LastLook
from provider_agent.modules.leases.machine import Machine
from provider_agent.modules.leases.repository import LeaseRow, LeasesRepository
from provider_agent.modules.leases.settings import LeasesSettings
from provider_agent.modules.leases.specs import Specs
from provider_agent.modules.leases.stock import Chosen, Stock
from provider_agent.modules.leases.wishes import Wish
from provider_agent.runners.lease import Lease, Status
from provider_agent.runners.lease_spec import lease_of
from provider_agent.store import IntentState
from teraproof.contracts.leases import LeasesContract
from teraproof.errors import Refused, TeraproofError
from teraproof.protocol.errors import Code
from teraproof.protocol.lease_terms import LeaseStatus
from teraproof.protocol.leasespec import LeaseSpec
from teraproof.rpc.types import BlockRef

READY, SUSPEND, RESUME = "ready", "suspend", "resume"
NOTICE, LEAVE, CLOSE, SETTLE = "give_notice", "leave", "close", "settle"
_LANDED = (IntentState.MINED, IntentState.FINAL)


class Tenure:
    """See the module. Used by the loop's thread. `reaction` is how many seconds pass, about, from a
    look at the pinned block until a transaction is mined.
    """

    def __init__(
        self,
        *,
        store: LeasesRepository,
        settings: LeasesSettings,
        specs: Specs,
        stock: Stock,
        view: LeaseView,
        machine: Machine,
        attempts: Attempts,
        leases: LeasesContract,
        last_look: LastLook,
        collecting: Collecting,
        reaction: Callable[[], int],
        now: Callable[[], int],
        wishes: Callable[[], Mapping[bytes, Wish]] = dict,
    ) -> None:
        self._store, self._settings, self._specs, self._stock = store, settings, specs, stock
        self._view, self._machine, self._attempts = view, machine, attempts
        self._leases, self._reaction, self._now = leases, reaction, now
        self._last_look, self._collecting = last_look, collecting
        self._wishes = wishes

    def reconcile(self, row: LeaseRow, block: BlockRef, standing: Standing) -> None:
        """Do what is owed. Raises ChainError."""
        made_with = self._machine.devices.get(row.name)
        if made_with and not row.devices:  # the database was lost
            self._store.update(row.lease_id, devices=made_with)
        tenant = row.requester if self._needs_its_tenants_registry(row) else ""
        trouble = self._machine.prepare(row.name, lambda: self._make(row), tenant)
        if row.status is LeaseStatus.ASSIGNED:
            self._get_ready(row, block, trouble)
        elif row.status is LeaseStatus.ACTIVE:
            self._serve(row, block, standing, trouble)

    # ------------------------------------------------------------------ before `ready`

    def until_late(self, row: LeaseRow) -> float:
        """Seconds until a lease is nearly too late to be ready; below 0 when it is."""
        margin = min(row.terms.order.ready_within // 2, 30 + 2 * self._reaction())
        return row.ready_until - margin - self._now()

    def _get_ready(self, row: LeaseRow, block: BlockRef, trouble: Exception | None) -> None:
        if block.timestamp > row.ready_until:
            line = "the time to be ready has passed; the collateral can be seized"
            self._store.note(row, line, Code.DEADLINE_MISSED)
            return
        is_late = self.until_late(row) <= 0
        if self._machine.is_up(row.name):
            runs = self._last_look.runs(row.name)
            # Nearly too late, the last cycle's word is enough where this answer does not come.
            if runs or (runs is None and is_late):
                self._store.note(row, "runs; ready is on its way")
                self._ready(row)
            return
        waits = self._machine.waits_for_tenant(row.name)
        self._explain(row, trouble, "waits for its registry" if waits else "is being prepared")
        # Who holds it up with a password that does not come, a registry that drips, or a program
        # that ends, would get the collateral for it. What is missing here is never called ready.
        if is_late and self._is_the_tenants(row, trouble):
            self._ready(row)

    def _needs_its_tenants_registry(self, row: LeaseRow) -> bool:
        """Whether an image is fetched after the acceptance, with what the tenant sends for it."""
        spec = self._specs.spec(row.spec)
        return spec is not None and any(one.registry is not None for one in spec.services)

    def _is_the_tenants(self, row: LeaseRow, trouble: Exception | None) -> bool:
        """Whether what keeps a lease from running is its tenant's own doing."""
        machine = self._machine
        if machine.trouble is not None or not machine.is_fresh:
            return False
        # What went wrong before may be of another kind than what it waits for now.
        if machine.waits_for_tenant(row.name):
            return True
        own = self._needs_its_tenants_registry(row)
        if isinstance(trouble, Refused):
            # An image that everybody gets was here before the lease was taken.
            known = self._specs.spec(row.spec) is not None
            return known and (own or trouble.code is not Code.IMAGE_UNFIT)
        if isinstance(trouble, RunnerError) and trouble.code is Code.DISK_FULL:
            # How large such an image is, only its tenant knew when the lease was taken.
            return own and machine.lacks_images(row.name)
        state = machine.states.get(row.name)
        return state is not None and all(
            one.status is not Status.MISSING for one in state.containers
        )

    def _ready(self, row: LeaseRow) -> None:
        self._attempts.begin(
            row.name, READY, self._leases.ready(row.terms), deadline=row.ready_until
        )

    def _make(self, row: LeaseRow) -> Lease:
        """What the runner gets. Called in a thread of the machine."""
        spec = self._specs.spec(row.spec)
        if spec is None:
            raise Refused(Code.SPEC_MISSING, "waiting for the specification")
        devices = self._devices(row, spec)  # ours: before anything that is the tenant's
        self._machine.asks(row.name)
        return lease_of(
            row.name,
            spec,
            images=self._images(row, spec),
            devices=devices,
            outbound=self._settings.outbound,
        )

    def _images(self, row: LeaseRow, spec: LeaseSpec) -> dict[str, str]:
        """The images by their digests. What a name means is asked once, and kept."""
        images, logins = dict(row.images), self._machine.logins(row.name)
        for each in spec.services:
            if each.name in images:
                continue
            login = logins.get(each.name)
            if each.registry is not None and login is None:
                line = f"{each.name}: waiting for the credentials of its registry"
                raise Refused(Code.LOGINS_MISSING, line)
            images[each.name] = self._machine.runner.resolve(each.image, login)
        if images != row.images:
            self._store.update(row.lease_id, images=images)
        return images

    def _devices(self, row: LeaseRow, spec: LeaseSpec) -> Chosen:
        if row.devices:
            found = self._stock.find(row.devices)
            if found is None:
                raise RunnerError("a GPU of the lease is not there any more")
            return found
        chosen = self._stock.choose(spec)
        if chosen is None:
            raise RunnerError("no GPUs are free that fit the lease")
        if chosen:
            named = {name: tuple(one.uuid for one in each) for name, each in chosen.items()}
            self._store.update(row.lease_id, devices=named)
        return chosen

    def _explain(self, row: LeaseRow, trouble: Exception | None, line: str) -> None:
        if isinstance(trouble, TeraproofError):
            self._store.note(row, str(trouble), trouble.code)
        elif trouble is not None:
            self._store.note(row, "cannot be started; see the log", Code.RUNNER_FAILED)
        else:
            self._store.note(row, line)

    # ------------------------------------------------------------------ from `ready` on

    def _serve(
        self, row: LeaseRow, block: BlockRef, standing: Standing, trouble: Exception | None
    ) -> None:
        up, now = self._machine.is_up(row.name), block.timestamp
        if up and not row.was_up:
            self._store.update(row.lease_id, was_up=1)
        earned = self._earned(row, standing)
        if now > row.ends_at or earned >= row.state.deposited // row.rate:
            self._store.note(row, "is over" if now > row.ends_at else "the deposit is used up")
            self._begin(row, CLOSE, self._leases.close(row.terms))
            return
        if not row.in_grace(now):
            seconds = max(row.state.paid, min(earned, row.state.deposited // row.rate))
            if seconds != row.seconds:
                self._store.update(row.lease_id, seconds=seconds)
        if self._wish(row):
            return
        if row.marks.suspended_at:
            self._while_suspended(row, standing, trouble)
        elif self._is_down(row, up=up):
            self._explain(row, trouble, self._why_down(row))
            self._suspend(row, block)
        elif up:
            self._store.note(row, "runs")
            self._settle(row, earned, now)
        else:
            self._store.note(row, self._why_down(row), Code.LEASE_DOWN)

    def _earned(self, row: LeaseRow, standing: Standing) -> int:
        """Seconds that the contract counts for a lease at the block."""
        if row.marks.suspended_at:
            return row.state.base
        return max(0, self._view.pulse(standing.owner).live - row.state.base)

    def _is_down(self, row: LeaseRow, *, up: bool) -> bool:
        """Whether rent must stop: it is down for long enough, or has never run at all."""
        if up:
            return False
        never = not row.was_up and self._machine.is_known(row.name)
        return never or self._machine.down_for(row.name) > self._settings.down_seconds

    def _why_down(self, row: LeaseRow) -> str:
        if self._machine.trouble is not None:
            return "nothing is known of its containers: the engine does not answer"
        state = self._machine.states.get(row.name)
        if state is None:
            return "its containers are not there"
        down = ", ".join(f"{one.service} {one.number} {one.status.value}" for one in state.down[:5])
        return f"down: {down}" if down else "it was stopped"

    def _suspend(self, row: LeaseRow, block: BlockRef) -> None:
        number = row.suspends
        made = self._attempts.made(row.name, f"{SUSPEND}-{number}")
        if made and made[-1].state in _LANDED and made[-1].mined is not None:
            if made[-1].mined.block_number > block.number:
                return  # it is on the chain, and the pinned block is before it
            # It was resumed since.
            number += 1
            self._store.update(row.lease_id, suspends=number)
        self._begin(row, f"{SUSPEND}-{number}", self._leases.suspend(row.terms))

    def _while_suspended(
        self, row: LeaseRow, standing: Standing, trouble: Exception | None
    ) -> None:
        since = row.marks.suspended_at
        # A moment longer than it was down: what falls over again at once is not resumed.
        steady = self._machine.up_for(row.name) >= min(self._settings.down_seconds, 30.0)
        if steady and self._machine.is_up(row.name):
            self._store.note(row, "runs again; resuming")
            self._begin(row, f"{RESUME}-{since}", self._leases.resume(row.terms))
            return
        self._explain(row, trouble, f"suspended; {self._why_down(row)}")
        if row.marks.leaves_at:
            return
        # Suspended for too long counts as leaving. Notice that ends before that costs nothing.
        notice = row.terms.order.notice
        latest = since + standing.max_suspension - notice - 2 * self._reaction()
        if self._now() >= latest or (self._machine.is_hopeless(row.name) and not row.was_up):
            self._begin(row, NOTICE, self._leases.give_notice(row.terms))

    def _wish(self, row: LeaseRow) -> bool:
        """Whether the owner wants to leave, and that is all there is to do."""
        wanted = self._wishes().get(row.lease_id)
        if wanted is Wish.LEAVE:
            self._store.note(row, "leaving at once, as the owner wants")
            self._begin(row, LEAVE, self._leases.leave(row.terms))
            return True
        if wanted is Wish.NOTICE and not row.marks.leaves_at:
            self._begin(row, NOTICE, self._leases.give_notice(row.terms))
        return False

    def _settle(self, row: LeaseRow, earned: int, now: int) -> None:
        due = min(earned, row.state.deposited // row.rate) - row.state.paid
        if row.in_grace(now) or not self._collecting.is_worth_it(row, due):
            return
        self._begin(row, f"{SETTLE}-{row.state.paid}", self._leases.settle(row.terms))

    def _begin(self, row: LeaseRow, action: str, data: bytes) -> None:
        self._attempts.begin(row.name, action, data)
