# SPDX-License-Identifier: Apache-2.0
"""The running API against its own OpenAPI document: schemathesis is the client.

It sends what the document allows and what it forbids, other methods, and requests without a
session. It compares statuses, headers, media types and bodies with what the document says.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import jsonschema
import pytest

from provider_agent.http.limits import ApiLimits
from provider_agent.modules.jobs.documents import JobView
from tests.agent.api_rig import JOB_ID, TENANT, Rig, http, make_spec, serve
from tests.support import budget

HERE = Path(__file__).resolve().parent
EXAMPLES = budget.of(5, 10)  # of each operation


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    # The limits of strangers would answer most of what is sent here.
    limits = ApiLimits(
        auth_burst=10**6,
        specs_per_minute=10**6,
        new_connections_per_second=10**4,
        requests_per_second=10**4,
    )
    with serve(Rig(tmp_path, limits)) as running:
        running.last_cycle = time.monotonic() + 3_600  # ready as long as this takes
        (log := tmp_path / "log").write_text("one line\n")
        running.jobs[JOB_ID] = JobView(TENANT.address, {"status": "OPEN"}, receipt=b"{}", log=log)
        running.add_result({"a": b"123", "b/c": b""})
        yield running


def session(rig: Rig) -> str:
    with rig.client() as tenant:
        tenant.login()
        return f"Bearer {tenant._http._token}"


def schemathesis(
    rig: Rig, folder: Path, *options: str, parameters: Mapping[str, str] | None = None
) -> None:
    """Let it loose on the API, with fixed values of some parameters."""
    given = "".join(f'"{name}" = "{value}"\n' for name, value in (parameters or {}).items())
    config = folder / "schemathesis.toml"
    config.write_text((HERE / "schemathesis.toml").read_text() + "\n[parameters]\n" + given)
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(config), "run"]
    command += [f"{rig.url}/v1/openapi.json", "--max-examples", str(EXAMPLES), "--no-color"]
    command += ["--header", f"Authorization: {session(rig)}", *options]
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "NO_PROXY": "*"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8_000:] + done.stderr[-2_000:]


@pytest.mark.slow
def test_api__does_what_its_document_says(rig: Rig, tmp_path: Path) -> None:
    schemathesis(rig, tmp_path, "--phases", "coverage,fuzzing")


@pytest.mark.slow
def test_api__of_what_is_there__does_what_its_document_says(rig: Rig, tmp_path: Path) -> None:
    spec = make_spec({})
    with rig.client() as tenant:
        tenant.upload_spec(spec)
    fixed = {
        "path.job_id": "0x" + JOB_ID.hex(),
        "path.path": "a",
        "path.sha256": spec.digest().hex(),
    }
    places = ("--include-path-regex", "^/v1/(jobs|specs|provider)")
    schemathesis(rig, tmp_path, "--phases", "fuzzing", *places, parameters=fixed)


def test_quote__as_the_document_says(rig: Rig) -> None:
    document = http.get(rig.url + "/v1/openapi.json").json()
    found = document["paths"]["/v1/quotes"]["post"]["responses"]["200"]
    schema = found["content"]["application/json"]["schema"]
    spec = make_spec({})
    with rig.client() as tenant:
        tenant.upload_spec(spec)
    answer = http.post(
        rig.url + "/v1/quotes",
        json={"spec": spec.digest().hex()},
        headers={"authorization": session(rig)},
    )
    jsonschema.validate(answer.json(), schema)
    assert set(answer.json()["quote"]) == set(schema["properties"]["quote"]["required"])


def test_document__is_openapi_3_1_and_names_every_route(rig: Rig) -> None:
    document = http.get(rig.url + "/v1/openapi.json").json()
    assert document["openapi"] == "3.1.0"
    assert "get" in document["paths"]["/v1/openapi.json"]
    for methods in document["paths"].values():
        for operation in methods.values():
            for parameter in operation["parameters"]:
                jsonschema.Draft202012Validator.check_schema(parameter["schema"])
            for answer in operation["responses"].values():
                for content in answer.get("content", {}).values():
                    jsonschema.Draft202012Validator.check_schema(content["schema"])


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        (f"/v1/specs/{'0' * 64}", {"HEAD", "PUT"}),
        (f"/v1/inputs/{'0' * 64}", {"HEAD", "PUT"}),
        ("/v1/auth/login", {"POST"}),
        ("/v1/provider", {"GET", "HEAD"}),
    ],
)
def test_other_method__the_answer_names_all_that_there_are(
    rig: Rig, path: str, methods: set[str]
) -> None:
    answer = http.request("DELETE", rig.url + path)
    assert answer.status_code == 405
    assert {name.strip() for name in answer.headers["allow"].split(",")} == methods


def test_head__of_a_result__its_length_and_no_file_read(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.add_result({"a": bytes(2 << 20)})
    headers = {"authorization": session(rig)}
    pread, read = os.pread, [0]

    def counting(fd: int, size: int, offset: int) -> bytes:
        data = pread(fd, size, offset)
        read[0] += len(data)
        return data

    monkeypatch.setattr(os, "pread", counting)
    for path in ("/result/a", "/result", "/result.tar"):
        url = f"{rig.url}/v1/jobs/0x{JOB_ID.hex()}{path}"
        read[0] = 0
        answer = http.head(url, headers=headers)
        assert (answer.status_code, answer.content) == (200, b"")
        assert read[0] < 1 << 20  # the list of files at most
        whole = http.get(url, headers=headers)
        assert answer.headers["content-length"] == str(len(whole.content))
