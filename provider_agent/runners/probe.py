# SPDX-License-Identifier: Apache-2.0
"""Whether a GPU can be used from where a job stands: one allocation on it, in the same sandbox.

A run that had a GPU and failed is the job's doing only if this passes right after it.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial

from provider_agent.devices import Device
from provider_agent.errors import RunnerError
from provider_agent.runners import sandbox
from provider_agent.runners.base import MIB, RunRequest
from provider_agent.runners.live import MESSAGE, Live

SECONDS = 60
"""Time for a driver to answer; a card that has fallen off the bus may never do."""
_DYING, _TICK = 5, 0.1
MOST_SECONDS = SECONDS + _DYING
"""How long a failed run with GPUs may stay in its slot for their probes: all are tried at once."""
_ROOM = 16 * MIB

# Only what Python brings along, and calls that all versions of the driver have.
PROGRAM = """
import ctypes, sys
def fail(line):
    print(line)
    sys.exit(1)
try:
    cuda = ctypes.CDLL("libcuda.so.1")
except OSError as error:
    fail(error)
def do(name, *arguments):
    code = getattr(cuda, name)(*arguments)
    if code != 0:
        said = ctypes.c_char_p()
        cuda.cuGetErrorName(code, ctypes.byref(said))
        fail(f"{name}: {(said.value or b'error').decode()} ({code})")
context, memory = ctypes.c_void_p(), ctypes.c_ulonglong()
device = ctypes.c_int()
do("cuInit", 0)
do("cuDeviceGet", ctypes.byref(device), 0)
do("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
do("cuCtxSetCurrent", context)
do("cuMemAlloc_v2", ctypes.byref(memory), ctypes.c_size_t(1 << 20))
do("cuMemsetD8_v2", memory, ctypes.c_ubyte(1), ctypes.c_size_t(1 << 20))
do("cuCtxSynchronize")
do("cuMemFree_v2", memory)
print("passed")
"""


def command(request: RunRequest) -> tuple[str, ...]:
    """How the program is run: by the Python of the runtime, else by the system's."""
    return ("python3" if request.runtime is None else "python", "-c", PROGRAM)


def broken(live: Live) -> dict[str, str]:
    """The GPUs of a run that has just ended which cannot be used, by UUID, with the reason."""
    gpus = [device for device in live.request.devices if device.kind == "cuda"]
    if not gpus:
        return {}
    with ThreadPoolExecutor(len(gpus)) as pool:
        said = list(pool.map(partial(_try, live), gpus))
    return {device.uuid: reason for device, reason in zip(gpus, said, strict=True) if reason}


def _try(live: Live, device: Device) -> str:
    request = replace(live.request, devices=(device,), env={}, inputs={}, outputs=())
    request = replace(request, command=command(request))
    fds: list[int] = []
    environment: dict[str, str] = {}
    try:
        if live.sandboxed:
            bwrap = sandbox.find()
            launch = sandbox.build(
                bwrap,
                request,
                work=None,
                tmp=None,
                in_memory=(_ROOM, None),
                binds=live.binds,
                disable_userns=sandbox.can_disable_userns(bwrap),
            )
            argv, fds = launch.argv, launch.fds
        else:
            environment = sandbox.environment(request, str(live.directory))
            argv = [sandbox.which(request.command[0], environment["PATH"]) or "python3"]
            argv += request.command[1:]
        return _run(argv, environment, fds, live)
    except (OSError, RunnerError) as error:
        return str(error)
    finally:
        for fd in fds:
            os.close(fd)


def _run(argv: list[str], environment: dict[str, str], fds: list[int], live: Live) -> str:
    user, end = live.plan.uid, time.monotonic() + SECONDS
    # A file and no pipe: a process that a driver holds for good would keep a pipe open.
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            argv,
            cwd="/",
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            pass_fds=fds,
            user=user,
            group=user,
            extra_groups=None if user is None else [],
        )
        code = None
        try:
            while code is None and time.monotonic() < end:
                live.go_on()
                with suppress(subprocess.TimeoutExpired):
                    code = process.wait(timeout=_TICK)
        finally:
            if code is None:
                process.kill()
        if code is None:
            with suppress(subprocess.TimeoutExpired):  # not for one that the kernel holds
                process.wait(timeout=_DYING)
            return f"does not answer within {SECONDS} seconds"
        if code == 0:
            return ""
        said.seek(0)
        lines = said.read(1 << 16).decode(errors="replace").strip().splitlines()
    return ascii(lines[-1] if lines else f"exit code {code}")[1:-1][:MESSAGE]
