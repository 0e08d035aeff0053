# SPDX-License-Identifier: Apache-2.0
"""Compares a deployment with the chain: code to the byte, constructor values, rights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from scripts.deployment import channels
from scripts.deployment.artifacts import Artifact
from scripts.deployment.plan import Plan, encode_arguments
from scripts.deployment.transactions import created_code, readable
from teraproof.contracts.base import Event
from teraproof.contracts.benchmark import BenchmarkContract
from teraproof.contracts.disputes import DisputesContract
from teraproof.contracts.emissions import EmissionsContract
from teraproof.contracts.leases import LeasesContract
from teraproof.contracts.staking import (
    ManagerAnnounced,
    ManagerRemoved,
    OwnershipTransferred,
    Sealed,
    StakingContract,
)
from teraproof.contracts.timelock import TimelockContract
from teraproof.contracts.token import TokenContract
from teraproof.errors import CommandError
from teraproof.market.chain import Chain
from teraproof.market.eip712 import domain_separator
from teraproof.market.registry import Deployed, Registry
from teraproof.market.ui import Ui
from teraproof.protocol.terms import ZERO_ADDRESS
from teraproof.rpc.errors import ChainError

# Constructor argument -> view, where the name alone does not tell.
_VIEWS = {
    ("Timelock", "minimum_delay"): "get_minimum_delay",
    ("Token", "genesis_supply"): "total_minted",
    ("Jobs", "initial_guardian"): "guardian",
    ("Leases", "initial_guardian"): "guardian",
    ("Benchmark", "randomness_source"): "RANDOMNESS",
    ("Disputes", "randomness_source"): "SOURCE",
    ("Disputes", "juror_fee_bps"): "FEE_BPS",
}
# The timelock may change these later, and emissions mint; a difference is shown, not refused.
_MAY_CHANGE = {
    "minimum_delay",
    "genesis_supply",
    "fee_bps",
    "challenge_window",
    "treasury",
    "initial_guardian",
}


@dataclass(frozen=True)
class Check:
    """One line of the report."""

    subject: str
    what: str
    ok: bool
    detail: str = ""


def verify(
    plan: Plan, registry: Registry, artifacts: Mapping[str, Artifact], chain: Chain
) -> list[Check]:
    """All checks of a deployment, good and bad."""
    pool = chain.pool
    staking = StakingContract(pool, registry.address("Staking"))
    found: list[Check] = []
    for name in plan.arguments:
        found.append(_code(name, registry, artifacts[name], chain))
        found += _values(name, plan, registry, artifacts[name], chain)
    if plan.token is not None:
        decimals = TokenContract(pool, registry.address("PaymentToken")).decimals("latest")
        found.append(Check("PaymentToken", "decimals", decimals == plan.token.decimals))
    found += [
        Check(*one) for one in channels.differences(plan.channels, registry, artifacts, chain)
    ]
    found += _staking(plan, registry, staking)
    found += _rewards(plan, registry, chain)
    found += _timelock(plan, registry, TimelockContract(pool, registry.address("Timelock")))
    return found


def report(checks: list[Check], ui: Ui) -> None:
    """Show the checks. CommandError when one fails."""
    rows = [(c.subject, c.what, "ok" if c.ok else "WRONG", c.detail) for c in checks]
    ui.table("verified against the chain", ("contract", "check", "", "detail"), rows)
    wrong = [check for check in checks if not check.ok]
    if wrong:
        raise CommandError(
            f"{len(wrong)} checks failed, the first is {wrong[0].subject} {wrong[0].what}; "
            "do not use this deployment"
        )


def _code(name: str, registry: Registry, artifact: Artifact, chain: Chain) -> Check:
    """The code on chain against what the init code returns for the recorded arguments.

    Only the address itself, the EIP-712 domain made of it, the time of the deployment and what
    was minted before may differ between the two; those are computed.
    """
    address = registry.address(name)
    arguments = dict(registry.contracts[name].arguments)
    if "genesis" in arguments:
        arguments["genesis"] = 0  # a past one is refused; it is put into the code below
    data = artifact.init_code + encode_arguments(artifact, arguments)
    code = chain.pool.code(address)
    try:
        # Years later the constructor of Emissions would refuse its own schedule: it must find a
        # token of which nothing is minted. What was is put into the code below.
        state: dict[str, Any] = {registry.address("Token"): {"state": {}}}
        expected = bytearray(created_code(chain, registry.deployer, data, state))
    except ChainError as error:
        return Check(name, "code", False, f"its constructor does not run again: {error}")
    if "genesis" in arguments:
        begun = _genesis(registry.contracts[name], artifact, chain)
        _put(expected, artifact, "GENESIS", begun.to_bytes(32, "big"))
    if "MINTED_BEFORE" in artifact.immutables:
        supply = int(str(registry.contracts["Token"].arguments["genesis_supply"]))
        _put(expected, artifact, "MINTED_BEFORE", supply.to_bytes(32, "big"))
    domains = [
        path.rpartition(".")[0]
        for path in artifact.immutables
        if path.rpartition(".")[2] == "_CACHED_DOMAIN_SEPARATOR"
    ]
    for prefix in domains:
        _put(expected, artifact, f"{prefix}._CACHED_SELF", bytes(12) + bytes.fromhex(address[2:]))
        version = _text(expected, artifact, f"{prefix}._VERSION")
        title = _text(expected, artifact, f"{prefix}._NAME")
        separator = domain_separator(title, version, chain.chain_id, address)
        _put(expected, artifact, f"{prefix}._CACHED_DOMAIN_SEPARATOR", separator)
    recorded = registry.contracts[name].code_hash
    found = "0x" + keccak(code).hex()
    if bytes(expected[: len(artifact.runtime)]) != artifact.runtime:
        return Check(name, "code", False, "the constructor returned other code than compiled")
    same = code == bytes(expected) and found == recorded
    return Check(name, "code", same, f"{address}, {len(code):,} bytes, {found[:18]}…")


def _genesis(deployed: Deployed, artifact: Artifact, chain: Chain) -> int:
    """When a contract's time begins: as the plan says, or with the contract (0)."""
    planned = int(str(deployed.arguments["genesis"]))
    if planned:
        return planned
    if deployed.transaction is not None and deployed.block is not None:
        return chain.pool.block(deployed.block).timestamp
    # Its transaction was lost sight of, and its block with it: the contract itself must tell.
    return int(artifact.read(chain.pool, deployed.address, "GENESIS"))


def _put(code: bytearray, artifact: Artifact, path: str, word: bytes) -> None:
    """Write an immutable; one of a module is found by its own name, whatever the module's."""
    (known,) = [p for p in artifact.immutables if path in (p, p.rpartition(".")[2])]
    offset, length = artifact.immutables[known]
    start = len(artifact.runtime) + offset
    code[start : start + length] = word


def _text(code: bytearray, artifact: Artifact, path: str) -> str:
    """A string among the immutables: a length word and the bytes."""
    offset, _ = artifact.immutables[path]
    start = len(artifact.runtime) + offset
    length = int.from_bytes(code[start : start + 32], "big")
    return bytes(code[start + 32 : start + 32 + length]).decode()


def _values(
    name: str,
    plan: Plan,
    registry: Registry,
    artifact: Artifact,
    chain: Chain,
) -> Iterator[Check]:
    """Constructor arguments that a view gives back, against the plan."""
    views = {
        entry["name"]
        for entry in artifact.entries
        if entry["type"] == "function" and not entry["inputs"]
    }
    addresses = {"deployer": registry.deployer}
    addresses |= {key: deployed.address for key, deployed in registry.contracts.items()}
    for argument, wanted in plan.resolve(name, addresses).items():
        view = _VIEWS.get((name, argument), argument)
        view = view if view in views else argument.upper()
        if view not in views:
            continue  # Not kept on chain: lists of roles and the receiver of the genesis supply.
        value = artifact.read(chain.pool, registry.address(name), view)
        if argument == "genesis":
            wanted = _genesis(registry.contracts[name], artifact, chain)
        if value == wanted:
            # As people have written it: what they compare is the plan.
            written = plan.written[name].get(argument, value)
            shown = str(value) if argument == "genesis" else readable(written, value)
            yield Check(name, argument, True, shown)
        elif registry.complete and argument in _MAY_CHANGE:
            yield Check(name, argument, True, f"{value} (changed since; deployed with {wanted})")
        else:
            yield Check(name, argument, False, f"{value}, the plan says {wanted}")


def _staking(plan: Plan, registry: Registry, staking: StakingContract) -> Iterator[Check]:
    yield Check("Staking", "sealed", staking.sealed("latest"))
    deployer = staking.deployer("latest")
    yield Check("Staking", "deployer", deployer == registry.deployer, registry.deployer)
    for manager in plan.managers:
        known = staking.manager_of(registry.address(manager.contract), "latest")
        names = ", ".join(manager.names)
        if known.permissions == 0 and registry.complete:
            yield Check("Staking", f"manager {manager.contract}", True, "removed by the timelock")
            continue
        yield Check(
            "Staking",
            f"manager {manager.contract}",
            known.permissions == manager.permissions and known.active_from > 0,
            names,
        )
    yield from _all_managers(plan, registry, staking)


def _rewards(plan: Plan, registry: Registry, chain: Chain) -> Iterator[Check]:
    minter = registry.address(plan.minter)
    emissions = EmissionsContract(chain.pool, registry.address("Emissions"))
    found = TokenContract(chain.pool, registry.address("Token")).minter("latest")
    yield Check("Token", "minter", found == minter, f"{found} ({plan.minter})")
    pays = BenchmarkContract(chain.pool, registry.address("Benchmark")).rewards("latest")
    yield Check("Benchmark", "rewards", pays == emissions.address, f"{pays} (Emissions)")
    wanted = plan.arguments["Emissions"]["capacity_bps"]
    court = DisputesContract(chain.pool, registry.address("Disputes"))
    client = court.client("latest")
    yield Check("Disputes", "client", client == registry.address("Jobs"), f"{client} (Jobs)")
    shares = LeasesContract(chain.pool, registry.address("Leases")).jobs("latest")
    yield Check("Leases", "jobs", shares == registry.address("Jobs"), f"{shares} (Jobs)")
    weights = emissions.weights_at(0, "latest")
    good = list(weights)[:1] == [wanted] and not any(weights[1:])
    yield Check("Emissions", "capacity_bps", good, f"{wanted} from epoch 0 on")


def _all_managers(plan: Plan, registry: Registry, staking: StakingContract) -> Iterator[Check]:
    """Who else may lock, seize and slash: views cannot list managers, events name them all."""
    kinds = (OwnershipTransferred, ManagerAnnounced, ManagerRemoved, Sealed)
    events = staking.find_any(kinds, registry.contracts["Staking"].block or 0)
    # The constructor's own event: without it the recorded block is too late to see everything.
    began = any(
        isinstance(event, OwnershipTransferred) and event.previous_owner == ZERO_ADDRESS
        for event in events
    )
    yield Check("Staking", "all its events", began, "from the constructor's on")
    sealed = [number for number, event in enumerate(events) if isinstance(event, Sealed)]
    end = sealed[0] if sealed else len(events)
    found = _managers(events[:end])
    wanted = {registry.address(m.contract): m.permissions for m in plan.managers}
    extra = ", ".join(sorted(set(found) - set(wanted)))
    yield Check(
        "Staking",
        "managers when sealed",
        found == wanted,
        f"also {extra}" if extra else f"the plan's {len(wanted)}, and no other",
    )
    since = sorted(set(_managers(events)) - set(wanted))
    if since and not extra:
        yield Check(
            "Staking", "managers since", registry.complete, f"named by its owner: {_list(since)}"
        )


def _managers(events: Sequence[Event]) -> dict[str, int]:
    """Managers and their permissions after these events."""
    found: dict[str, int] = {}
    for event in events:
        if isinstance(event, ManagerAnnounced):
            found[event.manager] = event.permissions
        elif isinstance(event, ManagerRemoved):
            found.pop(event.manager, None)
    return found


def _timelock(plan: Plan, registry: Registry, timelock: TimelockContract) -> Iterator[Check]:
    addresses = {"deployer": registry.deployer}
    arguments = plan.resolve("Timelock", addresses)
    proposer, canceller = timelock.proposer_role("latest"), timelock.canceller_role("latest")
    executor, admin = timelock.executor_role("latest"), timelock.default_admin_role("latest")

    def has(role: bytes, account: str) -> bool:
        return timelock.has_role(role, account, "latest")

    proposers, executors = arguments["proposers"], arguments["executors"]
    anyone = ZERO_ADDRESS in executors
    shown = _list(proposers)
    yield Check("Timelock", "proposers", all(has(proposer, a) for a in proposers), shown)
    yield Check("Timelock", "cancellers", all(has(canceller, a) for a in proposers), shown)
    yield Check(
        "Timelock",
        "executors",
        all(has(executor, a) for a in executors),
        "anyone" if anyone else _list(executors),
    )
    own = has(admin, timelock.address)
    # Another admin than the timelock could give itself every role without the delay.
    deployer = has(admin, registry.deployer)
    yield Check("Timelock", "administers itself", own and not deployer, "no other admin")


def _list(addresses: list[str]) -> str:
    return ", ".join(str(to_checksum_address(address)) for address in addresses) or "none"
