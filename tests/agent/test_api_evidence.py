# SPDX-License-Identifier: Apache-2.0
"""Evidence: for jurors who were drawn, in their time, and no more than they need to judge."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount

from provider_agent.modules.jobs.evidence import EvidenceDesk
from teraproof.errors import SpecError
from teraproof.protocol import jobspec
from teraproof.protocol.digests import result_digest, vote_seal
from teraproof.protocol.errors import Code
from tests.agent.api_rig import (
    JOB_ID,
    ORIGIN,
    STRANGER,
    TENANT,
    Rig,
    code_of,
    http,
    make_spec,
    seals,
    serve,
)
from tests.support.codes import fails_as

JUROR: LocalAccount = Account.from_key(b"\x77" * 32)
INPUT = b"print(1)" * 1000
FILES = {"w.npy": b"0123456789", "m.json": b"1"}
OTHER_JOB = b"\x09" * 32
UNTIL = 1_000


@dataclass
class Court:
    """A desk over the rig's own jobs and files."""

    rig: Rig
    spec: jobspec.JobSpec
    now: int = UNTIL
    drawn: dict[tuple[bytes, str], int] = field(
        default_factory=lambda: {(JOB_ID, JUROR.address): UNTIL}
    )

    def desk(self) -> EvidenceDesk:
        rig = self.rig

        def job(job_id: bytes) -> Any:
            found = rig.jobs.get(job_id)
            if found is None:
                return None
            return SimpleNamespace(requester=found.requester, spec=self.spec.digest())

        def kept(job_id: bytes) -> Any:
            view = rig.jobs[job_id]
            assert view.manifest is not None
            seal = seals(view.manifest.read_bytes())[0]
            return SimpleNamespace(manifest_file=view.manifest, files=view.results, seal=seal)

        book: Any = SimpleNamespace(store=SimpleNamespace(job=job), spec_named=lambda _: self.spec)
        results: Any = SimpleNamespace(get=kept)
        inputs: Any = SimpleNamespace(path=lambda *named: rig.inputs.path(*named))
        return EvidenceDesk(
            book,
            results,
            inputs,
            lambda: self.now,
            lambda job_id, account: self.drawn.get((job_id, account)),
        )


def court(tmp_path: Path, rule: dict[str, str] | None) -> Court:
    rig = Rig(tmp_path)
    document = make_spec({"job.py": INPUT}).to_json() | {"deterministic": True}
    if rule is not None:
        document["compare"] = rule
    made = Court(rig, jobspec.parse(jobspec.canonical(document)))
    rig.evidence = made.desk()
    return made


@pytest.fixture(params=["exact", "numeric", None])
def held(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Court]:
    rules: dict[str | None, Any] = {
        "exact": {"rule": "exact"},
        "numeric": {"rule": "numeric", "rtol": "1e-5", "atol": "0"},
        None: None,
    }
    made = court(tmp_path, rules[request.param])
    with serve(made.rig):
        made.rig.add_result(FILES)
        with made.rig.inputs.receive(TENANT.address, sha256(INPUT), len(INPUT)) as upload:
            upload.write(INPUT)
            upload.finish()
        yield made


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def get(
    held: Court,
    path: str,
    account: LocalAccount | None = JUROR,
    job_id: bytes = JOB_ID,
    **headers: str,
) -> httpx.Response:
    if account is not None:
        with held.rig.client(account) as client:
            client.login()
            headers["authorization"] = f"Bearer {client._http._token}"
    return http.get(f"{held.rig.url}/v1/jobs/0x{job_id.hex()}{path}", headers=headers)


ALL = ("/evidence/spec", f"/evidence/inputs/{sha256(INPUT)}", "/evidence/result")
EVERY = (*ALL, "/evidence/result/w.npy")


def test_juror__specification_and_inputs__whole_and_in_parts(held: Court) -> None:
    answer = get(held, "/evidence/spec")
    assert jobspec.parse_named(answer.content, held.spec.digest()) == held.spec
    answer = get(held, ALL[1])
    assert (answer.status_code, answer.content) == (200, INPUT)
    part = get(held, ALL[1], range="bytes=7000-")
    assert (part.status_code, part.content) == (206, INPUT[7000:])
    assert code_of(get(held, f"/evidence/inputs/{'0' * 64}")) is Code.FILE_UNKNOWN


def test_juror__result__only_where_numbers_are_compared(held: Court) -> None:
    """By the rule of equal bytes a juror runs the job: shown the result, it need not."""
    listed, file = get(held, "/evidence/result"), get(held, "/evidence/result/w.npy")
    numeric = held.spec.compare is not None and held.spec.compare.rule == "numeric"
    if not numeric:
        assert (code_of(listed), code_of(file)) == (Code.NOT_REQUESTER, Code.NOT_REQUESTER)
        return
    manifest = held.rig.jobs[JOB_ID].manifest
    assert manifest is not None and listed.content == manifest.read_bytes()
    assert file.content == FILES["w.npy"]
    assert code_of(get(held, "/evidence/result/none")) is Code.FILE_UNKNOWN


@pytest.mark.parametrize("account", [TENANT, STRANGER])
def test_not_drawn__nothing_of_it(held: Court, account: LocalAccount) -> None:
    for path in EVERY:
        answer = get(held, path, account)
        assert (answer.status_code, code_of(answer)) == (403, Code.NOT_DRAWN)
        unknown = get(held, path, account, OTHER_JOB)
        assert unknown.json() == answer.json(), "whether there is such a job is not shown"


def test_no_session__nothing_of_it(held: Court) -> None:
    for path in EVERY:
        assert code_of(get(held, path, None)) is Code.SESSION_REQUIRED


def test_time_of_the_jurors_is_over__nothing_more(held: Court) -> None:
    assert get(held, "/evidence/spec").status_code == 200
    held.now = UNTIL + 1
    for path in EVERY:
        assert code_of(get(held, path)) is Code.NOT_DRAWN
    held.now = 0  # the chain's time is not known yet
    assert code_of(get(held, "/evidence/spec")) is Code.NOT_DRAWN


def test_juror_of_one_job__nothing_of_another(held: Court) -> None:
    held.rig.add_result({"other": b"secret"}, OTHER_JOB)
    for path in EVERY:
        assert code_of(get(held, path, job_id=OTHER_JOB)) is Code.NOT_DRAWN


def test_juror__is_not_the_requester(held: Court) -> None:
    """What only the requester sees, and the result whole, stays its own."""
    for path in ("", "/receipt", "/logs", "/result", "/result.tar", "/result/w.npy"):
        assert code_of(get(held, path)) is Code.NOT_REQUESTER


def test_juror__job_or_input_that_is_gone__said(held: Court) -> None:
    held.drawn[(OTHER_JOB, JUROR.address)] = UNTIL
    assert code_of(get(held, "/evidence/spec", job_id=OTHER_JOB)) is Code.JOB_UNKNOWN
    held.rig.inputs.remove(TENANT.address, sha256(INPUT))
    assert code_of(get(held, ALL[1])) is Code.INPUT_MISSING


def test_fetch_inputs__by_the_client__verified_and_resumed(held: Court, tmp_path: Path) -> None:
    place = tmp_path / "fetched"
    with held.rig.client(JUROR) as client:
        spec = client.fetch_spec(JOB_ID, held.spec.digest())
        assert spec == held.spec
        client.fetch_inputs(JOB_ID, spec, place, len(INPUT))
        assert [(path.name, path.read_bytes()) for path in place.iterdir()] == [
            (sha256(INPUT), INPUT)
        ]
        (place / sha256(INPUT)).write_bytes(b"changed meanwhile")
        client.fetch_inputs(JOB_ID, spec, place, len(INPUT))
        assert (place / sha256(INPUT)).read_bytes() == INPUT


def test_fetch_inputs__more_than_allowed_or_another_job__nothing_written(
    held: Court, tmp_path: Path
) -> None:
    place = tmp_path / "fetched"
    with held.rig.client(JUROR) as client:
        with fails_as(Code.LIMIT_EXCEEDED):
            client.fetch_inputs(JOB_ID, held.spec, place, len(INPUT) - 1)
        with pytest.raises(SpecError, match="differs from its name"):
            client.fetch_spec(JOB_ID, bytes(32))
    with held.rig.client(STRANGER) as client, fails_as(Code.NOT_DRAWN):
        client.fetch_inputs(JOB_ID, held.spec, place, len(INPUT))
    assert not place.exists()


def test_fetch_result__as_a_juror__where_it_may(held: Court, tmp_path: Path) -> None:
    view = held.rig.jobs[JOB_ID]
    assert view.manifest is not None
    listing = view.manifest.read_bytes()
    digest, target = result_digest(listing, ORIGIN), tmp_path / "theirs"
    numeric = held.spec.compare is not None and held.spec.compare.rule == "numeric"
    with held.rig.client(JUROR) as client:
        if not numeric:
            for wrong in (None, bytes(32), vote_seal(listing, ORIGIN, 0)):
                with fails_as(Code.NOT_REQUESTER):
                    client.fetch_result(ORIGIN, target, digest, as_juror=True, seal=wrong)
            # Who has run the job sees whether the result is served.
            seal = vote_seal(listing, ORIGIN, 2)
            assert client.fetch_result(ORIGIN, target, digest, as_juror=True, seal=seal)
            return
        listed = client.fetch_result(ORIGIN, target, digest, as_juror=True)
        with fails_as(Code.NOT_REQUESTER):
            client.fetch_result(ORIGIN, tmp_path / "other", digest)
    assert {entry.path for entry in listed} == set(FILES)


def test_failure__shown_to_jurors__it_cannot_be_guessed(held: Court, tmp_path: Path) -> None:
    """A juror whose own run fails must see what was attested: the file has a salt."""
    held.rig.add_result({"failure.json": b'{"exit_code":3,"reason":"exited","salt":"00"}'})
    view = held.rig.jobs[JOB_ID]
    assert view.manifest is not None
    digest = result_digest(view.manifest.read_bytes(), ORIGIN)
    with held.rig.client(JUROR) as client:
        listed = client.fetch_result(ORIGIN, tmp_path / "theirs", digest, as_juror=True)
    assert "failure.json" in {entry.path for entry in listed}
    with held.rig.client(STRANGER) as client, fails_as(Code.NOT_DRAWN):
        client.fetch_result(ORIGIN, tmp_path / "other", digest, as_juror=True)
