# SPDX-License-Identifier: Apache-2.0
"""The main job from post to payment, with the real example, in the real sandbox."""

from __future__ import annotations

import json
from pathlib import Path

from teraproof.deals import origin_of
from teraproof.protocol.terms import Status
from tests.agent_e2e.chain import TPF, USD
from tests.agent_e2e.world import market
from tests.support.anvil import ROOT


def test_posted_job__is_run_attested_approved_and_paid(tmp_path: Path) -> None:
    with market(tmp_path) as world:
        world.start_agent()
        example = ROOT / "examples" / "finetune-digits"
        template = json.loads((example / "job.json").read_text())
        directory = world.job_directory("digits", "")
        (directory / "job.py").unlink()
        for item in template["inputs"]:
            (directory / item["path"]).write_bytes((example / item["path"]).read_bytes())
        template.pop("inputs")
        spec = world.spec(directory, **template)
        job = world.post(spec, directory)
        before = world.staking.read("owner_assets", world.owner.address)

        job.upload()
        job.wait(Status.ATTESTED, seconds=180)  # it trains, on cores that other work may share
        event = job.attested()
        out = tmp_path / "result"
        world.client().fetch_result(origin_of(event), out, event.result)
        metrics = json.loads((out / "out" / "metrics.json").read_text())
        receipt = json.loads(world.client().receipt(job.id, event.receipt))
        job.approve()

        assert job.status is Status.SETTLED
        assert metrics["accuracy_after"] > metrics["accuracy_before"]
        assert receipt["exit_code"] == 0
        price = job.terms.price_at(event.assigned_at)
        assert world.jobs.read("credit_of", world.owner.address) == price - price // 100
        assert world.jobs.read("credit_of", world.tenant.address) == 2 * USD - price
        assert world.staking.read("owner_assets", world.owner.address) == before
        assert world.staking.read("pool", world.owner.address)[1] == 0
        assert world.stop_agent() == 0
        assert world.left_processes() == []


def test_provider_dies__tenant_is_refunded_and_gets_the_collateral(tmp_path: Path) -> None:
    with market(tmp_path) as world:
        world.start_agent()
        directory = world.job_directory("slow", "import time; time.sleep(60)")
        job = world.post(world.spec(directory), directory)
        job.upload()
        job.wait(Status.ASSIGNED)
        world.kill_agent()
        world.anvil.increase_time(601)

        world.jobs.send(world.tenant, "expire", job.terms.abi_tuple())

        assert job.status is Status.EXPIRED
        assert world.jobs.read("credit_of", world.tenant.address) == 2 * USD
        # 90 % as the victim, and half of the rest for the call.
        assert world.staking.read("credit_of", world.tenant.address) == 10 * TPF * 95 // 100
