# SPDX-License-Identifier: Apache-2.0
"""Who is a provider, which key signs for it, on which terms; and who manages."""

from __future__ import annotations

from teraproof.protocol.messages import OperatorConsent
from teraproof.protocol.terms import ZERO_ADDRESS
from tests.contracts.deploy import LOCK, REWARD, SLASH
from tests.contracts.stateful.driver import action
from tests.contracts.stateful.machine import BPS, FAR, Core, Manager, Provider, Why
from tests.contracts.stateful.world import (
    CANDIDATE,
    KEYS,
    OWNERS,
    PAYOUTS,
    STRANGER,
    WARDEN,
    signature,
)


def somebody(self: Core) -> bool:
    """There is a provider."""
    return bool(self.registered)


MARGIN = 86_400  # MANAGER_MARGIN


class RegistryActions(Core):
    """Registration, keys, commission, limits, managers."""

    def __post_init__(self) -> None:
        super().__post_init__()
        # (owner, operator, nonce) of every consent that was signed.
        self.consents: list[tuple[str, str, int]] = []
        self.spans: dict[tuple[str, str], tuple[int, int]] = {}
        """Owner and key that was let go: when it first spoke, and when it last did."""
        self.bound_at: dict[str, int] = {}
        """Owner: since when its present key speaks."""

    def consent(self, owner: str, operator: str, nonce: int, expires: int, signer: str) -> bytes:
        message = OperatorConsent(owner, operator, nonce, expires)
        return signature(self.world.staking, message, signer)

    def free_keys(self) -> list[str]:
        return [key for key in KEYS if self.provider_of(key) == ZERO_ADDRESS]

    def binding(self, why: Why, owner: str, operator: str, nonce: int, expires: int) -> None:
        """What binding a key asks for."""
        bound = self.provider_of(operator)
        why.need(bound in (ZERO_ADDRESS, owner), "operator is taken")
        why.need(nonce == self.next_consent[operator], "wrong consent nonce")
        why.need(self.now <= expires, "consent expired")

    @action(6, lambda self: len(self.registered) < len(OWNERS))
    def register(self) -> None:
        owner = self.pick([a for a in OWNERS if a not in self.providers])
        operator = self.pick(self.free_keys()) if self.chance(0.9) else self.pick([*KEYS])
        expires = self.pick((FAR, FAR, FAR, self.now, self.now - 1))
        self.enrol(owner, operator, expires, self.pick((0, 1, 1_000, 2_500, BPS, BPS, BPS + 1)))

    def enrol(self, owner: str, operator: str, expires: int, commission: int) -> bool:
        payout = self.pick((owner, *PAYOUTS))
        per_order, in_all = 10**23, 10**24
        nonce = self.next_consent[operator]
        why = Why()
        why.need(commission <= BPS, "commission above 100 %")
        why.need(owner not in self.providers, "already registered")
        self.binding(why, owner, operator, nonce, expires)
        signed = self.consent(owner, operator, nonce, expires, operator)
        args = (operator, payout, commission, per_order, in_all, "url", nonce, expires, signed)
        done = self.act("staking.register", args, owner, why)
        if done:
            self.providers[owner] = Provider(
                operator, payout, commission, commission, 0, per_order, in_all
            )
            self.bound(owner, operator, nonce)
        return done

    def bound(self, owner: str, operator: str, nonce: int) -> None:
        self.next_consent[operator] = nonce + 1
        self.consents.append((owner, operator, nonce))
        self.bound_at[owner] = self.now

    @action(1.0, somebody)
    def set_operator(self) -> None:
        owner = self.pick(self.registered)
        operator = self.pick(self.free_keys()) if self.chance(0.8) else self.pick([*KEYS])
        nonce = self.next_consent[operator]
        why = Why()
        self.binding(why, owner, operator, nonce, FAR)
        args = (operator, nonce, FAR, self.consent(owner, operator, nonce, FAR, operator))
        if self.act("staking.set_operator", args, owner, why):
            before = self.providers[owner].operator
            first, _ = self.spans.get((owner, before), (self.bound_at[owner], 0))
            self.spans[owner, before] = (first, self.now)
            self.providers[owner].operator = operator
            self.bound(owner, operator, nonce)

    def keys_of(self, owner: str, since: int, until: int) -> list[str]:
        """The keys that spoke for a provider at any moment of a time."""
        found = [
            key
            for (who, key), (first, last) in self.spans.items()
            if who == owner and first <= until and last >= since
        ]
        return found + [self.operator_of(owner)] * (self.bound_at[owner] <= until)

    @action(0.4, lambda self: self.consents)
    def replay_consent(self) -> None:
        """A consent that was used once binds nobody again."""
        owner, operator, nonce = self.pick(self.consents)
        if owner not in self.providers:
            return
        why = Why()
        self.binding(why, owner, operator, nonce, FAR)
        args = (operator, nonce, FAR, self.consent(owner, operator, nonce, FAR, operator))
        self.act("staking.set_operator", args, owner, why, hostile=True)

    @action(0.3, somebody)
    def forge_consent(self) -> None:
        """Signed by another key, for another owner."""
        owner = self.pick(self.registered)
        operator, signer = self.pick([*KEYS]), self.pick([*KEYS])
        if operator == signer:
            return
        nonce = self.next_consent[operator]
        why = Why()
        self.binding(why, owner, operator, nonce, FAR)
        why.need(False, "not the operator's consent")
        args = (operator, nonce, FAR, self.consent(owner, operator, nonce, FAR, signer))
        self.act("staking.set_operator", args, owner, why, hostile=True)

    @action(0.5, somebody)
    def set_payout(self) -> None:
        owner = self.pick(self.registered)
        payout = self.pick((owner, *PAYOUTS, *PAYOUTS, ZERO_ADDRESS))
        why = Why()
        why.need(payout != ZERO_ADDRESS, "zero payout")
        if self.act("staking.set_payout", (payout,), owner, why):
            self.providers[owner].payout = payout

    @action(1.5, somebody)
    def set_commission(self) -> None:
        owner = self.pick(self.registered)
        state = self.providers[owner]
        bps = self.pick((0, 1, 500, 2_500, 9_999, BPS, BPS + 1, state.commission_at(self.now)))
        why = Why()
        why.need(bps <= BPS, "commission above 100 %")
        if self.act("staking.set_commission", (bps,), owner, why):
            in_force = state.commission_at(self.now)
            # Lower: at once. Higher: after the delay, and a raise that waits is replaced.
            state.commission = min(in_force, bps)
            state.raised = bps
            higher = bps > in_force
            state.raised_from = self.now + self.p.commission_delay if higher else self.now
        assert self.view("staking", "commission_of", owner) == state.commission_at(self.now)

    @action(0.8, somebody)
    def set_lock_limits(self) -> None:
        owner = self.pick(self.registered)
        locked, bond = self.locked(owner), self.p.bond
        wide = (10**23, 10**24, 10**24)
        per_order = self.pick((0, locked, bond, bond - 1, *wide))
        in_all = self.pick((0, locked, locked + 1, max(locked, 1) - 1, bond, *wide))
        if self.act("staking.set_lock_limits", (per_order, in_all), owner, Why()):
            self.providers[owner].per_order = per_order
            self.providers[owner].in_all = in_all

    @action(2.0, lambda self: any(p.in_all < 10**22 for p in self.providers.values()))
    def renew_lock_limits(self) -> None:
        owner = self.pick([a for a, p in self.providers.items() if p.in_all < 10**22])
        self.act("staking.set_lock_limits", (10**23, 10**24), owner, Why())
        self.providers[owner].per_order, self.providers[owner].in_all = 10**23, 10**24

    # ------------------------------------------------------------------------------ managers

    @action(0.5)
    def announce_manager(self) -> None:
        manager = self.pick((CANDIDATE, CANDIDATE, WARDEN, self.jobs_address, ZERO_ADDRESS))
        permissions = self.pick((LOCK, SLASH, LOCK | SLASH, LOCK | SLASH | REWARD, 0))
        sender = self.timelock if self.chance(0.9) else STRANGER
        known = self.managers.get(manager)
        why = Why()
        why.need(sender == self.timelock, "not the owner")
        why.need(manager != ZERO_ADDRESS, "zero manager")
        why.need(permissions, "no permissions")
        why.need(not known or known.removed_at, "manager exists")
        why.need(
            not known or not known.removed_at or self.now >= known.removed_at + self.p.unbonding,
            "removed too recently",
        )
        if self.act("staking.announce_manager", (manager, permissions), sender, why):
            delay = self.p.unbonding + self.p.max_lock + MARGIN
            self.managers[manager] = Manager(permissions, self.now + delay)

    @action(0.15)
    def remove_manager(self) -> None:
        """Any of them may go: what it locked and holds must still find its end (I-2)."""
        rare = tuple(self.addresses[n] for n in ("jobs", "benchmark", "emissions", "disputes"))
        late = self.fresh > 40
        manager = self.pick((CANDIDATE, CANDIDATE, WARDEN, *(rare if late else ())))
        sender = self.timelock if self.chance(0.8) else STRANGER
        known = self.managers.get(manager)
        why = Why()
        why.need(sender == self.timelock, "not the owner")
        why.need(known and not known.removed_at, "unknown manager")
        if self.act("staking.remove_manager", (manager,), sender, why):
            assert known
            self.managers[manager] = Manager(known.permissions, known.active_from, self.now)
