# SPDX-License-Identifier: Apache-2.0
"""What a juror's work takes of this machine, reserved in the ledger before any of it begins.

What waits for room here is in the way of new offers and new work. What was promised before stays
promised. So a juror on a full machine waits, and says WITHHELD where no room comes in time.

A run has no slot: it runs next to the jobs that have one, and its memory and its GPUs are its own.
"""

from __future__ import annotations

from provider_agent.core.capacity import Amounts, Capacity, Hold, Kind, on_disk
from provider_agent.core.demands import Demands
from teraproof.protocol.jobspec import JobSpec

MODULE = "disputes"
_FILES_TOO = 64  # inodes of the folders, manifests and notes


class Room:
    """See the module. `files` is what lies on the disk until the finding; `run` what a run or a
    comparison takes while it lasts.
    """

    def __init__(self, capacity: Capacity, demands: Demands) -> None:
        self._capacity, self._demands = capacity, demands

    def files(self, job: bytes, spec: JobSpec) -> bool:
        """Whether there is room for all that comes to lie on the disk: the inputs, the run, its
        result, and the attested one.
        """
        key = (MODULE, job)
        if key in self._capacity.holds():
            return True
        return bool(self._capacity.want(key, self._files(spec)))

    def arrived(self, job: bytes, spec: JobSpec, size: int) -> None:
        """That number of bytes of it lies on the disk and is not free: none counts twice."""
        hold = self._files(spec)
        stored = Amounts(disk=min(hold.amounts.disk, size))
        self._capacity.put((MODULE, job), Hold(hold.kind, hold.amounts, stored=stored, by=hold.by))

    def run(self, job: bytes, spec: JobSpec) -> bool:
        """Whether there are memory, cores and devices for a run."""
        key = (MODULE, job, "run")
        if key in self._capacity.holds():
            return True
        return bool(self._capacity.want(key, self._run(spec)))

    def runs(self, job: bytes, spec: JobSpec) -> None:
        """A run is under way, also from before this agent was started."""
        if not {(MODULE, job), (MODULE, job, "run")} <= self._capacity.holds().keys():
            self.arrived(job, spec, spec.input_bytes())
            self._capacity.put((MODULE, job, "run"), self._run(spec))

    def comparison(self, job: bytes, memory: int) -> bool:
        """Whether that number of bytes of memory is there for comparing two results."""
        key = (MODULE, job, "run")
        if key in self._capacity.holds():
            return True
        return bool(self._capacity.want(key, Hold(Kind.OWED, Amounts(memory=memory), by=MODULE)))

    def run_is_over(self, job: bytes) -> None:
        """Give back what a run or a comparison took."""
        self._capacity.release((MODULE, job, "run"))

    def give_back(self, job: bytes) -> None:
        """Give back all: what lies on the disk shows there."""
        self.run_is_over(job)
        self._capacity.release((MODULE, job))

    def _files(self, spec: JobSpec) -> Hold:
        demands, needs = self._demands, self._demands.needs(spec)
        inputs = {entry.sha256: on_disk(entry.size) for entry in spec.inputs}
        amounts = Amounts(
            disk=sum(inputs.values()) + needs.disk + demands.result_bytes(spec),
            inodes=len(inputs) + needs.inodes + demands.result_files(spec) + _FILES_TOO,
        )
        return Hold(Kind.OWED, amounts, by=MODULE)

    def _run(self, spec: JobSpec) -> Hold:
        needs = self._demands.needs(spec)
        amounts = Amounts(devices=needs.devices, memory=needs.memory, cpu=needs.cpu)
        return Hold(Kind.OWED, amounts, by=MODULE)
