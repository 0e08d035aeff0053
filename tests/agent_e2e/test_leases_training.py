# SPDX-License-Identifier: Apache-2.0
"""A training in a lease loses its provider half way, and ends elsewhere with the bits of one that
nobody disturbed. All parts are real.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.market.ports import free_port
from tests.agent.docker.conftest import daemon, inside, registry, shell
from tests.agent.docker.daemon import busybox
from tests.agent_e2e.lease_camp import PYTHON, Camp, camp
from tools.engine import Daemon

__all__ = ["daemon", "inside", "registry", "shell"]

STEPS, EVERY = 3_000, 10
# Gradient descent with momentum, on a fresh batch in each step. The sum of all losses, which is a
# part of the state, depends on every one. Doubles with 17 digits come back as they were. A training
# that begins at 0 in a lease takes its time, so that it can be killed half way.
TRAIN = """
function random() { seed = (seed * 69069 + 1) % 4294967296; return seed / 2147483648 - 1 }
function save() {
  place = dir "/state"
  printf "%d %.17g %.17g %.17g %.17g %.17g %.17g %.17g\\n", n, a, b, c, u, v, w, sum > dir ".new"
  close(dir ".new")
  system("/bin/busybox mkdir -p " dir " && /bin/busybox mv " dir ".new " place)
}
BEGIN {
  n = 0
  if ((getline line < (dir "/state")) > 0) {
    split(line, s, " ")
    n = s[1]; a = s[2]; b = s[3]; c = s[4]; u = s[5]; v = s[6]; w = s[7]; sum = s[8]; pause = 0
  }
  print "begins at step " n
  fflush()
  while (n < steps) {
    seed = (n * 1103515245 + 12345) % 4294967296
    da = db = dc = loss = 0
    for (i = 0; i < 8; i++) {
      x = random(); y = random()
      e = a * x + b * y + c - (3 * x - 2 * y + 0.5 + random() / 100)
      da += e * x / 4; db += e * y / 4; dc += e / 4; loss += e * e / 8
    }
    u = 0.9 * u - 0.02 * da; v = 0.9 * v - 0.02 * db; w = 0.9 * w - 0.02 * dc
    a += u; b += v; c += w; sum += loss
    n++
    if (n % every == 0) {
      save()
      printf "step %d loss %.17g\\n", n, loss
      fflush()
      if (pause) system("/bin/busybox sleep " pause)
    }
  }
  printf "final loss %.17g, of all steps %.17g\\n", loss, sum
  fflush()
}
"""
FILE = """
version: "2.0"
services:
  train:
    image: {image}
    command: ["/bin/sh", "-c"]
    args:
      - |
        echo "$PROGRAM" > /tmp/train.awk
        awk -v dir=/work/run -v steps=$STEPS -v every={every} -v pause=1 -f /tmp/train.awk
        trap exit TERM; sleep 86400 & wait
    env:
      - STEPS={steps}
      - |-
        PROGRAM={program}
    params:
      storage:
        work: {{mount: /work}}
    expose:
      - port: 80
        to: [{{service: train}}]
profiles:
  compute:
    train:
      resources:
        cpu: {{units: 500m}}
        memory: {{size: 64Mi}}
        storage:
          - size: 64Mi
          - name: work
            size: 16Mi
  placement:
    anywhere:
      pricing:
        train: {{denom: uact, amount: 1500}}
deployment:
  train:
    anywhere: {{profile: train, count: 1}}
"""


@pytest.fixture
def field(daemon: Daemon, inside: None) -> Iterator[Camp]:
    with camp(daemon) as made:
        yield made


@pytest.fixture
def store(field: Camp) -> Iterator[str]:
    """The tenant's bucket, at a server of S3 of its own; its URI."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    server = subprocess.Popen(
        [PYTHON, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={"PATH": os.environ.get("PATH", "")},
    )
    field.environment |= {
        "AWS_ACCESS_KEY_ID": "the-tenant",
        "AWS_SECRET_ACCESS_KEY": "its-secret",
        "AWS_ENDPOINT_URL_S3": url,
    }

    def made() -> bool:
        with contextlib.suppress(OSError):
            urllib.request.urlopen(urllib.request.Request(f"{url}/runs", method="PUT"), timeout=5)
            return True
        return False

    try:
        field.until(made, "the store answers")
        yield "s3://runs/one"
    finally:
        server.kill()
        server.wait()


def undisturbed(place: Path) -> str:
    """The last line of a run that nobody disturbs, by the same program."""
    (place / "train.awk").write_text(TRAIN)
    words = ("-v", f"dir={place}/run", "-v", f"steps={STEPS}", "-v", f"every={EVERY}")
    done = subprocess.run(
        [busybox(), "awk", *words, "-f", str(place / "train.awk")],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()[-1]


def test_provider_dies_half_way__the_bits_of_an_undisturbed_run(
    field: Camp, store: str, shell: str, tmp_path: Path
) -> None:
    expected = undisturbed(tmp_path)
    first, second = field.provider(), field.provider()
    program = "\n".join(" " * 8 + line for line in TRAIN.strip().splitlines()).strip()
    (field.home / "train.yaml").write_text(
        FILE.format(image=shell, every=EVERY, steps=STEPS, program=program)
    )
    saves = ("--checkpoints", f"train:/work/run={store}", "--checkpoint-every", "5 seconds")
    hired = field.json("lease", "hire", "train.yaml", first.address, "--term", "2 hours", *saves)
    lease = hired["lease"]

    def saved() -> int:
        newest = str(field.json("lease", "status", lease)["agent"]["checkpoint"])
        return int(newest.rpartition(".")[2] or 0)

    field.until(lambda: saved() >= 2, "two checkpoints")
    assert "final" not in field.types("lease", "logs", lease), "it was not killed half way"
    first.lose_power()
    field.providers.remove(first)

    watching = field.begin("lease", "watch", lease, "--yes")
    try:
        later = field.until(lambda: _successor(field, lease), "another lease")

        def final() -> str:
            said = field.types("lease", "logs", later)
            return said if "final" in said else ""

        said = field.until(final, "the end of the training").splitlines()
    finally:
        watching.kill()
        watching.communicate()
    begun = next(line for line in said if line.startswith("begins"))
    step = int(re.sub(r"\D", "", begun))
    assert 0 < step < STEPS and step % EVERY == 0
    assert [line for line in said if line.startswith("final")] == [expected]
    assert (
        second.containers() and second.address == field.json("lease", "status", later)["provider"]
    )
    closed = field.json("lease", "close", later, "--save")
    assert closed["ending"] == "by_tenant" and closed["checkpoint"]


def _successor(field: Camp, lease: str) -> str:
    """The confirmed lease that follows one; time passes until it is there."""
    listed = field.json("lease", "list")["leases"]
    found = [one for one in listed if one["lease"] != lease and one["status"] == "active"]
    for one in found:
        if one["confirmed"]:
            return str(one["lease"])
    if not found:
        field.stage.anvil.increase_time(20)
    return ""
