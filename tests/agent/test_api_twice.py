# SPDX-License-Identifier: Apache-2.0
"""Answers get lost. Each request that makes something is sent again, and nothing is made twice."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from provider_agent.http.limits import ApiLimits
from teraproof.client.jobs import AgentClient
from teraproof.protocol.errors import Code
from tests.agent.api_rig import JOBS, TENANT, Rig, make_spec, serve
from tests.support.codes import fails_as

FILES = {"main.py": b"print(1)\n"}


class Lossy(httpx.HTTPTransport):
    """Delivers each request, and loses the answer to the first one of each method and path."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, str]] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        answer = super().handle_request(request)
        what = (request.method, request.url.path)
        self.seen.append(what)
        if self.seen.count(what) == 1:
            answer.read()
            answer.close()
            raise httpx.ReadError("the connection broke")
        return answer


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with serve(Rig(tmp_path, ApiLimits(specs_per_account=1))) as running:
        yield running


@pytest.fixture
def client(rig: Rig) -> Iterator[AgentClient]:
    with rig.client(transport=Lossy()) as made:
        yield made


def test_sign_in__answer_lost__signed_in_all_the_same(rig: Rig, client: AgentClient) -> None:
    client.login()
    assert len(rig.store.sessions) == 2  # nobody has the token of the first one


def test_sign_in__nonce_never_known__one_more_try_and_an_error(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def consume(value: str, now: int) -> bool:
        asked.append(value)
        return False

    monkeypatch.setattr(rig.store, "consume_nonce", consume)
    with rig.client() as client, fails_as(Code.NONCE_UNKNOWN):
        client.login()
    assert len(asked) == len(set(asked)) == 2


def test_specification_input_and_quote__answers_lost__each_there_once(
    rig: Rig, client: AgentClient, tmp_path: Path
) -> None:
    (tmp_path / "main.py").write_bytes(FILES["main.py"])
    spec = make_spec(FILES)
    client.upload(spec, tmp_path)
    assert list(rig.store.specs) == [spec.digest()]
    assert rig.inputs.used(TENANT.address) == (len(FILES["main.py"]), 1)
    quote, _ = client.quote(spec, JOBS)
    assert quote.spec == spec.digest()


@pytest.mark.parametrize("times", [2, 3])
def test_put__again__there_already(rig: Rig, times: int) -> None:
    with rig.client() as client:
        client.login()
        headers = {"authorization": f"Bearer {client._http._token}"}
    body = make_spec(FILES).canonical()
    for kind, data in (("specs", body), ("inputs", FILES["main.py"])):
        url = f"{rig.url}/v1/{kind}/{hashlib.sha256(data).hexdigest()}"
        with httpx.Client(trust_env=False) as http:
            answers = [http.put(url, content=data, headers=headers) for _ in range(times)]
        assert [answer.status_code for answer in answers] == [201] + [200] * (times - 1)
        assert len({answer.text for answer in answers}) == 1
