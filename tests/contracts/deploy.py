# SPDX-License-Identifier: Apache-2.0
"""Deploys the suite on titanoboa, for the unit tests and the stateful tests.

Sources are compiled once a session. The owner is a plain account unless a test passes another, so
that parameters can be set directly; `test_timelock.py` puts the real timelock there.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import boa
from boa import interpret
from boa.contracts.vyper.vyper_contract import VyperContract
from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_utils.crypto import keccak
from vyper.compiler.phases import CompilerData
from vyper.compiler.settings import anchor_settings
from vyper.ir.compile_ir import assembly_to_evm

from tests.contracts import two_machines
from tests.contracts.hash_readers import hash_readers
from tests.support import boa_cache
from tests.support.compiler import compile_quickly

boa_cache.notice_every_change()
two_machines.install()
compile_quickly()

ROOT = Path(__file__).resolve().parent.parent.parent
# Another directory stands in for it when mutants are tested.
CONTRACTS = Path(os.environ.get("TERAPROOF_CONTRACTS", ROOT / "contracts"))

ZERO_ADDRESS = "0x" + "00" * 20
DAY = 86_400
TPF = 10**18
USD = 10**6

# Staking's permissions: one bit a permission.
LOCK, SLASH, REWARD = 1, 2, 4

# What the mock holder does when it is asked to settle (mocks/Holder.vy).
PAY, FREE, REFUSE, EAT, IDLE, CALL = 1, 2, 4, 8, 16, 32

# Contracts are named by this type: titanoboa has no static one for what a source declares.
Contract = Any


@contextmanager
def _compiling() -> Iterator[None]:
    """What a compiler makes stays: the collector need not look through it again and again."""
    gc.disable()
    try:
        yield
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


@cache
def compiled_by_boa(name: str) -> Any:
    """Compile `contracts/<name>.vy` once; titanoboa's deployer."""
    with _compiling():
        deployer = boa.load_partial(str(CONTRACTS / f"{name}.vy"))
    hash_readers.know(deployer.compiler_data)
    return deployer


@dataclass(frozen=True)
class HalfCompiled:
    """What revm needs of a contract; titanoboa would compile the runtime code once more."""

    compiler_data: CompilerData


def half_compiled(source: Path) -> HalfCompiled:
    """Compile for revm alone, and keep nothing on the disk. VyperException if it cannot be."""
    stored, interpret._disk_cache = interpret._disk_cache, None
    try:
        with _compiling():
            data = interpret.compiler_data(source.read_text(), str(source), str(source))
            with anchor_settings(data.settings):
                _ = data.bytecode
    finally:
        interpret._disk_cache = stored
    return HalfCompiled(data)


@cache
def _deployment_source_map(data: CompilerData) -> Any:
    with anchor_settings(data.settings):
        return assembly_to_evm(data.assembly)[1]


# titanoboa makes it for each contract again, which takes longer than the deployment.
VyperContract._deployment_source_map = property(
    lambda contract: _deployment_source_map(contract.compiler_data)
)


# The last one deploys; none: titanoboa.
_machines: list[Callable[[str], Any]] = []


@contextmanager
def deployed_by(machine: Callable[[str], Any]) -> Iterator[None]:
    """Deploy on another machine; `machine(name)` has titanoboa's `deploy(*args)`."""
    _machines.append(machine)
    try:
        yield
    finally:
        _machines.pop()


def deployer_of(name: str) -> Any:
    """What deploys `contracts/<name>.vy`."""
    return _machines[-1](name) if _machines else compiled_by_boa(name)


@cache
def _key_of(role: str) -> LocalAccount:
    account: LocalAccount = Account.from_key(keccak(text=f"teraproof test {role}"))
    return account


def account_of(role: str) -> LocalAccount:
    """A key for a role that signs messages; always the same one for the same name."""
    account = _key_of(role)
    boa.env.alias(account.address, role)
    return account


def address_of(role: str) -> str:
    """The address of a role that signs nothing."""
    return str(account_of(role).address)


@dataclass(frozen=True)
class Parameters:
    """Constructor arguments of the suite. Times in seconds, shares in 1/10,000."""

    cap: int = 1_000_000_000 * TPF
    genesis_supply: int = 100_000_000 * TPF
    unbonding: int = 21 * DAY
    max_lock: int = 60 * DAY
    commission_delay: int = 7 * DAY
    fee_bps: int = 250
    challenge_window: int = DAY
    open_margin: int = 3_600
    lock_margin: int = 7 * DAY
    victim_bps: int = 5_000
    bounty_bps: int = 1_000
    # Proofs small enough to be made in a test: 256 x 256, depth 480.
    n: int = 256
    blocks: int = 1
    samples: int = 4
    bond: int = 1_000 * TPF
    genesis: int = 0
    # Every boundary opens a window, unless the last one is less than two hours ago.
    slot: int = 600
    chance_ppm: int = 1_000_000
    spacing: int = 7_200
    open_period: int = 120
    window: int = 300
    draw_period: int = 120
    # Blocks.
    draw_delay: int = 2
    reach: int = 600
    opening_period: int = 3_600
    fault_period: int = 2 * DAY
    bond_life: int = 30 * DAY
    score_life: int = DAY
    randomness: int = 0
    # TPF wei a second, halved every eight days; an epoch gets 10,000 TPF at most.
    rate: int = TPF // 5
    halving: int = 8 * DAY
    max_accrual: int = 50_000
    # A stake of 1,000 TPF backs 10^9 operations per second, more than any test proves.
    ops_per_tpf: int = 10**6
    target: int = 1
    capacity_bps: int = 8_000
    # The court. Seconds, TPF wei, payment token units.
    period: int = 3_600
    seat: int = 100 * TPF
    # A unit of the fee.
    small_fine: int = TPF // (4 * USD)
    big_fine: int = TPF // USD
    term: int = 30 * DAY
    panel: int = 3
    redraw_panel: int = 5
    appeal_panel: int = 9
    panel_min: int = 9
    price_per_seat: int = 10 * USD
    juror_fee_bps: int = 5_000
    min_fee: int = USD
    hourly_fee: int = USD // 2
    attendance: int = USD // 10
    draw_time: int = 1_800
    commit_time: int = 1_200
    reveal_time: int = 900
    redraw_time: int = 1_500
    appeal_time: int = 7_200
    close_time: int = DAY
    max_duration: int = 2 * DAY
    # Leases. Seconds.
    grace: int = 600
    max_gap: int = 300
    abandon: int = 1_800
    max_suspension: int = 3_600

    @property
    def length(self) -> int:
        """Seconds of an epoch."""
        return self.window + self.draw_period + self.reach + self.opening_period


@dataclass(frozen=True)
class Suite:
    """The deployed contracts and who holds which right."""

    parameters: Parameters
    deployer: str
    owner: str
    guardian: str
    treasury: str
    faucet: str
    """Holds the genesis supply of TPF."""
    token: Contract
    payment: Contract
    staking: Contract
    jobs: Contract
    scores: Contract
    managers: Mapping[str, int] = field(default_factory=dict)
    benchmark: Contract = None
    emissions: Contract = None
    disputes: Contract = None
    leases: Contract = None
    holder: Contract = None
    """Where there is no benchmark: a mock that holds, settles and rewards, and is the minter."""


@cache
def constructor_of(name: str) -> tuple[str, ...]:
    """The names of a constructor's arguments, in its order."""
    init = compiled_by_boa(name).compiler_data.global_ctx.init_function
    return tuple(argument.name for argument in init.arguments)


def construct(name: str, p: Parameters, **given: object) -> Contract:
    """Deploy `contracts/<name>.vy`; what is not given to its constructor is a parameter."""
    names = constructor_of(name)
    assert set(given) <= set(names), f"{name} is not constructed with {set(given) - set(names)}"
    values = {**asdict(p), **given}
    return deployer_of(name).deploy(*(values[argument] for argument in names))


def deploy_staking(token: Contract, owner: str, p: Parameters, deployer: str) -> Contract:
    """Staking alone, not sealed."""
    with boa.env.prank(deployer):
        return construct("Staking", p, token=token.address, owner=owner)


def deploy_jobs(
    payment: Contract,
    staking: Contract,
    owner: str,
    p: Parameters,
    *,
    scores: str = ZERO_ADDRESS,
    court: str = ZERO_ADDRESS,
    guardian: str,
    treasury: str,
) -> Contract:
    """Jobs alone; neither Staking nor a court knows it yet."""
    return construct(
        "Jobs",
        p,
        court=court,
        payment_token=payment.address,
        staking=staking.address,
        scores=scores,
        owner=owner,
        initial_guardian=guardian,
        treasury=treasury,
    )


def deploy_leases(
    payment: Contract,
    staking: Contract,
    owner: str,
    p: Parameters,
    *,
    scores: str = ZERO_ADDRESS,
    guardian: str,
    treasury: str,
) -> Contract:
    """Leases alone; Staking does not know it yet, and it knows no Jobs."""
    return construct(
        "Leases",
        p,
        payment_token=payment.address,
        staking=staking.address,
        scores=scores,
        owner=owner,
        initial_guardian=guardian,
        treasury=treasury,
        challenge_window=p.grace,
    )


def deploy_benchmark(staking: Contract, p: Parameters) -> Contract:
    """Benchmark alone; Staking does not know it yet."""
    return construct("Benchmark", p, staking=staking.address, randomness_source=p.randomness)


def deploy_disputes(staking: Contract, p: Parameters) -> Contract:
    """The court alone; it has no client, and Staking does not know it yet."""
    return construct("Disputes", p, staking=staking.address, randomness_source=p.randomness)


def deploy_emissions(
    token: Contract, staking: Contract, benchmark: Contract, owner: str, p: Parameters
) -> Contract:
    """Emissions alone; neither Token nor Staking knows it yet."""
    return construct(
        "Emissions",
        p,
        token=token.address,
        staking=staking.address,
        benchmark=benchmark.address,
        owner=owner,
    )


def deploy_suite(
    parameters: Parameters | None = None,
    *,
    owner: str | None = None,
    payment: Contract | None = None,
    with_scores: bool = False,
    with_benchmark: bool = False,
    with_court: bool = False,
    with_leases: bool = False,
    managers: Mapping[str, int] | None = None,
    sealed: bool = True,
    with_holder: bool = True,
) -> Suite:
    """Deploy and wire everything, as the deployment plan does.

    `managers` (address to permissions) are named next to Jobs, which may lock. `payment` replaces
    the mock dollar. `with_scores` puts a mock source of scores behind Jobs; `with_benchmark` the
    real one, and Emissions with it. Without them a mock holds, settles and mints, unless
    `with_holder` is false: then nobody is the minter yet. `with_court` gives Jobs a court,
    `with_leases` another contract, which stands between Jobs and the source of scores.
    """
    p = parameters or Parameters()
    deployer, guardian = address_of("deployer"), address_of("guardian")
    treasury, faucet = address_of("treasury"), address_of("faucet")
    owner = owner or address_of("owner")
    with boa.env.prank(deployer):
        token = construct("Token", p, owner=owner, genesis_receiver=faucet)
    payment = payment or deployer_of("testnet/PaymentToken").deploy()
    scores = deployer_of("mocks/Scores").deploy() if with_scores else None
    staking = deploy_staking(token, owner, p, deployer)
    # A challenge binds Benchmark's address, and with it what every draw asks for: so the address
    # follows from the parameters, not from what other test files have deployed before.
    benchmark, emissions = None, None
    if with_benchmark:
        maker = address_of(f"deployer of {p}")
        with boa.env.prank(maker):
            benchmark = deploy_benchmark(staking, p)
        emissions = deploy_emissions(token, staking, benchmark, owner, p)
        benchmark.setup_rewards(emissions.address, sender=maker)
    source = scores or benchmark
    disputes, leases = None, None
    if with_court:
        with boa.env.prank(deployer):
            disputes = deploy_disputes(staking, p)
    if with_leases:
        with boa.env.prank(deployer):
            leases = deploy_leases(
                payment,
                staking,
                owner,
                p,
                scores=source.address if source else ZERO_ADDRESS,
                guardian=guardian,
                treasury=treasury,
            )
        source = leases
    jobs = deploy_jobs(
        payment,
        staking,
        owner,
        p,
        scores=source.address if source else ZERO_ADDRESS,
        court=disputes.address if disputes else ZERO_ADDRESS,
        guardian=guardian,
        treasury=treasury,
    )
    # Who finishes the set-up by hand names the minter, too.
    by_hand = benchmark or not (sealed and with_holder)
    holder = None if by_hand else deployer_of("mocks/Holder").deploy(staking.address, token.address)
    named = {str(jobs.address): LOCK, **(managers or {})}
    if disputes:
        named[str(disputes.address)] = LOCK
        disputes.set_client(jobs.address, sender=deployer)
    if leases:
        named[str(leases.address)] = LOCK
        leases.setup_jobs(jobs.address, sender=deployer)
    if benchmark and emissions:
        named |= {str(benchmark.address): LOCK | SLASH, str(emissions.address): REWARD}
        token.set_minter(emissions.address, sender=deployer)
    if holder:
        named |= {str(holder.address): LOCK | SLASH | REWARD}
        token.set_minter(holder.address, sender=deployer)
    for manager, permissions in named.items():
        staking.setup_manager(manager, permissions, sender=deployer)
    if sealed:
        staking.seal(sender=deployer)
    return Suite(
        parameters=p,
        deployer=deployer,
        owner=owner,
        guardian=guardian,
        treasury=treasury,
        faucet=faucet,
        token=token,
        payment=payment,
        staking=staking,
        jobs=jobs,
        scores=scores,
        managers=named,
        benchmark=benchmark,
        emissions=emissions,
        disputes=disputes,
        leases=leases,
        holder=holder,
    )
