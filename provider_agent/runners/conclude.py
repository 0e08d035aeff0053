# SPDX-License-Identifier: Apache-2.0
"""How a run has ended, and whose doing it was; the outputs are collected here."""

from __future__ import annotations

import errno
import json
import os
import resource
import time
from contextlib import suppress
from dataclasses import replace

from provider_agent import devices
from provider_agent.runners import outputs
from provider_agent.runners.base import Phase, Reason, RunState, Usage
from provider_agent.runners.launch import cannot_execute
from provider_agent.runners.live import MESSAGE, Live, Verdict
from provider_agent.runners.state import LOG, OUTPUTS
from provider_agent.runners.watch import (
    NEARLY_FULL,
    OUT_OF_MEMORY,
    Watch,
    too_many_processes,
    too_much_memory,
)

_SHOWN_UNFIT = 20  # in the log


def conclude(live: Live, watch: Watch, verdict: Verdict | None) -> RunState:
    """The final state of a run whose processes are all gone, without its usage."""
    ended = RunState(Phase.EXITED, started=live.started, finished=int(time.time()))
    if live.group is not None and live.group.ran_out_of_memory():
        verdict = too_much_memory(live)
    code = _exit_code(live)
    if verdict is None and code != 0 and live.group is not None and live.group.starved():
        verdict = OUT_OF_MEMORY
    if verdict is None and code != 0 and live.group is not None and live.group.hit_pids_limit():
        verdict = too_many_processes(live)
    if verdict is None and code is None:
        verdict = _refused_inside(live)
    if verdict is not None:
        return replace(
            ended,
            reason=verdict.reason,
            exit_code=verdict.exit_code,
            detail=verdict.detail[:MESSAGE],
        )
    if code is None:
        return replace(ended, reason=Reason.SANDBOX_FAILED, detail=_last_line(live))
    # The last look was up to a tick ago, and a short job was never looked at.
    late = watch.last_look()
    # With a file system of its own the job met its own limit, whatever it made of that.
    counts = code == 0 or live.space is not None or live.disk_was_short
    if late is not None and late.reason is Reason.DISK and counts:
        return replace(ended, reason=late.reason, detail=late.detail)
    if code != 0 and live.disk_was_short:
        # A write of the job may have failed, and the room was promised to it.
        return replace(ended, reason=NEARLY_FULL.reason, detail=NEARLY_FULL.detail)
    if code != 0:
        detail = f"ended with exit code {code}"
        return replace(ended, reason=Reason.EXITED, exit_code=code, detail=detail)
    return _collect(live, replace(ended, exit_code=code))


def _collect(live: Live, ended: RunState) -> RunState:
    try:
        found = outputs.collect(
            live.work,
            live.request.outputs,
            live.directory / OUTPUTS,
            live.limits.disk_bytes + live.inputs_bytes,
            live.go_on,
        )
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else "input/output error"
        detail = f"the outputs cannot be collected: {why.lower()}; look after the disk"
        return replace(ended, reason=Reason.MACHINE, exit_code=None, detail=detail)
    if not found.unfit:
        return replace(ended, reason=Reason.EXITED)
    first, more = found.unfit[0], found.refused - 1
    for unfit in found.unfit[:_SHOWN_UNFIT]:
        live.printed.write(f"[output {unfit.path} is not kept: it {unfit.reason}]\n".encode())
    detail = f"output {first.path} {first.reason}" + (f"; and {more} more" if more else "")
    return replace(
        ended,
        reason=Reason.OUTPUTS,
        detail=detail[:MESSAGE],
        unfit=tuple((unfit.path, unfit.reason) for unfit in found.unfit),
    )


def read_status(live: Live) -> None:
    """Takes in what bubblewrap has said of the end."""
    if live.status_read >= 0:
        os.set_blocking(live.status_read, False)
        with suppress(BlockingIOError):
            while chunk := os.read(live.status_read, 4096):
                live.status += chunk


def _exit_code(live: Live) -> int | None:
    """The job's own exit code; None when it never ran."""
    if live.process is None:
        return None
    if not live.sandboxed:
        code = live.process.returncode
        return 128 - code if code < 0 else code
    for line in live.status.split(b"\n"):
        with suppress(ValueError):
            report = json.loads(line)
            if "exit-code" in report:
                return int(report["exit-code"])
    return None


def _refused_inside(live: Live) -> Verdict | None:
    """The verdict where the walls stood and only the last step, the command, failed.

    Nothing of the job has run then, so the log has bubblewrap's words and nobody else's.
    """
    said = b"\n" + (live.directory / LOG).read_bytes()
    if b"\nbwrap: execvp " not in said:
        return None
    missing = said.rstrip().endswith(os.strerror(errno.ENOENT).encode())
    return cannot_execute(_last_line(live), missing)


def _last_line(live: Live) -> str:
    said = (live.directory / LOG).read_bytes()[-2 * MESSAGE :].decode(errors="replace")
    lines = [line for line in said.splitlines() if line.strip()]
    return ascii(lines[-1])[1:-1][:MESSAGE] if lines else "the sandbox could not be set up"


# ------------------------------------------------------------------------ usage


def energy(live: Live) -> dict[str, int | None]:
    """Each GPU's counter of energy in millijoules."""
    gpus = [device for device in live.request.devices if device.kind == "cuda"]
    return {device.uuid: devices.sample(device).energy_mj for device in gpus}


def usage(live: Live, held: float, before: dict[str, int | None]) -> Usage:
    """What the run took in the `held` seconds of its life."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    after = energy(live)
    spent: int | None = 0 if after else None
    for uuid, end in after.items():
        start = before.get(uuid)
        if spent is None or end is None or start is None or end < start:
            spent = None  # a counter that went back (a driver was loaded again) says nothing
        else:
            spent += end - start
    cpu_ms = int((children.ru_utime + children.ru_stime) * 1000)
    peak = max(live.peak_memory, children.ru_maxrss * 1024)
    if live.group is not None:
        cpu_ms = max(cpu_ms, live.group.cpu_ms())
        peak = live.group.peak_memory() or peak
    return Usage(
        cpu_ms=cpu_ms,
        gpu_ms=int(held * 1000) * len(after),
        peak_memory_bytes=peak,
        energy_mj=spent,
    )
