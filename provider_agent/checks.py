# SPDX-License-Identifier: Apache-2.0
"""Start-up checks: one line each, in the order in which later ones need earlier ones."""

from __future__ import annotations

import os
import resource
import shutil
import time
from collections.abc import Iterator, Sequence

from provider_agent import devices
from provider_agent.app import database, read_key
from provider_agent.core.fleet import Fleet
from provider_agent.core.module import Module
from provider_agent.core.pools import make_pool
from provider_agent.core.settings import Settings
from provider_agent.core.trial import Caution, Finding, Mark, Skipped, Trial, finding
from provider_agent.errors import SettingsError
from provider_agent.http.descriptors import fitting
from provider_agent.http.limits import ApiLimits
from provider_agent.http.server import AddressInUse, listen
from provider_agent.modules.all import MODULES, tables_of
from provider_agent.store import inspect
from teraproof.amounts import show_ether, show_tpf
from teraproof.contracts.staking import StakingContract
from teraproof.errors import counted
from teraproof.rpc.client import RpcPool
from teraproof.rpc.endpoint import Endpoint
from teraproof.rpc.errors import ChainError
from teraproof.rpc.fees import Pricer
from teraproof.rpc.pace import Pace

__all__ = ["Finding", "Mark", "startup"]

_CLOCK_SKEW = 60  # seconds; blocks may be older than that on a quiet chain, never newer
_OLD_HEAD, _OLD_BLOCKS = 120.0, 20  # seconds, or blocks, after which a head is old
_LOW_GAS = 10**16  # wei
_ZERO_ADDRESS = "0x" + "00" * 20


def startup(settings: Settings, modules: Sequence[type[Module]] = MODULES) -> Iterator[Finding]:
    """Run every check; a failed one does not stop those that do not need it."""
    trial = Trial(settings)
    checks = _Checks(trial, modules)
    try:
        for name, check in (
            ("data", checks.data),
            ("key", checks.key),
            ("database", checks.database),
            ("devices", checks.devices),
            ("api", checks.api),
            ("rpc", checks.rpc),
            ("clock", checks.clock),
            ("fees", checks.fees),
            ("contracts", checks.contracts),
            ("gas", checks.gas),
            ("provider", checks.provider),
            *(check for module in modules for check in module.checks(trial)),
        ):
            yield finding(name, check)
    finally:
        checks.close()


class _Checks:
    def __init__(self, trial: Trial, modules: Sequence[type[Module]]) -> None:
        self._modules = modules
        self._trial, self._settings = trial, trial.settings
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
        self._trial.address = read_key(self._settings.operator).address
        return f"operator {self._trial.address}"

    def database(self) -> str:
        path = database(self._settings)
        if not path.parent.is_dir():
            raise Skipped.without("data")
        return inspect(path, tables_of(self._modules))

    def devices(self) -> str:
        fleet = Fleet(0)
        found, faults = fleet.usable, "; ".join(fleet.faults)
        names = ", ".join(f"{device.name} ({device.kind})" for device in found or [devices.cpu()])
        wanted = self._settings.runner.gpus * self._settings.agent.slots
        if len(found) >= wanted:
            if faults:
                raise Caution(f"{names}; {faults}")
            return names
        line = (
            f"{counted(wanted, 'GPU')} promised (gpus x slots), {len(found)} usable: "
            f"{faults or names}"
        )
        if found and faults:
            raise Caution(line)  # the others go on
        raise SettingsError(line)

    def api(self) -> str:
        api, doors = self._settings.api, []
        for host, port, setting in (
            (api.host, api.port, "api.port"),
            (api.status_host, api.status_port_in_use, "api.status_port"),
        ):
            try:
                listen(host, port, setting).close()
            except AddressInUse as error:
                raise Caution(f"{error}; an agent that runs already holds it, too") from None
            doors.append(f"{host} port {port or 'any'}")
        _, files = resource.getrlimit(resource.RLIMIT_NOFILE)  # what a start raises it to
        most = fitting(ApiLimits(), files).connections
        return f"{doors[0]}, status on {doors[1]}, {counted(most, 'connection')} at once"

    def rpc(self) -> str:
        pool = make_pool(self._settings)
        self._pools.append(pool)
        head = pool.head()
        faults = [fault for fault in map(self._fault_of, pool.endpoints) if fault]
        line = f"chain {self._settings.chain.chain_id}, block {head.number}"
        if len(faults) == len(pool.endpoints):
            raise ChainError(f"{line}; not usable: {'; '.join(faults)}")
        self._trial.pool = pool
        if faults:
            raise Caution(f"{line}; not usable: {'; '.join(faults)}")
        return f"{line}, {counted(len(pool.endpoints), 'endpoint')}"

    def _fault_of(self, endpoint: Endpoint) -> str:
        """What keeps an endpoint from doing what the agent asks of it, in its own words, or ""."""
        chain = self._settings.chain
        alone = make_pool(self._settings, only=endpoint.url)
        try:
            head = alone.head()
            alone.nonce(chain.staking, head)  # at the block's hash
            alone.logs([chain.staking], max(0, head.number - chain.reorg_window), head.number)
            alone.receipt(head.hash)  # there is none; that it is asked for must be admitted
        except ChainError as error:
            fault = alone.endpoints[0].trouble or str(error)
            return f"{endpoint.label} {fault}"
        finally:
            alone.close()
        return ""

    def clock(self) -> str:
        head = self._trial.reachable().head()
        ahead = head.timestamp - time.time()
        if ahead > _CLOCK_SKEW:
            raise Caution(
                f"the newest block is {ahead:.0f} s in the future; set this machine's clock"
            )
        line = f"newest block {max(0.0, -ahead):.0f} s ago"
        pace = Pace(self._trial.reachable(), self._settings.chain.block_seconds)
        pace.see(head)
        if -ahead > max(_OLD_HEAD, _OLD_BLOCKS * pace.seconds):
            raise Caution(
                f"{line}, at {pace.seconds:g} s a block: the chain stands, the endpoints lag, or "
                "this machine's clock is ahead"
            )
        return line

    def fees(self) -> str:
        chain = self._settings.chain
        pricer = Pricer(
            self._trial.reachable().fees,
            max_fee=int(chain.max_fee_gwei * 10**9),
            max_tip=int(chain.max_tip_gwei * 10**9),
        )
        offer = pricer.offer()
        if offer is None:
            raise Caution(pricer.trouble)
        line = f"{offer.max_fee / 1e9:.4g} gwei at most"
        if offer.legacy:
            return f"{line}, by the old kind of transaction: this chain has no base fee"
        line = f"{line}, {offer.priority_fee / 1e9:.4g} of it as a tip"
        if pricer.trouble:
            raise Caution(f"{line}; {pricer.trouble}")
        return line

    def contracts(self) -> str:
        address = self._settings.chain.staking
        self._trial.contract("chain.staking", address, StakingContract)
        self._trial.has_contracts = True
        return f"staking at {address}"

    def gas(self) -> str:
        address = self._trial.operator()
        wei = self._trial.reachable().balance(address)
        if wei == 0:
            raise SettingsError(f"the operator has no ETH for gas; send ETH to {address}")
        line = show_ether(wei)
        if wei < _LOW_GAS:
            raise Caution(f"{line} is little: send some to {address}")
        return line

    def provider(self) -> str:
        address = self._trial.operator()
        pool = self._trial.reachable()
        if not self._trial.has_contracts:
            raise Skipped.without("contracts")
        staking = StakingContract(pool, self._settings.chain.staking)
        owner = staking.provider_of(address, "latest")
        if owner == _ZERO_ADDRESS:
            raise Caution(
                "the operator works for nobody yet: provider-agent consent --owner ADDRESS, "
                "then the owner registers"
            )
        own = staking.owner_assets(owner, "latest")
        return f"works for {owner}, own stake {show_tpf(own)}"
