# SPDX-License-Identifier: Apache-2.0
"""Who gets nothing through the data plane, and what strangers can cost."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import time
from collections.abc import Callable
from typing import Any

import pytest
from eth_account import Account
from eth_utils.crypto import keccak

from provider_agent.dataplane import certificate
from provider_agent.dataplane.holders import Phase
from provider_agent.dataplane.relay import to_container
from teraproof.client import dataplane as client
from teraproof.errors import LocalError, Refused, RemoteError
from teraproof.market.signers import KeySigner
from teraproof.protocol import dataplane, messages
from teraproof.protocol.dataplane import (
    Frame,
    LeaseDelegate,
    LeaseStream,
    PlaneCertificate,
    Proof,
    What,
)
from teraproof.protocol.errors import Code
from teraproof.protocol.terms import address
from tests.agent.dataplane.attempts import code_of, opened, proof_for, refused, take
from tests.agent.dataplane.conftest import (
    DOMAIN,
    LEASE,
    OTHER,
    Rig,
    asking,
    bare,
    run,
    service,
    spec,
)

# --------------------------------------------------------------------------- who is asked


def test_certificate__of_another_operator__nothing_is_sent(rig: Rig) -> None:
    rig.start().serve()
    heard: list[str] = []

    class Hearing:
        def proof(self, domain: messages.Domain, stream: LeaseStream) -> Proof:
            heard.append("asked to sign")
            return rig.key().proof(domain, stream)

    stranger = str(Account.create().address)
    work = client.connect(rig.place(operator=stranger), asking(), Hearing())
    assert refused(work) is Code.CERTIFICATE_UNBOUND
    elsewhere = messages.Domain(1, DOMAIN.contract)
    work = client.connect(rig.place(domain=elsewhere), asking(), Hearing())
    assert refused(work) is Code.CERTIFICATE_UNBOUND
    assert heard == []


def test_relay__between_the_two__with_a_certificate_of_its_own__nothing_is_sent(rig: Rig) -> None:
    """It shows the agent's HELLO, and cannot show the agent's certificate."""
    rig.start().serve()
    own = certificate.make(int(time.time()) - 60, int(time.time()) + 600)
    context = certificate.context(own.certificate, own.key, ssl.TLSVersion.TLSv1_3)
    context.set_alpn_protocols([dataplane.ALPN])
    heard: list[bytes] = []

    async def work() -> Code:
        async def between(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            upstream = await asyncio.to_thread(bare, rig.port)
            kind, data = await asyncio.to_thread(take, upstream)
            writer.write(dataplane.frame(kind, data))
            heard.append(await reader.read(100))
            upstream.close()
            writer.close()

        server = await asyncio.start_server(between, "127.0.0.1", 0, ssl=context)
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(LocalError) as caught:
            await client.connect(rig.place(port=port), asking(), rig.key())
        await asyncio.sleep(0.2)
        server.close()
        return caught.value.code

    assert run(work()) is Code.CERTIFICATE_UNBOUND
    assert heard == [b""]


def test_word_of_the_operator__past_its_time__does_not_count(rig: Rig) -> None:
    rig.start()
    with bare(rig.port) as link:
        _, data = take(link)
        shown = link.getpeercert(binary_form=True) or b""
    hello = dataplane.Hello.parse(data)
    operator = str(rig.operator.address)
    hello.check(DOMAIN, operator, shown, hello.expires - 1)
    with pytest.raises(LocalError) as caught:
        hello.check(DOMAIN, operator, shown, hello.expires)
    assert caught.value.code is Code.CERTIFICATE_UNBOUND


def test_something_else_listens_there__said_in_one_line(rig: Rig) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        work = client.connect(rig.place(port=port), asking(), rig_key(rig), seconds=1)
        assert refused(work) is Code.AGENT_UNREACHABLE
    assert (
        refused(client.connect(rig.place(port=port), asking(), rig_key(rig)))
        is Code.AGENT_UNREACHABLE
    )


def rig_key(rig: Rig) -> client.SessionKey:
    return client.session_key(rig.place(port=1), KeySigner(rig.tenant, "test"))


# --------------------------------------------------------------------------- who asks


@pytest.mark.parametrize("what", list(What))
def test_another_tenant__gets_nothing(rig: Rig, what: What) -> None:
    rig.start().serve()
    more: dict[str, Any] = {"mode": "tls"} if what is What.PUBLISH else {}
    for account in (rig.other, Account.create()):
        for prover in (rig.key(account=account), client.Signed(KeySigner(account, "test"))):
            work = client.connect(rig.place(), asking(what, **more), prover)
            assert refused(work) is Code.NOT_TENANT
    assert rig.runner.asked == []


def test_session_key__of_another_lease__gets_nothing(rig: Rig) -> None:
    rig.hold(OTHER)  # of the same tenant
    rig.start().serve()
    assert refused(client.connect(rig.place(), asking(), rig.key(OTHER))) is Code.NOT_TENANT


@pytest.mark.parametrize(
    ("begins", "code"), [(-3600, Code.SIGN_IN_EXPIRED), (90_000, Code.SIGN_IN_EXPIRED)]
)
def test_session_key__past_its_time_or_for_too_long__gets_nothing(
    rig: Rig, begins: int, code: Code
) -> None:
    rig.start().serve()
    key = client.session_key(rig.place(), KeySigner(rig.tenant, "test"), seconds=begins)
    assert refused(client.connect(rig.place(), asking(), key)) is code


def test_session_key__its_delegation_with_another_key__gets_nothing(rig: Rig) -> None:
    """Who has overheard a delegation does not have the key that it names."""
    rig.start().serve()
    real = rig.key()

    class Thief:
        def proof(self, domain: messages.Domain, stream: LeaseStream) -> Proof:
            signature = messages.sign(domain, stream, Account.create())
            named = str(real.account.address)
            return Proof(signature, named, real.expires, real.delegation)

    assert refused(client.connect(rig.place(), asking(), Thief())) is Code.SIGNATURE_INVALID


def test_contract_wallet__its_contract_decides(rig: Rig) -> None:
    wallet = address("wallet", "0x" + "22" * 20)
    rig.start().serve()
    lease = rig.holders.leases[LEASE]
    rig.holders.leases[LEASE] = type(lease)(
        lease.lease, lease.lease_id, wallet, lease.phase, lease.spec
    )

    async def work() -> None:
        stream = await client.connect(rig.place(), asking(), rig.key())
        await stream.close()

    assert refused(work()) is Code.NOT_TENANT
    rig.code[wallet] = bytes.fromhex("1626ba7e") + bytes(28)
    run(work())


def test_replay__of_a_whole_conversation__gets_nothing(rig: Rig) -> None:
    rig.start().serve()
    opened = asking().encoded()
    with bare(rig.port) as link:
        _, hello = take(link)
        proof = proof_for(rig, hello, opened)
        for kind, data in ((Frame.OPEN, opened), (Frame.PROOF, proof)):
            link.sendall(dataplane.frame(kind, data))
        assert take(link)[0] is Frame.READY
    with bare(rig.port) as link:
        take(link)
        for kind, data in ((Frame.OPEN, opened), (Frame.PROOF, proof)):
            link.sendall(dataplane.frame(kind, data))
        kind, data = take(link)
    assert (kind, code_of(data)) == (Frame.REFUSED, "signature_invalid")


def test_request__another_one_than_was_signed__gets_nothing(rig: Rig) -> None:
    rig.hold(said=spec(service(), service("db")))
    rig.start().serve(name="db")
    with bare(rig.port) as link:
        _, hello = take(link)
        proof = proof_for(rig, hello, asking().encoded())
        link.sendall(dataplane.frame(Frame.OPEN, asking(service="db").encoded()))
        link.sendall(dataplane.frame(Frame.PROOF, proof))
        assert code_of(take(link)[1]) == "signature_invalid"


def test_proof__for_one_agent__does_not_serve_at_another(rig: Rig) -> None:
    """A provider that a tenant talks to cannot use what it hears at the tenant's other provider."""
    rig.start().serve()
    opened = asking().encoded()
    false = json.dumps({"certificate": "0x" + "ab" * 32, "nonce": "0x" + "cd" * 32}).encode()
    with bare(rig.port) as link:
        _, hello = take(link)
        given = json.loads(false)
        given["nonce"] = json.loads(hello)["nonce"]  # it can hand the nonce on
        link.sendall(dataplane.frame(Frame.OPEN, opened))
        link.sendall(
            dataplane.frame(Frame.PROOF, proof_for(rig, json.dumps(given).encode(), opened))
        )
        assert code_of(take(link)[1]) == "signature_invalid"


# ------------------------------------------------------------------ which lease, which port


@pytest.mark.parametrize(
    ("phase", "code"), [(Phase.GRACE, Code.LEASE_UNCONFIRMED), (Phase.ENDED, Code.LEASE_OVER)]
)
@pytest.mark.parametrize("what", [What.PORT, What.LOGS, What.SHELL, What.PORTS])
def test_phase__only_confirmed_leases_have_streams(
    rig: Rig, what: What, phase: Phase, code: Code
) -> None:
    rig.start().serve()
    rig.holders.move(LEASE, phase)
    assert refused(client.connect(rig.place(), asking(what), rig.key())) is code
    assert rig.runner.asked == []


def test_lease__unknown(rig: Rig) -> None:
    rig.start()
    lease = bytes([9]) * 32
    work = client.connect(rig.place(lease), asking(lease=lease), rig.key(lease))
    assert refused(work) is Code.LEASE_UNKNOWN


@pytest.mark.parametrize(
    "more", [{"port": 22}, {"port": 0}, {"service": "db"}, {"service": ""}, {"number": 1}]
)
def test_port__that_the_specification_does_not_name(rig: Rig, more: dict[str, Any]) -> None:
    rig.start().serve()
    assert refused(client.connect(rig.place(), asking(**more), rig.key())) is Code.PORT_UNKNOWN
    assert rig.runner.asked == []


def test_runner_fails__its_words_stay_with_the_provider(rig: Rig) -> None:
    rig.start()
    with pytest.raises(RemoteError) as caught:
        run(client.connect(rig.place(), asking(), rig.key()))
    assert caught.value.code is Code.SERVICE_AWAY
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.7.7.7"])
def test_target__this_machine_itself__refused(host: str) -> None:
    """Whatever a runner says: the agent's own ports are not a lease's."""
    with socket.create_server(("0.0.0.0", 0)) as listener:
        port = listener.getsockname()[1]
        ours = socket.gethostbyname(socket.gethostname())
        for place in {host, ours}:
            with pytest.raises(Refused) as caught:
                run(to_container((place, port), 5, local=False))
            assert caught.value.code is Code.SERVICE_AWAY


def test_known_key__is_known_for_its_lease_and_tenant_alone(rig: Rig) -> None:
    """What was found good once does not open another lease, nor the same one for somebody else."""
    rig.hold(OTHER)
    rig.start().serve()
    key = rig.key()
    run(opened(rig, key))
    longer = client.SessionKey(key.account, key.expires + 1, key.delegation)
    assert refused(opened(rig, longer)) is Code.NOT_TENANT
    work = client.connect(rig.place(OTHER), asking(lease=OTHER), key)
    assert refused(work) is Code.NOT_TENANT
    rig.hold(account=rig.other)
    assert refused(opened(rig, key)) is Code.NOT_TENANT


def test_delegate__named_in_a_proof_without_delegation__malformed() -> None:
    said: Callable[..., bytes] = lambda **members: json.dumps(members).encode()  # noqa: E731
    for data in (
        b"{}",
        said(signature="0x"),
        said(signature="0x" + "11" * 65, delegate="0x" + "22" * 20),
        said(signature="zz"),
    ):
        with pytest.raises(LocalError):
            Proof.parse(data)


def test_digests__by_hand() -> None:
    """The types of the signatures are what the specification says, to the byte."""
    types = {
        PlaneCertificate: "address operator,bytes32 certificate,uint64 expires",
        LeaseDelegate: "bytes32 lease,address delegate,uint64 expires",
        LeaseStream: "bytes32 lease,bytes32 certificate,bytes32 nonce,bytes32 request",
    }
    word, number = bytes([7]) * 32, (5).to_bytes(32, "big")
    account = "0x" + "33" * 20
    padded = bytes(12) + bytes([0x33]) * 20
    for made, body in (
        (PlaneCertificate(account, word, 5), padded + word + number),
        (LeaseDelegate(word, account, 5), word + padded + number),
        (LeaseStream(word, word, word, word), word * 4),
    ):
        kind = keccak(text=f"{made.TYPE}({types[type(made)]})")
        assert made.struct_hash() == keccak(kind + body)
