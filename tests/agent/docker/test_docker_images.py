# SPDX-License-Identifier: Apache-2.0
"""Images: which bytes a name means, who may have them, how large they are, and what they try."""

from __future__ import annotations

from pathlib import Path

import pytest

from provider_agent.runners.base import MIB
from provider_agent.runners.lease import Credentials, Lease, Volume
from teraproof.errors import Refused
from teraproof.protocol.errors import Code
from tests.agent.docker.conftest import Yard
from tests.agent.docker.daemon import busybox
from tools.images import Registry, layer, shell_layer


def test_resolve__a_tag__the_digest_it_has_now(yard: Yard, registry: Registry) -> None:
    first = registry.add("moving:1", layer({"note": b"one"}))
    assert yard.runner.resolve(f"{registry.host}/moving:1") == first
    second = registry.add("moving:1", layer({"note": b"two"}))
    assert second != first
    assert yard.runner.resolve(f"{registry.host}/moving:1") == second
    assert yard.runner.resolve(first) == first


@pytest.mark.parametrize(
    "name",
    ["", "UPPER/case", "a b", "a@sha256:12", "-x", "a/../b", "x" * 600, "a:b:c", "http://a/b"],
)
def test_resolve__what_is_no_name__refused(yard: Yard, name: str) -> None:
    with pytest.raises(Refused) as refused:
        yard.runner.resolve(name)
    assert refused.value.code is Code.IMAGE_UNFIT


def test_resolve__what_no_registry_has__refused(yard: Yard, registry: Registry) -> None:
    for name in (f"{registry.host}/nobody:1", "127.0.0.1:1/nothing:1"):
        with pytest.raises(Refused) as refused:
            yard.runner.resolve(name)
        assert refused.value.code is Code.IMAGE_UNFIT


def test_credentials__of_the_tenant__fetch_and_are_kept_nowhere(
    yard: Yard, registry: Registry
) -> None:
    closed = Registry("me:s3cret-word")
    image = closed.add("closed:1", shell_layer(busybox()))
    mine = Credentials("me", "s3cret-word", closed.host)
    with pytest.raises(Refused):
        yard.runner.resolve(f"{closed.host}/closed:1")
    assert yard.runner.resolve(f"{closed.host}/closed:1", mine) == image
    lease = Lease("lease-1", (yard.service(image=image),))
    with pytest.raises(Refused):
        yard.runner.prepare(lease)
    yard.runner.prepare(lease, {"app": mine})
    yard.runner.start("lease-1")
    closed.close()
    assert yard.runner.state("lease-1").running
    assert "s3cret-word" not in repr(mine)
    assert "s3cret-word" not in str(yard.inspect())
    for path in yard.data.rglob("*.json"):
        assert "s3cret-word" not in path.read_text()


def test_image__here_for_a_tenant_with_a_password__not_given_to_another(yard: Yard) -> None:
    closed = Registry("me:s3cret-word")
    image = closed.add("closed:2", shell_layer(busybox()))
    mine = Credentials("me", "s3cret-word", closed.host)
    first = Lease("lease-1", (yard.service(image=image),))
    yard.runner.prepare(first, {"app": mine})
    for other in (None, Credentials("me", "guessed", closed.host)):
        with pytest.raises(Refused) as refused:
            yard.runner.prepare(
                Lease("lease-2", (yard.service(image=image),)), {"app": other} if other else None
            )
        assert refused.value.code is Code.IMAGE_UNFIT
    closed.close()
    # What is prepared needs no registry any more.
    yard.runner.start("lease-1")
    assert yard.runner.state("lease-1").running


def test_image__larger_than_kept__refused_and_deleted(yard: Yard, registry: Registry) -> None:
    image = registry.add("bomb:1", layer({"zeros": bytes(24 * MIB)}))
    yard.runner._images._most = 8 * MIB
    with pytest.raises(Refused) as refused:
        yard.runner.prepare(Lease("lease-1", (yard.service(image=image),)))
    assert refused.value.code is Code.IMAGE_UNFIT
    assert yard.runner._images.find(image) is None


def test_image__that_never_arrives__refused_in_time(yard: Yard, registry: Registry) -> None:
    image = registry.add("slow:1", layer({"note": b"slow"}))
    yard.runner._pull_seconds = 2
    registry.stalls.set()
    try:
        with pytest.raises(Refused) as refused:
            yard.runner.prepare(Lease("lease-1", (yard.service(image=image),)))
    finally:
        registry.stalls.clear()
    assert refused.value.code is Code.IMAGE_UNFIT


@pytest.mark.parametrize("place", ["/proc/x", "/", "/dev/shm", "/a/../../b", "relative", "/sys"])
def test_image__declares_a_volume_over_what_is_not_its_own__refused(
    yard: Yard, registry: Registry, place: str
) -> None:
    image = registry.add("odd:1", layer({"note": place.encode()}), Volumes={place: {}})
    with pytest.raises(Refused):
        yard.runner.prepare(Lease("lease-1", (yard.service(image=image),)))


def test_image__its_directories_are_links_to_the_machine__they_lead_nowhere(
    yard: Yard, registry: Registry
) -> None:
    evil = layer({"opt": "/etc", "srv": "../../../../../etc", "mnt": "/proc/1/root"})
    image = registry.add("links:1", shell_layer(busybox()), evil)
    yard.run(yard.service(image=image, volumes=(Volume("data", "/opt/data", 2 * MIB),)))
    assert yard.say("ls /etc /srv | grep -c shadow") == "0"
    assert yard.say("touch /opt/data/x && ls /etc/data") == "x"
    assert not Path("/etc/data").exists()


def test_image__many_directories_at_the_top__refused(yard: Yard, registry: Registry) -> None:
    many = layer({"note": b""}, tuple(f"d{number}" for number in range(200)))
    image = registry.add("wide:1", many)
    with pytest.raises(Refused):
        yard.runner.prepare(Lease("lease-1", (yard.service(image=image),)))


def test_image__of_many_layers__is_laid_out(yard: Yard, registry: Registry) -> None:
    more = [layer({f"var/{number}": b"x"}) for number in range(40)]
    image = registry.add("deep:1", shell_layer(busybox()), *more)
    yard.run(yard.service(image=image))
    assert yard.say("ls /var | grep -c '^[0-9]'") == "40"
    assert yard.say("rm /var/7; echo changed >/var/8; cat /var/8; ls /var/7 2>&1").startswith(
        "changed"
    )
