# SPDX-License-Identifier: Apache-2.0
"""Ready in time: what runs is said to, what is missing here is not, and no tenant that holds its
lease up gets the collateral for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from provider_agent.modules.leases.images import fetch_name
from teraproof.errors import Refused
from teraproof.protocol.errors import Code
from teraproof.protocol.lease_terms import LeaseStatus
from teraproof.protocol.lease_wire import LeaseOutcome, RegistryLogin, RegistryLogins
from tests.agent.leases.documents import service, spec
from tests.agent_e2e.lease_rig import LeaseRig


def suspended(agent: LeaseRig) -> bool:
    return agent.status() is LeaseStatus.ACTIVE and agent.marks().suspended_at > 0


def wait_for_the_end_of_the_time_to_be_ready(agent: LeaseRig) -> None:
    for _ in range(20):
        agent.anvil.step(3)
        agent.cycle()


def test_image_lost_after_the_hire__never_called_ready_and_nothing_is_paid(
    agent: LeaseRig,
) -> None:
    signed = agent.quote()
    agent.runner.unfit = "the registry has lost it"
    agent.hire(signed)
    wait_for_the_end_of_the_time_to_be_ready(agent)
    assert agent.sent("ready") == 0
    report = agent.module._views.report(agent.terms.lease_id())
    assert report is not None and report.blocked_by is Code.DEADLINE_MISSED
    agent.call(agent.stranger, "expire")
    agent.cycle(2)
    row = agent.row()
    assert row is not None and (row.outcome, row.seconds) == (LeaseOutcome.NOT_READY, 0)
    assert agent.leases.read("credit_of", agent.tenant.address) == agent.terms.order.deposit


def test_image_lost_and_found__ready_in_time(agent: LeaseRig) -> None:
    signed = agent.quote(ready_within=120)
    agent.runner.unfit = "the registry is away"
    agent.hire(signed)
    agent.cycle(3)
    agent.runner.unfit = ""
    failures = agent.module._machine._failures
    failures[agent.name] = replace(failures[agent.name], again=0.0)  # its pause is over
    agent.until(lambda: agent.status() is LeaseStatus.ACTIVE, "ready lease")
    assert agent.runner.starts == [agent.name]


def test_engine_away_when_it_should_be_ready__never_called_ready(agent: LeaseRig) -> None:
    agent.hire(agent.quote())
    agent.runner.away = True
    wait_for_the_end_of_the_time_to_be_ready(agent)
    assert agent.sent("ready") == 0
    assert agent.status() is LeaseStatus.ASSIGNED


def test_containers_gone_since_the_last_cycle__not_called_ready(
    agent: LeaseRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent.hire(agent.quote())
    # What a cycle knows is some moments old: since then, all of them have died.
    state = agent.runner.state
    keep = agent.runner.keep
    monkeypatch.setattr(agent.runner, "state", lambda name: replace(state(name), wanted=False))
    monkeypatch.setattr(
        agent.runner, "keep", lambda wanted: {n: state(n) for n in wanted if n in keep(wanted)}
    )
    agent.cycle(6)
    assert agent.module._machine.is_up(agent.name)
    assert agent.sent("ready") == 0
    monkeypatch.undo()
    agent.until(lambda: agent.status() is LeaseStatus.ACTIVE, "ready lease")


def log_in(agent: LeaseRig) -> None:
    logins = RegistryLogins({"web": RegistryLogin("me", "x", "registry.test")})
    agent.module._views.log_in(agent.terms.lease_id(), logins)


def program_ends_at_once(agent: LeaseRig) -> None:
    agent.hire(agent.quote())
    agent.runner.dead.add(agent.name)


def password_never_comes(agent: LeaseRig) -> None:
    agent.hire(agent.quote(spec(service(registry="registry.test"))))


def password_is_wrong(agent: LeaseRig) -> None:
    password_never_comes(agent)
    agent.cycle(2)
    agent.runner.unfit = "the registry refuses the password"
    log_in(agent)


def registry_drips(agent: LeaseRig) -> None:
    password_never_comes(agent)
    agent.cycle(2)
    agent.runner.registry.clear()
    log_in(agent)


def image_is_larger_than_the_room(agent: LeaseRig) -> None:
    password_never_comes(agent)
    agent.cycle(2)
    agent.runner.full = True
    log_in(agent)


@pytest.mark.parametrize("fails", [program_ends_at_once, password_never_comes, password_is_wrong])
def test_tenant_keeps_it_from_running__does_not_get_the_collateral(
    agent: LeaseRig, fails: Callable[[LeaseRig], None]
) -> None:
    fails(agent)
    for _ in range(12):
        agent.anvil.step(4)
        agent.cycle()
    assert suspended(agent)
    for _ in range(25):
        agent.anvil.step(30)
        agent.cycle()
        if agent.status() is LeaseStatus.NONE:
            break
    agent.cycle(2)
    row = agent.row()
    assert row is not None and row.outcome is LeaseOutcome.OVER
    # At most from `ready` to the suspension, which are two transactions.
    assert row.seconds <= 10 and agent.locked() == 0


@pytest.mark.parametrize("fails", [registry_drips, image_is_larger_than_the_room])
def test_image_of_the_tenants_own_that_does_not_come__ready_and_suspended_and_no_rent_runs(
    agent: LeaseRig, fails: Callable[[LeaseRig], None]
) -> None:
    fails(agent)
    wait_for_the_end_of_the_time_to_be_ready(agent)
    assert suspended(agent)
    paid_for = agent.seconds()
    assert paid_for <= 10
    agent.anvil.step(60)
    agent.cycle(3)
    assert suspended(agent) and agent.seconds() == paid_for
    agent.call(agent.tenant, "close")
    agent.until(lambda: agent.status() is LeaseStatus.NONE, "end")
    assert agent.locked() == 0


def test_image_of_the_tenants_own_that_comes_late__runs_from_then_on(agent: LeaseRig) -> None:
    registry_drips(agent)
    wait_for_the_end_of_the_time_to_be_ready(agent)
    assert suspended(agent)
    agent.runner.registry.set()

    def resumed() -> bool:
        return agent.status() is LeaseStatus.ACTIVE and not agent.marks().suspended_at

    agent.until(resumed, "lease that runs")
    assert agent.runner.starts == [agent.name]


def test_registry_drips_long_before_the_end__not_called_ready_yet(agent: LeaseRig) -> None:
    agent.hire(agent.quote(spec(service(registry="registry.test")), ready_within=600))
    agent.cycle(2)
    agent.runner.registry.clear()
    log_in(agent)
    for _ in range(10):
        agent.anvil.step(20)
        agent.cycle()
    assert agent.sent("ready") == 0 and agent.runner.coming == {agent.name}
    agent.runner.registry.set()
    agent.until(lambda: agent.status() is LeaseStatus.ACTIVE, "ready lease")


def test_gpu_missing_here_of_a_lease_with_a_registry_of_its_own__never_called_ready(
    agent: LeaseRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    signed = agent.quote(spec(service(registry="registry.test")))
    monkeypatch.setattr(agent.module._stock, "choose", lambda spec: None)
    agent.hire(signed)
    agent.cycle(2)
    log_in(agent)
    failures = agent.module._machine._failures
    for _ in range(20):
        agent.anvil.step(3)
        agent.cycle()
        if agent.name in failures:  # it is tried again in each cycle
            failures[agent.name] = replace(failures[agent.name], again=0.0)
    assert agent.sent("ready") == 0


def test_cycles_are_far_apart__one_comes_when_it_is_nearly_too_late(agent: LeaseRig) -> None:
    agent.hire(agent.quote(spec(service(registry="registry.test")), ready_within=600))
    agent.cycle(2)
    agent.runner.registry.clear()
    log_in(agent)
    agent.anvil.step(100)
    agent.cycle()
    seconds = agent.module.look_again
    assert seconds is not None and 60 < seconds < 500
    agent.anvil.step(int(seconds) + 1)
    agent.cycle(2)
    assert agent.sent("ready") == 1


def test_nobody_waits_for_a_lease_that_was_not_ready_in_time__no_cycle_is_wanted(
    agent: LeaseRig,
) -> None:
    signed = agent.quote()
    agent.runner.unfit = "the registry has lost it"
    agent.hire(signed)
    wait_for_the_end_of_the_time_to_be_ready(agent)
    agent.anvil.step(60)
    agent.cycle()
    assert agent.module.look_again is None


def test_disk_full_of_an_image_that_everybody_gets__never_called_ready(agent: LeaseRig) -> None:
    signed = agent.quote()
    agent.runner.full = True
    agent.hire(signed)
    wait_for_the_end_of_the_time_to_be_ready(agent)
    assert agent.sent("ready") == 0


def test_engine_away_while_a_registry_drips__never_called_ready(agent: LeaseRig) -> None:
    registry_drips(agent)
    agent.until(lambda: agent.runner.coming, "fetch")
    agent.runner.away = True
    wait_for_the_end_of_the_time_to_be_ready(agent)
    assert agent.sent("ready") == 0


def test_lease_ends_while_its_registry_drips__nothing_is_asked_of_it_any_more(
    agent: LeaseRig,
) -> None:
    registry_drips(agent)
    wait_for_the_end_of_the_time_to_be_ready(agent)
    assert agent.runner.coming == {agent.name}
    agent.call(agent.tenant, "close")
    agent.until(lambda: not agent.runner.coming, "end of the fetch")
    agent.until(lambda: not agent.module._machine._work, "worker that is free")


@pytest.mark.parametrize("word", ["none", "no"])
def test_runner_too_slow_for_a_last_look__the_last_cycles_word_counts_nearly_too_late(
    agent: LeaseRig, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    # It says nothing in time, or that the lease does not run.
    said = None if word == "none" else False
    monkeypatch.setattr(agent.module._last_look, "runs", lambda name: said)
    agent.hire(agent.quote(ready_within=60))
    agent.cycle(6)
    assert agent.module._machine.is_up(agent.name) and agent.sent("ready") == 0
    wait_for_the_end_of_the_time_to_be_ready(agent)
    assert agent.sent("ready") == (1 if said is None else 0)


def test_images_of_what_is_promised__stay_until_it_runs(agent: LeaseRig) -> None:
    agent.quote()
    name = fetch_name(spec().digest())
    agent.restart()  # what was fetched lately is no longer known
    agent.cycle(2)
    assert name in agent.module._machine._told
    agent.hire(agent.quote())
    agent.until(lambda: agent.status() is LeaseStatus.ACTIVE, "ready lease")
    agent.module._images._found.clear()
    agent.cycle(2)
    assert name not in agent.module._machine._told


def test_image_that_wants_credentials__fetched_with_those_of_the_tenant(agent: LeaseRig) -> None:
    agent.hire(agent.quote(spec(service(registry="registry.test"))))
    agent.cycle(3)
    report = agent.module._views.report(agent.terms.lease_id())
    assert report is not None
    assert (report.blocked_by, report.logins) == (Code.LOGINS_MISSING, ("web",))
    logins = RegistryLogins({"web": RegistryLogin("me", "hunter2-is-secret", "registry.test")})
    agent.module._views.log_in(agent.terms.lease_id(), logins)
    agent.until(lambda: agent.status() is LeaseStatus.ACTIVE, "ready lease")
    assert agent.runner.logins[agent.name]["web"].password == "hunter2-is-secret"
    kept = [path for path in agent.folder.rglob("*") if path.is_file()]
    assert kept and not [path for path in kept if b"hunter2-is-secret" in path.read_bytes()]


def test_credentials__for_a_service_that_it_has_not__refused(agent: LeaseRig) -> None:
    agent.active()
    logins = RegistryLogins({"other": RegistryLogin("me", "x")})
    with pytest.raises(Refused) as caught:
        agent.module._views.log_in(agent.terms.lease_id(), logins)
    assert caught.value.code is Code.FIELD_INVALID
