# SPDX-License-Identifier: Apache-2.0
"""What a runner is: the words that the duties and every kind of runner share.

A run is one execution of one job, named by its run id. It lives in `<data_dir>/runs/<run id>/`:

    run.json         the request, written once before anything is started
    lock             held while a supervisor or a sandbox process of this run is alive
    state.json       what became of it, replaced atomically
    groups           the directories of its control group, while there is one
    disk.img         the file system that the job writes to, while it runs (see `disk`)
    disk/            where that is mounted, for the supervisor alone
    work/, tmp/      instead of it on a machine without: the job's `/job` and `/tmp`
    outputs/         the declared outputs, copied out safely after exit code 0
    log              stdout and stderr of the job, cut at a limit
    supervisor.log   what the supervisor itself had to say; empty when all is well
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Protocol

from provider_agent.devices import Device
from provider_agent.errors import RunnerError
from teraproof.errors import LocalError
from teraproof.protocol.paths import check_path

MIB = 1 << 20

_RUN_ID = re.compile(r"[0-9a-z][0-9a-z._-]{0,99}")
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Stopped(Exception):
    """The agent wants a run to end, whatever its supervisor is at."""


class Phase(Enum):
    """Where a run stands. EXITED and LOST are final."""

    PENDING = "pending"  # the directory is there, no supervisor has begun
    RUNNING = "running"
    EXITED = "exited"  # ended under supervision; `reason` says how
    LOST = "lost"  # the supervisor died (reboot, kill -9) and took the sandbox with it


class Reason(Enum):
    """Why a run ended."""

    EXITED = "exited"  # by itself, or its command cannot be executed (126, 127); see the exit code
    TIMEOUT = "timeout"
    MEMORY = "memory"
    DISK = "disk"
    OUTPUT = "output"  # printed without end
    PIDS = "pids"
    KILLED = "killed"  # by stop()
    OUTPUTS = "outputs"  # exit code 0, but something of the outputs is missing or cannot be kept
    SANDBOX_FAILED = "sandbox-failed"  # the walls did not come up; the command was never tried
    MACHINE = "machine"  # the provider's own machine failed the run: its disk is full or broken
    DEVICE = "device"  # the run failed, and a probe of its GPU right after it failed, too

    @property
    def provider_fault(self) -> bool:
        """Whether the provider, or nobody, is to blame: such a run is repeated, never attested."""
        return self in _OF_THE_PROVIDER


_OF_THE_PROVIDER = (Reason.KILLED, Reason.SANDBOX_FAILED, Reason.MACHINE, Reason.DEVICE)


@dataclass(frozen=True)
class Limits:
    """What a run may use. Seconds, bytes and counts; all positive.

    `disk_bytes` is counted beyond the inputs and covers `/job` and `/tmp` together, as `inodes`
    does; `pids` counts threads too; `output_bytes` is what the log keeps.
    """

    timeout_seconds: float
    cpus: int
    memory_bytes: int
    disk_bytes: int
    output_bytes: int
    pids: int
    inodes: int = 200_000

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not value > 0:
                raise RunnerError(f"limit {name} is {value}; give a number above 0")


@dataclass(frozen=True)
class RunRequest:
    """One execution of one job.

    `inputs` maps a path in the job's directory to a file on disk; `outputs` are the paths that
    are collected; `runtime` is a directory with `bin/python` (or None: only what the system has).
    `network` is True where the specification buys the network.
    """

    run_id: str
    command: tuple[str, ...]
    limits: Limits
    runtime: Path | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    inputs: Mapping[str, Path] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()
    devices: tuple[Device, ...] = ()
    network: bool = False

    def __post_init__(self) -> None:
        check_run_id(self.run_id)
        if not self.command or not self.command[0]:
            raise RunnerError(f"run {self.run_id} has no command")
        for text in (*self.command, *self.env.values()):
            if "\0" in text:
                raise RunnerError(f"run {self.run_id}: a command or variable holds a zero byte")
        for name in self.env:
            if not _ENV_NAME.fullmatch(name):
                raise RunnerError(f"run {self.run_id}: {name!r} is not a name for a variable")
        for path in (*self.inputs, *self.outputs):
            try:
                check_path(path)
            except LocalError as error:
                raise RunnerError(f"run {self.run_id}: {error}") from None

    def to_json(self) -> dict[str, Any]:
        """As JSON values, for run.json."""
        return {
            "run_id": self.run_id,
            "command": list(self.command),
            "limits": asdict(self.limits),
            "runtime": None if self.runtime is None else str(self.runtime),
            "env": dict(sorted(self.env.items())),
            "inputs": {path: str(self.inputs[path]) for path in sorted(self.inputs)},
            "outputs": list(self.outputs),
            "devices": [asdict(device) for device in self.devices],
            "network": self.network,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> RunRequest:
        """The inverse of `to_json`."""
        return cls(
            run_id=value["run_id"],
            command=tuple(value["command"]),
            limits=Limits(**value["limits"]),
            runtime=None if value["runtime"] is None else Path(value["runtime"]),
            env=value["env"],
            inputs={path: Path(source) for path, source in value["inputs"].items()},
            outputs=tuple(value["outputs"]),
            devices=tuple(
                Device(**{**device, "caps": tuple(device.get("caps", ()))})
                for device in value["devices"]
            ),
            network=value["network"],
        )


@dataclass(frozen=True)
class Usage:
    """What a run used: CPU and GPU time in milliseconds, peak memory in bytes, energy in mJ.

    GPU time is the time for which the devices were held, times their number. Energy is None where
    a device does not count it.
    """

    cpu_ms: int = 0
    gpu_ms: int = 0
    peak_memory_bytes: int = 0
    energy_mj: int | None = None


@dataclass(frozen=True)
class RunState:
    """What is known of a run. Times are unix seconds; `detail` is one line for a person.

    `exit_code` is the job's own (128 + n for signal n), None where it did not end by itself.
    `unfit` are outputs that are not kept: path and reason, both in printable ASCII. `broken` are
    the UUIDs of the GPUs that failed a probe after the run. `sandbox` says what kept the run apart
    (see `containment`), as pairs.
    """

    phase: Phase
    reason: Reason | None = None
    exit_code: int | None = None
    started: int | None = None
    finished: int | None = None
    usage: Usage = Usage()
    detail: str = ""
    unfit: tuple[tuple[str, str], ...] = ()
    broken: tuple[str, ...] = ()
    sandbox: tuple[tuple[str, str], ...] = ()

    @property
    def collected(self) -> bool:
        """Whether outputs were collected, all of them or some."""
        return self.succeeded or (self.phase is Phase.EXITED and self.reason is Reason.OUTPUTS)

    @property
    def succeeded(self) -> bool:
        """Whether the run ended with exit code 0 and its outputs are collected."""
        return self.phase is Phase.EXITED and self.reason is Reason.EXITED and self.exit_code == 0

    @property
    def provider_fault(self) -> bool:
        """Whether the run has failed and the job is not to blame: repeat it, never attest it."""
        return self.phase is Phase.LOST or (self.reason is not None and self.reason.provider_fault)

    def to_json(self) -> dict[str, Any]:
        """As JSON values, for state.json."""
        value = asdict(self)
        value["phase"] = self.phase.value
        value["reason"] = None if self.reason is None else self.reason.value
        return value

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> RunState:
        """The inverse of `to_json`."""
        fields = dict(value)
        fields["phase"] = Phase(fields["phase"])
        fields["reason"] = None if fields["reason"] is None else Reason(fields["reason"])
        fields["usage"] = Usage(**fields["usage"])
        # Runs of earlier versions, which may still go on, do not say it.
        fields["unfit"] = tuple((path, reason) for path, reason in fields.get("unfit", ()))
        fields["broken"] = tuple(fields.get("broken", ()))
        fields["sandbox"] = tuple((what, how) for what, how in fields.get("sandbox", ()))
        return cls(**fields)


class Runner(Protocol):
    """Executes runs. Every method may be called again after a crash of the agent."""

    def check(self) -> str:
        """One line that says how jobs are contained. Raises RunnerError where they cannot be."""

    def start(self, run: RunRequest) -> None:
        """Starts a run once per run id, however often it is called, and does not wait for it."""

    def poll(self, run_id: str) -> RunState:
        """The state of a run. Raises RunnerError when there is no such run."""

    def stop(self, run_id: str) -> None:
        """Ends a run with all its processes. Does nothing when it has ended."""

    def remove(self, run_id: str) -> None:
        """Stops a run and deletes all that it left. Does nothing when it is not there."""

    def request(self, run_id: str) -> RunRequest:
        """What a run was asked for. Raises RunnerError when there is no such run."""

    def probe(self, device: Device) -> str:
        """Why a GPU cannot be used in the sandbox, in the driver's words; "" when it can.

        Takes seconds. Raises RunnerError where the sandbox itself fails.
        """

    def list(self) -> tuple[str, ...]:
        """The ids of all runs, ended ones too, sorted."""

    def allocated(self, run_id: str) -> int:
        """Bytes of the disk that a run has taken at once, for all that it may write; 0 when it
        takes them as it goes.
        """
        ...

    def outputs(self, run_id: str) -> Path:
        """The directory with the outputs of a run, as far as they were collected."""

    def log(self, run_id: str) -> Path:
        """The file with what the job has printed so far."""


def check_run_id(run_id: str) -> str:
    """The id itself; raises RunnerError where it is not fit to name a directory."""
    if not _RUN_ID.fullmatch(run_id):
        raise RunnerError(
            f"{run_id!r} is not a run id: up to 100 lower-case letters, digits, '.', '_' and '-'"
        )
    return run_id
