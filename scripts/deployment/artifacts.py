# SPDX-License-Identifier: Apache-2.0
"""Compiled contracts, by the digest of every source that they could have been made from.

Ape's cache looks at a contract's own file alone; a deployment must not use code that is older
than a module or an interface. So the scripts compile through Vyper itself and keep the result
under a name that changes with any source and with the compiler.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

from teraproof.contracts.abi import Abi
from teraproof.errors import CommandError
from teraproof.rpc.client import RpcPool

ROOT = Path(__file__).resolve().parents[2]
SOURCES = {
    "Timelock": "Timelock.vy",
    "Token": "Token.vy",
    "PaymentToken": "testnet/PaymentToken.vy",
    "Staking": "Staking.vy",
    "Benchmark": "Benchmark.vy",
    "Emissions": "Emissions.vy",
    "Disputes": "Disputes.vy",
    "Leases": "Leases.vy",
    "Jobs": "Jobs.vy",
    "Channels": "Channels.vy",
    "ERC3009DepositCollector": "testnet/ERC3009DepositCollector.vy",
}


@dataclass(frozen=True)
class Artifact:
    """One compiled contract."""

    name: str
    compiler: str
    entries: list[dict[str, Any]]
    """The ABI."""
    init_code: bytes
    runtime: bytes
    """Without the immutables, which are appended when the contract is created."""
    immutables: dict[str, tuple[int, int]]
    """Path such as `eip712._CACHED_SELF` -> offset behind `runtime`, and length, in bytes."""

    @cached_property
    def abi(self) -> Abi:
        """For reads and calldata."""
        return Abi(self.entries)

    def read(self, pool: RpcPool, address: str, view: str) -> Any:
        """What a view without arguments, which a plan names, returns now. Raises ChainError."""
        data = pool.eth_call(address, self.abi.encode(view), "latest")
        (value,) = self.abi.decode_output(view, 0, data)
        return value

    @property
    def bytecode_hash(self) -> str:
        """sha256 of the init code, constructor arguments not included."""
        return hashlib.sha256(self.init_code).hexdigest()

    @property
    def constructor(self) -> list[dict[str, Any]]:
        """The constructor's inputs."""
        found = [entry for entry in self.entries if entry["type"] == "constructor"]
        return list(found[0]["inputs"]) if found else []


def compile_all(root: Path = ROOT, cache: Path | None = None) -> dict[str, Artifact]:
    """All contracts that a plan can deploy. CommandError when one does not compile."""
    contracts = root / "contracts"
    digest = _sources_digest(contracts)
    file = (cache or root / ".build" / "artifacts") / f"{digest}.json"
    try:
        stored = json.loads(file.read_text())
        return {name: _artifact(name, stored[name]) for name in SOURCES}
    except (OSError, ValueError, KeyError):
        pass  # Not there, or cut short: compile.
    compiled = _compile(contracts)
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=file.parent)
    with os.fdopen(handle, "w") as out:
        json.dump(compiled, out)
    Path(temporary).replace(file)
    return {name: _artifact(name, compiled[name]) for name in SOURCES}


def _compile(contracts: Path) -> dict[str, Any]:
    """All of them, in as many processes as there are cores: Vyper takes seconds for each."""
    sizes = {name: (contracts / source).stat().st_size for name, source in SOURCES.items()}
    groups: list[list[str]] = [[] for _ in range(min(os.cpu_count() or 1, len(SOURCES)))]
    for name in sorted(sizes, key=lambda name: -sizes[name]):
        min(groups, key=lambda group: sum(sizes[member] for member in group)).append(name)
    with ThreadPoolExecutor(len(groups)) as pool:
        parts = list(pool.map(lambda group: _run_compiler(contracts, group), groups))
    return {name: outputs for part in parts for name, outputs in part.items()}


def _run_compiler(contracts: Path, names: list[str]) -> dict[str, Any]:
    # A process of its own: nothing of Ape's is imported there or shared with it.
    done = subprocess.run(
        [sys.executable, "-P", "-m", "scripts.deployment.compiler", str(contracts), *names],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        line = (done.stderr.strip().splitlines() or ["the compiler has ended"])[-1]
        raise CommandError(line.removeprefix("error: ")[:300])
    return dict(json.loads(done.stdout))


def _artifact(name: str, stored: dict[str, Any]) -> Artifact:
    return Artifact(
        name=name,
        compiler=stored["compiler"],
        entries=stored["abi"],
        init_code=bytes.fromhex(stored["bytecode"].removeprefix("0x")),
        runtime=bytes.fromhex(stored["runtime"].removeprefix("0x")),
        immutables={key: (place[0], place[1]) for key, place in stored["immutables"].items()},
    )


def _sources_digest(contracts: Path) -> str:
    digest = hashlib.sha256(f"{version('vyper')} {version('snekmate')}".encode())
    for path in sorted([*contracts.rglob("*.vy"), *contracts.rglob("*.vyi")]):
        digest.update(f"\n{path.relative_to(contracts).as_posix()}\n".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:32]
