# SPDX-License-Identifier: Apache-2.0
"""Start-up checks: one line each, in the order in which later ones need earlier ones."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, TypeVar

from provider_agent import devices
from provider_agent.app import database, make_runner, read_key
from provider_agent.core.pools import make_pool
from provider_agent.errors import RunnerError, SettingsError
from provider_agent.modules.jobs.chain_view import ChainView
from provider_agent.modules.proofs.epochs import EpochView, unfit
from provider_agent.modules.proofs.prover import measure
from provider_agent.settings import Settings
from provider_agent.store import inspect
from teraproof.contracts.benchmark import BenchmarkContract
from teraproof.contracts.emissions import EmissionsContract
from teraproof.contracts.jobs import JobsContract
from teraproof.contracts.staking import StakingContract
from teraproof.contracts.token import TokenContract
from teraproof.epochs import rules_of
from teraproof.errors import LocalError, TeraproofError, counted
from teraproof.pog.schedule import Rules
from teraproof.protocol.errors import Code
from teraproof.rpc.client import RpcPool
from teraproof.rpc.endpoint import Endpoint
from teraproof.rpc.errors import ChainError
from teraproof.rpc.fees import Pricer
from teraproof.rpc.pace import Pace

_CLOCK_SKEW = 60  # seconds; blocks may be older than that on a quiet chain, never newer
_OLD_HEAD, _OLD_BLOCKS = 120.0, 20  # seconds, or blocks, after which a head is old
_LOW_GAS = 10**16  # wei
_ZERO_ADDRESS = "0x" + "00" * 20
_AnyContract = TypeVar("_AnyContract", BenchmarkContract, EmissionsContract)


@dataclass(frozen=True)
class Finding:
    """The outcome of one check. A `warning` does not keep the agent from starting."""

    name: str
    ok: bool
    line: str
    warning: bool = False


def startup(settings: Settings) -> Iterator[Finding]:
    """Run every check; a failed one does not stop those that do not need it."""
    checks = _Checks(settings)
    for name, check in (
        ("data", checks.data),
        ("key", checks.key),
        ("database", checks.database),
        ("devices", checks.devices),
        ("runtimes", checks.runtimes),
        ("sandbox", checks.sandbox),
        ("rpc", checks.rpc),
        ("clock", checks.clock),
        ("fees", checks.fees),
        ("contracts", checks.contracts),
        ("gas", checks.gas),
        ("provider", checks.provider),
        *checks.proofs(),
    ):
        yield _finding(name, check)
    checks.close()


class _Warning(LocalError):
    """Worth a line, and no reason not to start."""

    default: ClassVar[Code] = Code.CHECK_WARNING


def _finding(name: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding(name, True, check())
    except _Warning as warning:
        return Finding(name, True, str(warning), warning=True)
    except TeraproofError as error:
        return Finding(name, False, str(error))


class _Checks:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._address: str | None = None
        self._pool: RpcPool | None = None  # once it has answered
        self._contracts = False  # whether they are there, and belong together
        self._rules: Rules | None = None  # once the Benchmark contract has answered
        self._pools: list[RpcPool] = []

    def close(self) -> None:
        """Close the connections of the checks."""
        for pool in self._pools:
            pool.close()

    def data(self) -> str:
        place = self._settings.agent.data_dir
        try:
            place.mkdir(parents=True, exist_ok=True, mode=0o700)
            free = shutil.disk_usage(place).free
        except OSError as error:
            raise SettingsError(
                f"cannot use {place}: {error.strerror}; set agent.data_dir"
            ) from None
        if not os.access(place, os.W_OK | os.X_OK):
            raise SettingsError(f"cannot write to {place}; set agent.data_dir")
        return f"{place}, {free / 2**30:.0f} GiB free"

    def key(self) -> str:
        self._address = read_key(self._settings.operator).address
        return f"operator {self._address}"

    def database(self) -> str:
        path = database(self._settings)
        if not path.parent.is_dir():
            raise SettingsError("needs the data directory")
        return inspect(path)

    def devices(self) -> str:
        found = devices.inventory()
        names = ", ".join(f"{device.name} ({device.kind})" for device in found)
        gpus = sum(device.kind == "cuda" for device in found)
        wanted = self._settings.runner.gpus * self._settings.agent.slots
        if gpus < wanted:
            raise SettingsError(
                f"{counted(wanted, 'GPU')} promised (gpus x slots), {gpus} found: {names}"
            )
        return names

    def runtimes(self) -> str:
        runtimes = self._settings.runner.runtimes
        if not runtimes:
            raise _Warning("none offered: set runner.runtimes, or no job can be taken")
        for name, directory in runtimes.items():
            if not (Path(directory) / "bin" / "python").exists():
                raise SettingsError(
                    f"{name}: {directory} is no Python environment (it has no bin/python)"
                )
        return ", ".join(sorted(runtimes))

    def sandbox(self) -> str:
        if not self._settings.agent.data_dir.is_dir():
            raise RunnerError("needs the data directory")
        line = make_runner(self._settings).check()
        if self._settings.runner.sandbox == "none":
            raise _Warning(line)
        return line

    def rpc(self) -> str:
        pool = make_pool(self._settings)
        self._pools.append(pool)
        head = pool.head()
        faults = [fault for fault in map(self._fault_of, pool.endpoints) if fault]
        line = f"chain {self._settings.chain.chain_id}, block {head.number}"
        if len(faults) == len(pool.endpoints):
            raise ChainError(f"{line}; not usable: {'; '.join(faults)}")
        self._pool = pool
        if faults:
            raise _Warning(f"{line}; not usable: {'; '.join(faults)}")
        return f"{line}, {counted(len(pool.endpoints), 'endpoint')}"

    def _fault_of(self, endpoint: Endpoint) -> str:
        """What keeps an endpoint from doing what the agent asks of it, in its own words, or ""."""
        chain = self._settings.chain
        alone = make_pool(self._settings, only=endpoint.url)
        try:
            head = alone.head()
            alone.nonce(chain.jobs, head)  # at the block's hash
            alone.logs([chain.jobs], max(0, head.number - chain.reorg_window), head.number)
            alone.receipt(head.hash)  # there is none; that it is asked for must be admitted
        except ChainError as error:
            fault = alone.endpoints[0].trouble or str(error)
            return f"{endpoint.label} {fault}"
        finally:
            alone.close()
        return ""

    def clock(self) -> str:
        head = self._reachable().head()
        ahead = head.timestamp - time.time()
        if ahead > _CLOCK_SKEW:
            raise _Warning(
                f"the newest block is {ahead:.0f} s in the future; set this machine's clock"
            )
        line = f"newest block {max(0.0, -ahead):.0f} s ago"
        pace = Pace(self._reachable(), self._settings.chain.block_seconds)
        pace.see(head)
        if -ahead > max(_OLD_HEAD, _OLD_BLOCKS * pace.seconds):
            raise _Warning(
                f"{line}, at {pace.seconds:g} s a block: the chain stands, the endpoints lag, or "
                "this machine's clock is ahead"
            )
        return line

    def fees(self) -> str:
        chain = self._settings.chain
        pricer = Pricer(
            self._reachable().fees,
            max_fee=int(chain.max_fee_gwei * 10**9),
            max_tip=int(chain.max_tip_gwei * 10**9),
        )
        offer = pricer.offer()
        if offer is None:
            raise _Warning(pricer.trouble)
        line = f"{offer.max_fee / 1e9:.4g} gwei at most"
        if offer.legacy:
            return f"{line}, by the old kind of transaction: this chain has no base fee"
        line = f"{line}, {offer.priority_fee / 1e9:.4g} of it as a tip"
        if pricer.trouble:
            raise _Warning(f"{line}; {pricer.trouble}")
        return line

    def contracts(self) -> str:
        pool, chain = self._reachable(), self._settings.chain
        for name, address in (("jobs", chain.jobs), ("staking", chain.staking)):
            if not pool.code(address):
                raise SettingsError(f"there is no contract at chain.{name} {address}")
        jobs = JobsContract(pool, chain.jobs)
        found = jobs.staking("latest")
        if found != StakingContract(pool, chain.staking).address:
            raise SettingsError(f"chain.jobs works with staking {found}, not with chain.staking")
        self._contracts = True
        token = TokenContract(pool, jobs.payment_token("latest"))
        return f"jobs are paid in {token.symbol('latest')} ({token.address})"

    def gas(self) -> str:
        if self._address is None:
            raise SettingsError("needs the operator key")
        wei = self._reachable().balance(self._address)
        if wei == 0:
            raise SettingsError(f"the operator has no ETH for gas; send ETH to {self._address}")
        line = f"{wei / 10**18:.4f} ETH"
        if wei < _LOW_GAS:
            raise _Warning(f"{line} is little: send some to {self._address}")
        return line

    def provider(self) -> str:
        if self._address is None:
            raise SettingsError("needs the operator key")
        pool = self._reachable()
        if not self._contracts:
            raise SettingsError("needs the contracts")
        staking = StakingContract(pool, self._settings.chain.staking)
        owner = staking.provider_of(self._address, "latest")
        if owner == _ZERO_ADDRESS:
            raise _Warning(
                "the operator works for nobody yet: provider-agent consent --owner ADDRESS, "
                "then the owner registers"
            )
        own = staking.owner_assets(owner, "latest") / 10**18
        return f"works for {owner}, own stake {own:.2f} TPF"

    # ------------------------------------------------------------------ proofs and rewards

    def proofs(self) -> list[tuple[str, Callable[[], str]]]:
        """The checks of proofs and rewards, as far as the settings ask for them."""
        settings, found = self._settings, list[tuple[str, Callable[[], str]]]()
        if settings.chain.benchmark is not None and settings.benchmark.enabled:
            found += [("benchmark", self.benchmark), ("prover", self.prover), ("bond", self.bond)]
        if settings.chain.emissions is not None:
            found.append(("rewards", self.rewards))
        return found

    def benchmark(self) -> str:
        benchmark = self._contract("benchmark", BenchmarkContract)
        staking = StakingContract(self._reachable(), self._settings.chain.staking).address
        if benchmark.staking("latest") != staking:
            raise SettingsError(
                f"chain.benchmark works with staking {benchmark.staking('latest')}, not with "
                "chain.staking"
            )
        self._rules = rules = rules_of(benchmark, "latest")
        shape = rules.shape
        return (
            f"{shape.n} x {shape.depth} x {shape.n}, window {rules.window} s with a chance of "
            f"{rules.chance_ppm / 10**4:g} % every {rules.slot} s, {rules.spacing} s apart at "
            f"least, {counted(rules.samples, 'sample')}"
        )

    def prover(self) -> str:
        settings, rules = self._settings.benchmark, self._rules
        device, rate = measure(settings.device, self._settings.agent.lock_dir)
        gpus = any(found.kind == "cuda" for found in devices.inventory())
        if gpus and not settings.device.removeprefix("torch:").startswith("cuda"):
            raise _Warning(f'{device}; there is a GPU: set benchmark.device = "cuda"')
        if rate is None:
            raise _Warning(device)
        line = f"{device}, about {rate / 10**12:.3g} tera-operations a second"
        if rules is None:
            return line
        rounds = int(rate * rules.window / rules.shape.operations)
        line = f"{line}: {counted(rounds, 'round')} in a window"
        if rounds < settings.min_rounds:
            raise _Warning(f"{line}; fewer than benchmark.min_rounds, so nothing is committed")
        return line

    def bond(self) -> str:
        if self._address is None:
            raise SettingsError("needs the operator key")
        if self._rules is None:
            raise SettingsError("needs the contracts")
        pool, chain = self._reachable(), self._settings.chain
        jobs, staking = JobsContract(pool, chain.jobs), StakingContract(pool, chain.staking)
        head = pool.head()
        standing = ChainView(jobs, staking, self._address).standing(head, idle=False)
        if standing is None:
            raise _Warning("needs a provider with stake")
        tpf = f"{self._rules.bond / 10**18:g} TPF a proof"
        view = EpochView(self._contract("benchmark", BenchmarkContract))
        facts = view.facts(head, head, standing.owner)
        reason = unfit(facts, self._rules, standing)
        if reason:
            raise _Warning(f"{tpf}: {reason}")
        return f"{tpf}, locked or free"

    def rewards(self) -> str:
        emissions = self._contract("emissions", EmissionsContract)
        chain = self._settings.chain
        assert chain.benchmark is not None  # the settings see to it
        paid_for = emissions.benchmark("latest")
        if int(paid_for, 16) != int(chain.benchmark, 16):
            raise SettingsError(
                f"chain.emissions pays for the scores of {paid_for}, not for chain.benchmark"
            )
        return "claimed at the end of each epoch"

    def _contract(self, name: str, kind: type[_AnyContract]) -> _AnyContract:
        """One of the contracts that the settings may leave out."""
        pool, place = self._reachable(), getattr(self._settings.chain, name)
        if not pool.code(place):
            raise SettingsError(f"there is no contract at chain.{name} {place}")
        return kind(pool, place)

    def _reachable(self) -> RpcPool:
        if self._pool is None:
            raise ChainError("needs an RPC endpoint")
        return self._pool
