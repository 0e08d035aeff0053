# SPDX-License-Identifier: Apache-2.0
"""What was deployed on a chain: `deployments/<chain id>.json`, written before and after each step.

The file is replaced atomically. `pending` is a transaction that was signed: it may be nowhere,
waiting, or mined, and a re-run finds out by its hash and nonce before it sends anything.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from teraproof.errors import WrongInput, of_file
from teraproof.market.chain import Chain

_VERSION = 1
Hex = Annotated[str, Field(pattern=r"^0x[0-9a-f]*$")]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Deployed(_Record):
    """A contract. A contract that was there before has neither transaction nor code hashes."""

    address: str
    arguments: dict[str, object] = {}
    transaction: Hex | None = None
    block: int | None = None
    compiler: str | None = None
    bytecode_sha256: str | None = None
    """Of the init code without arguments."""
    code_hash: Hex | None = None
    """keccak-256 of the code on chain."""
    gas_used: int | None = None


class Done(_Record):
    """A set-up call that has taken effect."""

    transaction: Hex | None = None
    """None when it was found done by a transaction that nobody has kept."""
    block: int | None = None
    gas_used: int | None = None


class Pending(_Record):
    """A signed transaction of the step that is under way; all `hashes` share its nonce."""

    step: str
    nonce: int
    address: str | None = None
    """Of the contract that it creates."""
    hashes: list[Hex]
    raw: Hex
    max_fee: int
    tip: int


class Registry(_Record):
    """One chain's deployment."""

    version: int = 1
    chain_id: int
    network: str
    genesis: Hex
    """Hash of block 0."""
    deployer: str
    plan_sha256: str
    complete: bool = False
    contracts: dict[str, Deployed] = {}
    calls: dict[str, Done] = {}
    pending: Pending | None = None

    def address(self, name: str) -> str:
        """Where a contract is. CommandError when the deployment has not come that far."""
        if name not in self.contracts:
            raise WrongInput(
                f"the deployment on chain {self.chain_id} has no {name} yet; "
                "finish it with ape run deploy"
            )
        return self.contracts[name].address

    @property
    def start_block(self) -> int:
        """No log of these contracts is older."""
        blocks = [c.block for c in self.contracts.values() if c.block is not None]
        return min(blocks, default=0)


def path_of(folder: Path, chain_id: int) -> Path:
    """Where a chain's registry is kept: in a directory, or the file that was named itself."""
    return folder if folder.is_file() else folder / f"{chain_id}.json"


def load(folder: Path, chain_id: int) -> Registry | None:
    """A chain's registry, or None. CommandError when the file is damaged."""
    path = path_of(folder, chain_id)
    try:
        found = Registry.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise of_file(error, path, "cannot read") from None
    except ValidationError as error:
        raise WrongInput(
            f"{path}: cannot be read ({error.errors()[0]['msg']}); ask whoever gave it to you for "
            "it again, or restore your own copy",
            path=str(path),
        ) from None
    if found.version != _VERSION:
        raise WrongInput(
            f"{path} is of version {found.version}, and {_VERSION} is known here: use a version of "
            "teraproof that fits it",
            path=str(path),
        )
    if found.chain_id != chain_id:
        raise WrongInput(
            f"{path} is the deployment on chain {found.chain_id}, but the node is on chain "
            f"{chain_id}: choose a node of chain {found.chain_id}, or name the file of chain "
            f"{chain_id}",
            path=str(path),
        )
    return found


def save(folder: Path, registry: Registry) -> None:
    """Replace the file; what was written before a crash is there after it."""
    path = path_of(folder, registry.chain_id)
    place = path.parent
    text = json.dumps(registry.model_dump(mode="json", exclude_none=True), indent=2) + "\n"
    try:
        place.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=place, prefix=".", suffix=".json")
        with os.fdopen(handle, "w") as out:
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except OSError as error:
        raise of_file(error, path, "cannot write") from None


def missing_code(registry: Registry, chain: Chain) -> str | None:
    """The name of a recorded contract that is not on this chain, or None."""
    for name, contract in registry.contracts.items():
        if not chain.pool.code(contract.address):
            return name
    return None


def require_path(folder: Path) -> None:
    """WrongInput when there is neither a folder nor a file of that name."""
    if not folder.exists():
        raise WrongInput(
            f"no deployment is known: {folder} is not there; ask the deployer for its file and "
            "name that with --deployments, or run ape run deploy first",
            path=str(folder),
        )


def require(folder: Path, chain: Chain) -> Registry:
    """The finished deployment that the chain really has. CommandError says what to do without."""
    registry = load(folder, chain.chain_id)
    if registry is None:
        there = folder.exists()
        why = f"{folder} has no {chain.chain_id}.json" if there else f"{folder} is not there"
        others = sorted(path.stem for path in folder.glob("*.json") if path.stem.isdigit())
        instead = (
            f"choose another chain (there is one on {', '.join(others)})"
            if others
            else "choose another chain"
        )
        raise WrongInput(
            f"no deployment is known on chain {chain.chain_id}: {why}; {instead}, "
            "ask the deployer for its file and name that with --deployments, or run ape run deploy "
            "first",
            path=str(folder),
        )
    if registry.genesis != chain.genesis():
        raise WrongInput(
            f"{path_of(folder, chain.chain_id)} belongs to another chain with id "
            f"{chain.chain_id} (its first block differs); check the chain, or move the file away "
            "and deploy again",
            path=str(path_of(folder, chain.chain_id)),
        )
    gone = missing_code(registry, chain)
    if gone is not None:
        raise WrongInput(
            f"{gone} has no code at {registry.address(gone)} on chain {chain.chain_id}; "
            f"check the chain, or move {path_of(folder, chain.chain_id)} away and deploy again",
            path=str(path_of(folder, chain.chain_id)),
        )
    if not registry.complete:
        raise WrongInput(
            f"the deployment on chain {chain.chain_id} is not finished; run ape run deploy again",
            path=str(path_of(folder, chain.chain_id)),
        )
    return registry
