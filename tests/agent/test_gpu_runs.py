# SPDX-License-Identifier: Apache-2.0
"""Runs with a GPU in the real sandbox, on a machine that has none: the device files are those of
memory, and libcuda is a small C library that works or fails.

Everything is done in a mount table of its own, so this machine stays as it is. Needs root.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from provider_agent.devices import Device
from provider_agent.runners import probe
from provider_agent.runners.live import Live
from tests.support import runs
from tests.support.anvil import ROOT

pytestmark = [
    pytest.mark.sandbox,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to make device files"),
]

LIBRARY = """
#include <fcntl.h>
#include <stddef.h>
#include <unistd.h>
int cuInit(unsigned flags) {
    int fd = open("/dev/nvidia0", O_RDWR);
    if (fd < 0) return 100;
    close(fd);
    return RESULT;
}
int cuDeviceGet(int *device, int number) { *device = number; return 0; }
int cuDevicePrimaryCtxRetain(void **context, int device) { *context = NULL; return 0; }
int cuCtxSetCurrent(void *context) { return 0; }
int cuMemAlloc_v2(unsigned long long *memory, size_t size) { *memory = 1; return ALLOC; }
int cuMemsetD8_v2(unsigned long long memory, unsigned char value, size_t size) { return 0; }
int cuCtxSynchronize(void) { return 0; }
int cuMemFree_v2(unsigned long long memory) { return 0; }
int cuGetErrorName(int code, const char **name) { *name = "CUDA_ERROR_OF_THE_TEST"; return 0; }
"""

# As in the private mount table of a machine with one GPU: $1 is a scratch directory, $2 the device
# files that are left out.
MACHINE = """
set -e
mount -t tmpfs -o mode=755 none "$1/dev"
for f in "null 1 3" "zero 1 5" "full 1 7" "random 1 8" "urandom 1 9" "tty 5 0" \\
    "nvidia0 1 3" "nvidiactl 1 3" "nvidia-uvm 1 3" "nvidia-uvm-tools 1 3"
do mknod -m 666 "$1/dev/${f%% *}" c ${f#* }; done
for node in $2; do rm "$1/dev/$node"; done
n=0; while [ $n -lt 256 ]; do mknod "$1/dev/loop$n" b 7 $n; n=$((n + 1)); done # others have some
mknod "$1/dev/loop-control" c 10 237
mkdir "$1/dev/shm" "$1/dev/pts"
ln -s pts/ptmx "$1/dev/ptmx"; ln -s /proc/self/fd "$1/dev/fd"
mount --bind "$1/dev" /dev
if [ -e "$1/libcuda.so.1" ]; then
    mount -t tmpfs none /usr/local/lib
    cp "$1/libcuda.so.1" /usr/local/lib/
    ldconfig -X -C "$1/cache" && mount --bind "$1/cache" /etc/ld.so.cache
fi
shift 2
exec "$@"
"""

AGENT = """
import json, sys, time
from dataclasses import replace
from pathlib import Path
from provider_agent.devices import Device
from tests.support import runs
place = Path(sys.argv[1])
runner = runs.make_runner(place / "data")
runner._probe_runtime = runs.RUNTIME
gpu = Device("cuda", 0, "GPU", "GPU-0", 1 << 30, node="/dev/nvidia0")
said = {}
SOURCES = {"fails": "raise SystemExit(3)", "works": '''
import os
print(sorted(name for name in os.listdir("/dev") if name.startswith("nvidia")))
open("out", "w")
'''}
for name, source in SOURCES.items():
    runner.start(replace(runs.python_run(place, name, source, outputs=("out",)), devices=(gpu,)))
    state = runs.wait(runner, name)
    said[name] = [state.reason.value, state.exit_code, list(state.broken), state.detail]
    log = runner.log(name)
    said[name + ".log"] = log.read_text() if log.exists() else ""
    runner.remove(name)
said["probe"] = runner.probe(gpu)
print(json.dumps(said))
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    runs.need_bubblewrap()
    (tmp_path / "dev").mkdir()
    return tmp_path


def make_library(place: Path, result: int = 0, alloc: int = 0) -> None:
    """The driver's library: what cuInit and an allocation answer."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler")
    (place / "cuda.c").write_text(LIBRARY)
    subprocess.run(
        [compiler, "-shared", "-fPIC", f"-DRESULT={result}", f"-DALLOC={alloc}"]
        + ["-Wl,-soname,libcuda.so.1", "-o", place / "libcuda.so.1", place / "cuda.c"],
        check=True,
    )


def on_a_machine_with_a_gpu(place: Path, without: str = "") -> dict[str, Any]:
    """What an agent's runner makes of a failing and of a good job there, and of a probe."""
    shell = ["unshare", "-m", "sh", "-c", MACHINE, "sh", str(place), without]
    done = subprocess.run(
        [*shell, sys.executable, "-c", AGENT, str(place)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return said


def test_gpu_works__failure_is_the_jobs(place: Path) -> None:
    make_library(place)
    said = on_a_machine_with_a_gpu(place)
    assert said["probe"] == ""
    assert said["fails"][:3] == ["exited", 3, []]
    assert said["works"][:3] == ["exited", 0, []]
    nodes = ["nvidia-uvm", "nvidia-uvm-tools", "nvidia0", "nvidiactl"]
    assert said["works.log"].strip() == str(nodes)


@pytest.mark.parametrize(
    ("library", "words"),
    [
        ({"result": 999}, "cuInit: CUDA_ERROR_OF_THE_TEST (999)"),
        ({"alloc": 2}, "cuMemAlloc_v2: CUDA_ERROR_OF_THE_TEST (2)"),
        (None, "libcuda.so.1"),
    ],
    ids=["lost", "no memory", "no library"],
)
def test_gpu_does_not_work__failure_is_the_providers(
    place: Path, library: dict[str, int] | None, words: str
) -> None:
    if library is not None:
        make_library(place, **library)
    said = on_a_machine_with_a_gpu(place)
    reason, code, broken, detail = said["fails"]
    assert (reason, code, broken) == ("device", None, ["GPU-0"])
    assert words in detail
    # A job that does well is well, whatever the probe would say.
    assert said["works"][:3] == ["exited", 0, []]
    assert said["probe"] != ""


def test_device_file_missing_after_a_boot__said_and_not_the_jobs_fault(place: Path) -> None:
    make_library(place)
    said = on_a_machine_with_a_gpu(place, without="nvidia-uvm")
    assert said["works"][0] == "sandbox-failed"
    assert "/dev/nvidia-uvm is missing" in said["works"][3]
    assert "nvidia-modprobe" in said["probe"]


def test_driver_that_never_answers__given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = runs.python_run(tmp_path, "run", "print()")
    gpu = Device("cuda", 0, "GPU", "GPU-0", 1 << 30, node="/dev/nvidia0")
    live = SimpleNamespace(
        request=replace(run, devices=(gpu,)),
        plan=SimpleNamespace(uid=None),
        sandboxed=False,
        directory=tmp_path,
        go_on=lambda: None,
    )
    monkeypatch.setattr(probe, "SECONDS", 0.5)
    monkeypatch.setattr(probe, "PROGRAM", "import time\ntime.sleep(600)")
    found = probe.broken(cast(Live, live))
    assert list(found) == ["GPU-0"] and "does not answer" in found["GPU-0"]
