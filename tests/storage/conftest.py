# SPDX-License-Identifier: Apache-2.0
"""An S3 store for all tests: moto's server, in this process, over HTTP."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from moto.server import ThreadedMotoServer

from teraproof.storage.access import Access
from teraproof.storage.limits import Limits
from teraproof.storage.objects import Store
from teraproof.storage.reach import Reach
from teraproof.storage.transfer import open_store
from teraproof.storage.uris import parse
from tests.storage.s3 import KEY_ID, SECRET, TOKEN, Place


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "3")  # lists have pages
        server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        server.start()
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
        server.stop()


@pytest.fixture(scope="session")
def s3_client(s3_endpoint: str) -> Any:
    from boto3.session import Session

    return Session(KEY_ID, SECRET, region_name="us-east-1").client("s3", endpoint_url=s3_endpoint)


@pytest.fixture
def s3(s3_endpoint: str, s3_client: Any) -> Iterator[Place]:
    """A fresh bucket."""
    access = Access(KEY_ID, SECRET, TOKEN, endpoint=parse(s3_endpoint))
    bucket = f"bucket-{uuid4()}"
    s3_client.create_bucket(Bucket=bucket)
    place = Place(f"s3://{bucket}", access, s3_client, bucket)
    yield place
    place.close()


@pytest.fixture(params=["file", "s3"])
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    """A prefix in either kind of store that can list."""
    if request.param == "s3":
        yield request.getfixturevalue("s3").open("some/prefix")
        return
    place = request.getfixturevalue("tmp_path") / "destination"
    found = open_store(parse(f"file://{place}"), Reach.own(), Limits())
    yield found
    found.close()
