# SPDX-License-Identifier: Apache-2.0
"""The suite that every example starts from, on revm, and its people by role."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

from eth_account.signers.local import LocalAccount

from teraproof.protocol.messages import Domain, Hashed, digest
from tests.contracts.deploy import (
    DAY,
    LOCK,
    SLASH,
    TPF,
    USD,
    Parameters,
    Suite,
    account_of,
    address_of,
    deploy_suite,
    deployed_by,
)
from tests.contracts.revm import Revm
from tests.contracts.stateful.lens import Lens

HOUR = 3_600
STARTED = 1_800_000_000
GENESIS_SUPPLY = 100_000_000 * TPF
# A round in a window of a minute is a score of some 10**6, which 1,000 TPF of stake back: now the
# score is what counts, now the stake.
PARAMETERS = Parameters(
    unbonding=2 * DAY,
    max_lock=20 * DAY,
    commission_delay=12 * HOUR,
    challenge_window=4 * HOUR,
    lock_margin=DAY,
    n=256,
    blocks=1,
    samples=2,
    bond=1_000 * TPF,
    genesis=0,
    slot=2 * HOUR,
    chance_ppm=700_000,
    spacing=3 * HOUR,
    open_period=30,
    window=60,
    draw_period=600,
    draw_delay=2,
    reach=1_200,
    opening_period=1_200,
    fault_period=9 * HOUR,
    bond_life=30 * HOUR,
    score_life=DAY,
    rate=TPF // 3,
    halving=3 * DAY,
    max_accrual=16 * HOUR,
    ops_per_tpf=1_000,
    target=3 * 10**6,
    capacity_bps=8_000,
    genesis_supply=GENESIS_SUPPLY,
    # Fines that take seats, and times that are over before everything else is.
    period=2 * HOUR,
    seat=100 * TPF,
    small_fine=3 * TPF // USD,
    big_fine=6 * TPF // USD,
    term=16 * DAY,
    panel_min=9,
    price_per_seat=6 * USD,
    draw_time=900,
    commit_time=1_200,
    reveal_time=900,
    redraw_time=HOUR,
    appeal_time=2 * HOUR,
    close_time=6 * HOUR,
    max_duration=DAY,
)
UNLIMITED = 2**256 - 1
# secp256k1: its order, and the base point itself as the point of every signature.
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
POINT = 0x79BE667EF9DCBBAC55A06295CE870B07029BFCDB2DCE28D959F2815B16F81798
INVERSE, ODD = 1, 0
FORTUNE = 5_000_000 * TPF

OWNERS = tuple(address_of(f"provider {n}") for n in range(3))
OPERATORS = tuple(account_of(f"operator {n}") for n in range(6))
JURORS = tuple(address_of(f"juror {n}") for n in range(6))
JUROR_OPERATORS = tuple(account_of(f"operator of juror {n}") for n in range(6))
DELEGATORS = tuple(address_of(f"delegator {n}") for n in range(3))
TENANTS = tuple(address_of(f"tenant {n}") for n in range(2))
PAYOUTS = tuple(address_of(f"payout {n}") for n in range(2))
# Owns nothing and holds no right: it pokes what anybody may poke.
STRANGER = address_of("stranger")
# A manager that may lock, slash and hold, and one that may be announced later.
WARDEN = address_of("warden")
CANDIDATE = address_of("candidate")
MANAGERS = {WARDEN: LOCK | SLASH}
KEYS: dict[str, LocalAccount] = {account.address: account for account in OPERATORS}
SIGNING = KEYS | {account.address: account for account in JUROR_OPERATORS}
# Who may sign permits.
SIGNERS = {a.address: a for a in map(account_of, ("delegator 0", "delegator 1"))}
PAYERS = {a.address: a for a in map(account_of, ("tenant 0", "tenant 1"))}
BURNED = "0x000000000000000000000000000000000000dEaD"

HOLDERS = (*OWNERS, *DELEGATORS, STRANGER)
PROVIDERS = (*OWNERS, *JURORS)
PEOPLE = (*PROVIDERS, *DELEGATORS, *TENANTS, *PAYOUTS, STRANGER)
NAMES = {STRANGER: "stranger", WARDEN: "warden", CANDIDATE: "candidate", BURNED: "burned"} | {
    address: f"{role}{n}"
    for role, group in (
        ("owner", OWNERS),
        ("operator", tuple(KEYS)),
        ("juror", JURORS),
        ("juror's key", tuple(account.address for account in JUROR_OPERATORS)),
        ("delegator", DELEGATORS),
        ("tenant", TENANTS),
        ("payout", PAYOUTS),
    )
    for n, address in enumerate(group)
}


def holders_of(provider: str) -> tuple[str, ...]:
    """Who ever joins a pool: nobody but its owner that of a juror."""
    return (provider,) if provider in JURORS else HOLDERS


@dataclass(frozen=True)
class World:
    """The deployed suite and what signs for it."""

    suite: Suite
    chain: Revm
    lens: Lens
    staking: Domain
    jobs: Domain
    start: int
    """Unix seconds at which every example starts."""


def short(value: Any) -> str:
    """A short form of an argument, for notes."""
    if isinstance(value, str):
        return NAMES.get(value, value)
    if isinstance(value, bytes):
        return value.hex()[:8]
    if isinstance(value, tuple | list):
        return f"({', '.join(map(short, value))})"
    if isinstance(value, int) and value >= 10**15 and value % 10**12 == 0:
        return f"{value / TPF:g}e18"
    return str(value)


@cache
def world() -> World:
    """Deployed once a process."""
    return build(Revm(STARTED))


def build(chain: Revm, journal: list[tuple[Any, ...]] | None = None) -> World:
    """Deploy, and give everybody tokens and allowances; what comes after the first is noted."""
    with deployed_by(chain.deployer):
        suite = deploy_suite(PARAMETERS, with_benchmark=True, with_court=True, managers=MANAGERS)
    chain.journal = journal
    for name in ("token", "payment", "staking", "jobs", "benchmark", "emissions", "disputes"):
        chain.rename(getattr(suite, name), name)
    for account in (*PROVIDERS, *DELEGATORS, STRANGER):
        suite.token.transfer(account, FORTUNE, sender=suite.faucet)
        suite.token.approve(suite.staking.address, UNLIMITED, sender=account)
    for account in (*TENANTS, *PROVIDERS, STRANGER):
        suite.payment.mint(account, 10**12 * USD)
        suite.payment.approve(suite.jobs.address, UNLIMITED, sender=account)
    chain.sent = chain.reverted = 0
    return World(
        suite,
        chain,
        Lens(chain),
        Domain(1, str(suite.staking.address)),
        Domain(1, str(suite.jobs.address)),
        chain.now,
    )


@lru_cache(maxsize=8_192)
def signature(domain: Domain, message: Hashed, signer: str) -> bytes:
    """The signature of one of the operators.

    One secret number for all of them, which would give the keys away: these are worth nothing, and
    the point of the curve need not be computed a thousand times per second.
    """
    found = int.from_bytes(digest(domain, message), "big")
    s = INVERSE * (found + POINT * int.from_bytes(bytes(SIGNING[signer].key), "big")) % ORDER
    parity = ODD
    if s > ORDER // 2:
        s, parity = ORDER - s, 1 - ODD
    return POINT.to_bytes(32, "big") + s.to_bytes(32, "big") + bytes([27 + parity])
