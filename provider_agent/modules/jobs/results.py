# SPDX-License-Identifier: Apache-2.0
"""Finished runs as results: the files, the manifest that names them, the signed receipt, the log.

`<root>/<job id>/` appears in one step when all of it is on the disk, and is what a tenant gets:

    files/      the collected outputs; failure.json when the job failed by its own fault, next to
                those of its outputs that could be kept
    manifest    canonical list of the files; the result digest on chain follows from it
    receipt     what the run used, and whose it was; its sha256 goes on chain as well
    log         what the job printed
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from provider_agent.durable import sync, sync_tree
from provider_agent.errors import RunnerError
from provider_agent.modules.jobs.attestations import Attestations, SaidOtherwise
from provider_agent.runners.base import Reason, RunState
from provider_agent.runners.layout import lay_out
from teraproof.protocol.digests import UnfitTree
from teraproof.protocol.receipt import Receipt

SIGNED = "results-signed"  # next to the results
FILES, MANIFEST, RECEIPT, LOG = "files", "manifest", "receipt", "log"


@dataclass(frozen=True)
class Result:
    """A result on the disk and the two digests that are attested."""

    directory: Path
    receipt: bytes

    @property
    def manifest_file(self) -> Path:
        """It may be long: read it when it is needed."""
        return self.directory / MANIFEST

    @property
    def manifest(self) -> bytes:
        """The canonical list of the files."""
        return self.manifest_file.read_bytes()

    @property
    def result_digest(self) -> bytes:
        """What is attested of the files, also for what an earlier agent has kept. LocalError where
        the receipt is unfit: such a result is attested by nobody.
        """
        return Receipt.parse(self.receipt).result_digest(self.manifest)

    @property
    def seal(self) -> bytes:
        """What a juror shows that knows the result already. LocalError as for `result_digest`."""
        return Receipt.parse(self.receipt).seal(self.manifest)

    @property
    def receipt_digest(self) -> bytes:
        """sha256 of the receipt."""
        return hashlib.sha256(self.receipt).digest()

    @property
    def files(self) -> Path:
        """The directory that the manifest describes."""
        return self.directory / FILES

    @property
    def log(self) -> Path:
        """What the job printed."""
        return self.directory / LOG


class Results:
    """The results of all jobs under one directory, and next to it what was said of them."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.said = Attestations(root.with_name(SIGNED))
        root.mkdir(parents=True, exist_ok=True, mode=0o700)

    def get(self, job_id: bytes) -> Result | None:
        """The result of a job, or None."""
        directory = self._root / job_id.hex()
        try:
            found = Result(directory, (directory / RECEIPT).read_bytes())
        except FileNotFoundError:
            return None
        return found if found.manifest_file.is_file() else None

    def keep(
        self,
        job_id: bytes,
        state: RunState,
        outputs: Path | None,
        log: Path,
        receipt: bytes,
        salt: bytes | None = None,
    ) -> Result:
        """Make the result of a run that has ended; the one on the disk when there is one.

        `outputs` is None when the job failed by its own fault and left none. Outputs that no
        manifest can describe are such a failure, too: the receipt (canonical bytes of a `Receipt`)
        then says so. Where a run of before was signed for, this one must have given the same: it
        gets that receipt, or SaidOtherwise is raised. `salt` is for the failure of a judged order
        (see `Ending.failure`). Raises RunnerError for what is this machine's
        fault, and ValueError for a run that is.
        """
        if state.provider_fault:
            raise ValueError(f"a run that ended as {state.reason} has no result to attest")
        known = self.get(job_id)
        if known is not None:
            return known
        place = self._root / job_id.hex()
        new = place.with_name(place.name + ".new")
        try:
            shutil.rmtree(new, ignore_errors=True)
            new.mkdir(mode=0o700)
            try:
                listed = lay_out(new / FILES, state, outputs, salt)
            except UnfitTree:
                # The collector lets nothing of the kind pass. Should it ever, the job ends here
                # and not the provider's collateral.
                shutil.rmtree(new / FILES)
                state = replace(state, reason=Reason.OUTPUTS)
                receipt = replace(Receipt.parse(receipt), reason=Reason.OUTPUTS.value).canonical()
                listed = lay_out(new / FILES, state, None, salt)
            receipt = self._receipt(job_id, listed, receipt)
            if log.exists():
                shutil.copyfile(log, new / LOG)
            (new / MANIFEST).write_bytes(listed)
            (new / RECEIPT).write_bytes(receipt)
            sync_tree(new)
            new.rename(place)
            sync(self._root)
        except SaidOtherwise:
            shutil.rmtree(new, ignore_errors=True)
            raise
        except OSError as error:
            shutil.rmtree(new, ignore_errors=True)
            raise RunnerError(
                f"the result of job {job_id.hex()} cannot be kept: {error.strerror or error}"
            ) from error
        kept = self.get(job_id)
        if kept is None:
            raise RunnerError(f"the result of job {job_id.hex()} vanished from the disk")
        return kept

    def _receipt(self, job_id: bytes, listed: bytes, receipt: bytes) -> bytes:
        """The receipt that goes with a result: that of before where the same was signed for."""
        said = self.said.of(job_id)
        if said is None:
            return receipt
        if Receipt.parse(said.receipt or receipt).result_digest(listed) != said.statement.result:
            raise SaidOtherwise("another result of this job was signed for before, and is lost")
        return said.receipt or receipt

    def older_than(self, before: float) -> Iterator[bytes]:
        """Jobs of which something is left from before a time (unix seconds); some twice."""
        yield from self.said.older_than(before)
        with os.scandir(self._root) as entries:
            for entry in entries:
                if len(entry.name) == 64 and entry.stat().st_mtime < before:
                    yield bytes.fromhex(entry.name)

    def remove(self, job_id: bytes) -> None:
        """Delete a result if it is there. What was said of it stays."""
        shutil.rmtree(self._root / job_id.hex(), ignore_errors=True)

    def forget(self, job_id: bytes) -> None:
        """Delete all that there is of a job that has ended."""
        self.remove(job_id)
        self.said.drop(job_id)
