# SPDX-License-Identifier: Apache-2.0
"""Who gets nothing through the data plane, and what strangers can cost."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import socket
import ssl
import struct
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

HEAD = struct.Struct(">BI")


def refused(work: Any) -> Code:
    """The code of what an attempt is refused with."""
    with pytest.raises(LocalError) as caught:
        run(work)
    return caught.value.code


def take(link: ssl.SSLSocket) -> tuple[Frame, bytes]:
    """A frame from a bare connection."""
    head = b""
    while len(head) < HEAD.size:
        piece = link.recv(HEAD.size - len(head))
        if not piece:
            raise EOFError
        head += piece
    kind, size = HEAD.unpack(head)
    data = b""
    while len(data) < size:
        data += link.recv(size - len(data))
    return Frame(kind), data


def code_of(data: bytes) -> str:
    return str(json.loads(data)["error"]["code"])


def proof_for(rig: Rig, hello: bytes, opened: bytes, lease: bytes = LEASE) -> bytes:
    found = json.loads(hello)
    stream = LeaseStream(
        lease,
        bytes.fromhex(found["certificate"][2:]),
        bytes.fromhex(found["nonce"][2:]),
        hashlib.sha256(opened).digest(),
    )
    return rig.key(lease).proof(DOMAIN, stream).encoded()


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


# --------------------------------------------------------------------------- strangers


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xff" * 5_000,
        dataplane.frame(Frame.KEEP) * 3,
        dataplane.frame(Frame.OPEN, b"[]") + dataplane.frame(Frame.PROOF, b"{}"),
        dataplane.frame(Frame.OPEN, b"{" * 60_000) + dataplane.frame(Frame.PROOF, b"{}"),
        dataplane.frame(Frame.OPEN, asking().encoded()) + dataplane.frame(Frame.PROOF, b"{}"),
        HEAD.pack(Frame.OPEN, 2**32 - 1),
        HEAD.pack(77, 1),
    ],
    ids=range(9),
)
def test_nonsense__ends_the_connection_and_nothing_else(rig: Rig, sent: bytes) -> None:
    rig.start(opening_seconds=1).serve()
    with contextlib.suppress(OSError), bare(rig.port) as link:
        take(link)
        link.sendall(sent)
        with contextlib.suppress(EOFError):
            kind, data = take(link)
            assert kind is Frame.REFUSED
            assert code_of(data) in ("field_invalid", "body_invalid", "bad_request")
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", rig.port)) as plain:
        plain.sendall(sent)
    opens(rig)


def test_tls__older_than_1_3__refused(rig: Rig) -> None:
    rig.start()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with socket.create_connection(("127.0.0.1", rig.port)) as link, pytest.raises(OSError):
        context.wrap_socket(link)


def test_alpn__another_protocol__nothing_is_said(rig: Rig) -> None:
    rig.start()
    for name in (None, "http/1.1"):
        with contextlib.suppress(OSError), bare(rig.port, name) as link:
            assert link.recv(100) == b""


def opens(rig: Rig) -> None:
    """A tenant gets a stream."""

    async def work() -> None:
        stream = await client.connect(rig.place(), asking(), rig.key())
        await stream.write(b"x")
        assert (await stream.read())[1] == b"x"
        await stream.close()

    run(work())


@pytest.mark.parametrize("wait", ["before TLS", "after TLS"])
def test_flood__of_connections_that_say_nothing__tenants_get_in(rig: Rig, wait: str) -> None:
    rig.start(connections=24, connections_per_address=24).serve()
    held: list[Any] = []
    with contextlib.ExitStack() as stack:
        for _ in range(60):
            with contextlib.suppress(OSError):
                link: Any = (
                    bare(rig.port)
                    if wait == "after TLS"
                    else socket.create_connection(("127.0.0.1", rig.port))
                )
                held.append(stack.enter_context(link))
        assert len(held) > 24
        opens(rig)


def test_flood__of_one_lease__others_get_in(rig: Rig) -> None:
    rig.start(streams_per_lease=8).serve()
    rig.serve(lease=OTHER)

    async def work() -> None:
        streams = [await client.connect(rig.place(), asking(), rig.key()) for _ in range(8)]
        with pytest.raises(RemoteError) as caught:
            await client.connect(rig.place(), asking(), rig.key())
        assert caught.value.code is Code.RATE_LIMITED
        key = rig.key(OTHER, rig.other)
        other = await client.connect(rig.place(OTHER), asking(lease=OTHER), key)
        await other.write(b"x")
        assert (await other.read())[1] == b"x"
        for stream in (other, *streams):
            await stream.close()

    run(work())


def test_flood__of_logs_and_shells__bounded_for_one_and_for_all(rig: Rig) -> None:
    rig.start(programs_per_lease=2, programs=3)
    wanted = asking(What.LOGS, follow=True)

    async def work() -> list[Code]:
        opened = [await client.connect(rig.place(), wanted, rig.key()) for _ in range(2)]
        found = []
        with pytest.raises(RemoteError) as caught:
            await client.connect(rig.place(), asking(What.SHELL), rig.key())
        found.append(caught.value.code)
        key, place = rig.key(OTHER, rig.other), rig.place(OTHER)
        theirs = asking(What.LOGS, lease=OTHER, follow=True)
        opened.append(await client.connect(place, theirs, key))
        with pytest.raises(RemoteError) as caught:
            await client.connect(place, theirs, key)
        found.append(caught.value.code)
        for stream in opened:
            await stream.close()
        return found

    assert run(work()) == [Code.RATE_LIMITED, Code.SERVER_BUSY]
    assert all(output.closed.wait(10) for output in rig.runner.outputs)


def test_proofs__of_keys_that_nobody_knows__counted__and_known_keys_go_on(rig: Rig) -> None:
    rig.start(keys_per_minute=2).serve()
    known = rig.key()
    run(opened(rig, known))

    async def work() -> None:
        stranger = rig.key(account=rig.other)
        for _ in range(2):
            with contextlib.suppress(LocalError):
                await client.connect(rig.place(), asking(), stranger)
        await client.connect(rig.place(), asking(), stranger)

    assert refused(work()) is Code.RATE_LIMITED
    run(opened(rig, known))


async def opened(rig: Rig, key: client.SessionKey) -> None:
    stream = await client.connect(rig.place(), asking(), key)
    await stream.close()


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


def test_tenant__silent_and_gone__its_stream_ends(rig: Rig) -> None:
    rig.start(idle_seconds=0.3).serve()
    opened = asking().encoded()
    with bare(rig.port) as link:
        _, hello = take(link)
        link.sendall(dataplane.frame(Frame.OPEN, opened))
        link.sendall(dataplane.frame(Frame.PROOF, proof_for(rig, hello, opened)))
        assert take(link)[0] is Frame.READY
        assert link.recv(1) == b""  # no KEEP came from here


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
