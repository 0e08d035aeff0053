# SPDX-License-Identifier: Apache-2.0
"""Deployment plans: `deployments/params/*.yaml`, checked against the compiled constructors.

A value may be a number, an address in quotes, `$deployer`, `$zero`, `$Contract` (deployed
earlier), or a text with a unit: "7 days", "1_000_000 TPF", "2.5 %" (of 1/10,000). What the
contracts demand of the numbers is checked in `bounds`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from eth_abi.abi import encode

from scripts.deployment import bounds, channels
from scripts.deployment.artifacts import Artifact
from teraproof.amounts import basis_points, seconds, tpf, units
from teraproof.errors import CommandError, LocalError, WrongInput
from teraproof.protocol.terms import ZERO_ADDRESS
from teraproof.protocol.terms import address as checked_address

# In the order of deployment: each refers to earlier ones only.
CONTRACTS = (
    "Timelock",
    "Token",
    "PaymentToken",
    "Staking",
    "Benchmark",
    "Emissions",
    "Disputes",
    "Leases",
    "Jobs",
)
# The rights that a contract cannot work without.
MANAGERS = {
    "Jobs": ("LOCK",),
    "Leases": ("LOCK",),
    "Disputes": ("LOCK",),
    "Benchmark": ("LOCK", "SLASH"),
    "Emissions": ("REWARD",),
}
# The contract that mints the stake token.
MINTER = "Emissions"
DEPLOYER = "$deployer"
ZERO = "$zero"
# The bits of Staking's flag `Permission`.
PERMISSIONS = {"LOCK": 1, "SLASH": 2, "REWARD": 4}

_KEYS = {
    "chain_id",
    "block_seconds",
    "history_blocks",
    "payment_token",
    "channels",
    "contracts",
    "managers",
    "minter",
}
# Blocks that every chain reaches back, and more than any is known to keep.
NEAR_BLOCKS, MOST_BLOCKS = 256, 1_000_000
_UINT = re.compile(r"uint([0-9]+)")


@dataclass(frozen=True)
class ExternalToken:
    """A payment token that exists already."""

    address: str
    decimals: int


@dataclass(frozen=True)
class Manager:
    """A contract that Staking trusts, with the bits of its permissions."""

    contract: str
    permissions: int
    names: tuple[str, ...]


@dataclass(frozen=True)
class Step:
    """One transaction: it deploys `contract`, or calls `function` of it."""

    name: str
    contract: str
    function: str | None = None
    subject: str | None = None
    """The contract that the call is about, its first argument."""
    manager: Manager | None = None
    view: str | None = None
    """The view of `contract` that returns `subject`, or true, once the call has taken effect."""


@dataclass(frozen=True)
class Plan:
    """A valid plan. Addresses in `arguments` may still be references."""

    source: str
    chain_id: int
    history_blocks: int
    """How many blocks the chain reaches back for hashes."""
    token: ExternalToken | None
    """None: the test payment token is deployed."""
    channels: str
    """Whose payment channels there are: a word of `channels.WORDS`."""
    arguments: Mapping[str, Mapping[str, Any]]
    """Contract -> constructor argument -> value, in the constructor's order."""
    written: Mapping[str, Mapping[str, Any]]
    """The same as the file has it, with units."""
    managers: tuple[Manager, ...]
    minter: str
    """The contract that the deployer names as the stake token's minter and as what pays for
    scores, permanently."""
    sha256: str
    """Changes with any value and with the code of any contract."""

    def steps(self) -> list[Step]:
        """All transactions, in order."""
        deploys = [Step(name, name) for name in CONTRACTS if name in self.arguments]
        setups = [
            Step(f"manager {m.contract}", "Staking", "setup_manager", m.contract, m)
            for m in self.managers
        ]
        payer = self.minter
        wiring = [
            Step(f"minter {payer}", "Token", "set_minter", payer, view="minter"),
            # No window opens before.
            Step(f"rewards {payer}", "Benchmark", "setup_rewards", payer, view="rewards"),
        ]
        if payer not in self.arguments:
            wiring = []
        if {"Disputes", "Jobs"} <= set(self.arguments):
            wiring.append(Step("court of Jobs", "Disputes", "set_client", "Jobs", view="client"))
        if {"Leases", "Jobs"} <= set(self.arguments):
            # Until then no lease can ask for a score, which both of them sell.
            wiring.append(Step("scores of Leases", "Leases", "setup_jobs", "Jobs", view="jobs"))
        return [*deploys, *setups, *wiring, Step("seal", "Staking", "seal", view="sealed")]

    def resolve(self, contract: str, addresses: Mapping[str, str]) -> dict[str, Any]:
        """Constructor arguments with every reference replaced.

        `addresses` holds `deployer` and the contracts deployed so far. CommandError when one is
        missing.
        """
        known = {"zero": ZERO_ADDRESS, **addresses}

        def value(item: Any) -> Any:
            if isinstance(item, list):
                return [value(part) for part in item]
            if isinstance(item, str) and item.startswith("$"):
                if item[1:] not in known:
                    raise WrongInput(f"{self.source}: {item} is not deployed yet")
                return known[item[1:]]
            return item

        return {name: value(item) for name, item in self.arguments[contract].items()}


def amended(
    plan: Plan, changes: Mapping[str, Mapping[str, Any]], leave_out: Collection[str] = ()
) -> Plan:
    """The same plan for a test or a measurement: with other values of some constructor arguments,
    and without some contracts. CommandError for an argument that a constructor does not have.

    Its bounds are not checked again, and no registry can go on with it.
    """
    for contract, values in changes.items():
        unknown = sorted(set(values) - set(plan.arguments[contract]))
        if unknown:
            raise WrongInput(f"{plan.source}: {contract} has no argument {unknown[0]}")
    arguments = {
        name: {**values, **changes.get(name, {})}
        for name, values in plan.arguments.items()
        if name not in leave_out
    }
    managers = tuple(m for m in plan.managers if m.contract not in leave_out)
    return replace(plan, arguments=arguments, written=arguments, managers=managers, sha256="")


def encode_arguments(artifact: Artifact, arguments: Mapping[str, Any]) -> bytes:
    """Constructor arguments as they are appended to the init code."""
    inputs = artifact.constructor
    return encode([i["type"] for i in inputs], [arguments[i["name"]] for i in inputs])


def find(folder: Path, chain_id: int) -> Path:
    """The plan for a chain among `folder/*.yaml`. CommandError when there is none or several."""
    found = []
    for path in sorted(folder.glob("*.yaml")):
        document = _read(path)
        if isinstance(document, dict) and document.get("chain_id") == chain_id:
            found.append(path)
    if len(found) == 1:
        return found[0]
    what = "no plan" if not found else f"{len(found)} plans"
    raise WrongInput(f"{what} for chain {chain_id} in {folder}; name one with --plan FILE")


def load(path: Path, artifacts: Mapping[str, Artifact]) -> Plan:
    """Read and check a plan. CommandError is one line with file and key."""
    document = _read(path)
    where = path.name
    if not isinstance(document, dict):
        raise WrongInput(f"{where}: not a mapping of {', '.join(sorted(_KEYS))}")
    _exact_keys(where, document, _KEYS)
    chain_id = document["chain_id"]
    if type(chain_id) is not int or chain_id <= 0:
        raise WrongInput(f"{where}: chain_id: {chain_id!r} is not a chain id")
    block_seconds = document["block_seconds"]
    if type(block_seconds) not in (int, float) or not 0 < block_seconds <= 600:
        raise WrongInput(f"{where}: block_seconds: {block_seconds!r} is not from 0 to 600 seconds")
    history = document["history_blocks"]
    if type(history) is not int or not NEAR_BLOCKS <= history <= MOST_BLOCKS:
        raise WrongInput(
            f"{where}: history_blocks: {history!r} is not from {NEAR_BLOCKS} to {MOST_BLOCKS:,} "
            "blocks; a chain with EIP-2935 keeps 8,191"
        )
    token = _token(where, document["payment_token"])
    if document["channels"] not in channels.WORDS:
        raise WrongInput(f"{where}: channels: write one of {', '.join(channels.WORDS)}")
    wanted = [name for name in CONTRACTS if name != "PaymentToken"]
    contracts = document["contracts"]
    if not isinstance(contracts, dict):
        raise WrongInput(f"{where}: contracts: not a mapping of {', '.join(wanted)}")
    _exact_keys(f"{where}: contracts", contracts, set(wanted))
    arguments: dict[str, dict[str, Any]] = {}
    written: dict[str, dict[str, Any]] = {}
    for position, name in enumerate(CONTRACTS):
        if name == "PaymentToken":
            if token is None:
                arguments[name] = written[name] = {}
            continue
        earlier = CONTRACTS[:position]
        arguments[name] = _arguments(f"{where}: {name}", contracts[name], artifacts[name], earlier)
        written[name] = contracts[name]
    bounds.check(where, chain_id, block_seconds, history, arguments)
    managers = _managers(where, document["managers"])
    if document["minter"] != MINTER:
        raise WrongInput(f"{where}: minter: write {MINTER}; no other contract mints by a schedule")
    placed = channels.PLACES if document["channels"] == channels.PLACED else ()
    content = {
        "chain_id": chain_id,
        "payment_token": None if token is None else [token.address, token.decimals],
        "channels": document["channels"],
        "arguments": arguments,
        "managers": [[m.contract, m.permissions] for m in managers],
        "minter": MINTER,
        "code": {name: artifacts[name].bytecode_hash for name in [*arguments, *placed]},
    }
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return Plan(
        source=where,
        chain_id=chain_id,
        history_blocks=history,
        token=token,
        channels=document["channels"],
        arguments=arguments,
        written=written,
        managers=managers,
        minter=MINTER,
        sha256=digest,
    )


class _Loader(yaml.SafeLoader):
    """YAML without silent twins: of two equal keys the plain loader keeps the last."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen = set()
    for key, _ in node.value:
        if key.value in seen:
            line = key.start_mark.line + 1
            raise WrongInput(f"line {line}: key {key.value!r} stands twice; remove one")
        seen.add(key.value)
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def _read(path: Path) -> Any:
    try:
        # _Loader is a SafeLoader.
        return yaml.load(path.read_text(), Loader=_Loader)  # noqa: S506
    except OSError as error:
        raise WrongInput(f"cannot read the plan {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise WrongInput(f"{path.name}: not a text file") from None
    except CommandError as error:
        raise WrongInput(f"{path.name}: {error}") from None
    except yaml.YAMLError as error:
        raise WrongInput(f"{path.name}: not YAML: {' '.join(str(error).split())[:200]}") from None


def _exact_keys(where: str, given: Mapping[Any, Any], wanted: set[str]) -> None:
    unknown = sorted(str(key) for key in set(given) - wanted)
    missing = sorted(wanted - set(given))
    if unknown:
        hint = f"missing: {', '.join(missing)}" if missing else "remove it"
        raise WrongInput(f"{where}: unknown key {unknown[0]!r} ({hint})")
    if missing:
        raise WrongInput(f"{where}: {missing[0]} is missing")


def _token(where: str, given: Any) -> ExternalToken | None:
    name = f"{where}: payment_token"
    if given == "test":
        return None
    if not isinstance(given, dict):
        raise WrongInput(f"{name}: write test, or the address and decimals of a token")
    _exact_keys(name, given, {"address", "decimals"})
    decimals = given["decimals"]
    if type(decimals) is not int or not 0 <= decimals <= 36:
        raise WrongInput(f"{name}.decimals: {decimals!r} is not a number from 0 to 36")
    found = _address(f"{name}.address", given["address"], ())
    if found.startswith("$") or found == ZERO_ADDRESS:
        raise WrongInput(f"{name}.address: give the token's own address")
    return ExternalToken(found, decimals)


def _arguments(
    where: str, given: Any, artifact: Artifact, earlier: tuple[str, ...]
) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise WrongInput(f"{where}: not a mapping of constructor arguments")
    inputs = {item["name"]: item["type"] for item in artifact.constructor}
    _exact_keys(where, given, set(inputs))
    return {
        name: _value(f"{where}.{name}", kind, given[name], earlier) for name, kind in inputs.items()
    }


def _value(where: str, kind: str, given: Any, earlier: tuple[str, ...]) -> Any:
    if kind.endswith("[]"):
        if not isinstance(given, list):
            raise WrongInput(f"{where}: not a list of {kind.removesuffix('[]')}")
        return [
            _value(f"{where}[{n}]", kind.removesuffix("[]"), item, earlier)
            for n, item in enumerate(given)
        ]
    if kind == "address":
        return _address(where, given, earlier)
    match = _UINT.fullmatch(kind)
    if match is None:
        raise WrongInput(f"{where}: plans cannot give a {kind} yet")
    number = _number(where, given)
    if not 0 <= number < 2 ** int(match[1]):
        raise WrongInput(f"{where}: {given} does not fit {kind}")
    return number


def _number(where: str, given: Any) -> int:
    if type(given) is int:
        return given
    if not isinstance(given, str):
        raise WrongInput(f"{where}: {given!r} is not a whole number or a text with a unit")
    text = given.strip()
    if text.endswith("TPF"):
        return tpf(text.removesuffix("TPF"), where)
    if text.endswith("%"):
        return basis_points(text, where)
    if text[-1:].isalpha():
        return seconds(text, where)
    return units(text, 0, where)


def _address(where: str, given: Any, earlier: tuple[str, ...]) -> str:
    if isinstance(given, int):
        raise WrongInput(f"{where}: write the address in quotes")
    if isinstance(given, str) and given.startswith("$"):
        if given in (DEPLOYER, ZERO) or given[1:] in earlier:
            return given
        known = ", ".join([DEPLOYER, ZERO, *(f"${name}" for name in earlier)])
        raise WrongInput(f"{where}: {given} is not known here (known: {known})")
    try:
        return checked_address(where, given)
    except LocalError as error:
        raise WrongInput(str(error)) from None


def _managers(where: str, given: Any) -> tuple[Manager, ...]:
    name = f"{where}: managers"
    if not isinstance(given, dict):
        raise WrongInput(f"{name}: not a mapping of contracts to permissions")
    for contract in given:
        if contract not in MANAGERS:
            raise WrongInput(f"{name}: {contract!r} is not a contract that can be a manager")
    return tuple(_manager(name, contract, given) for contract in MANAGERS)


def _manager(name: str, contract: str, managers: Mapping[str, Any]) -> Manager:
    needed = MANAGERS[contract]
    if contract not in managers:
        raise WrongInput(f"{name}: {contract} is missing; it needs {', '.join(needed)}")
    permissions = managers[contract]
    if not isinstance(permissions, list) or not permissions:
        raise WrongInput(f"{name}.{contract}: not a list of {', '.join(PERMISSIONS)}")
    for permission in permissions:
        if permission not in PERMISSIONS:
            known = ", ".join(PERMISSIONS)
            raise WrongInput(f"{name}.{contract}: {permission!r} is not one of {known}")
    if sorted(permissions) != sorted(needed):
        raise WrongInput(f"{name}.{contract}: it needs {', '.join(needed)}, no less and no more")
    return Manager(contract, sum(PERMISSIONS[item] for item in needed), needed)
