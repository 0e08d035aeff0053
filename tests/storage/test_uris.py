# SPDX-License-Identifier: Apache-2.0
"""What a URI may look like, how it is shown, and credentials, which stand in none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from teraproof.errors import LocalError
from teraproof.protocol.errors import Code
from teraproof.storage.access import Access
from teraproof.storage.uris import MAX_URI, parse


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://example.org/a/b", "https://example.org/a/b"),
        ("HTTPS://Example.ORG", "https://example.org/"),
        ("https://example.org:8443/a?key=hush", "https://example.org:8443/a?..."),
        ("http://[::1]:9000/a%20b", "http://[::1]:9000/a%20b"),
        ("s3://my-bucket/a/b c", "s3://my-bucket/a/b c"),
        ("s3://my-bucket", "s3://my-bucket/"),
        ("s3://my-bucket/run/", "s3://my-bucket/run"),
        ("file:///a/b%20c", "file:///a/b c"),
    ],
)
def test_valid__is_shown_without_what_may_be_secret(text: str, shown: str) -> None:
    assert str(parse(text)) == shown
    assert "hush" not in repr(parse(text))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hush",
        "/etc/hush",
        "ftp://example.org/hush",
        "javascript://hush",
        "https://",
        "https:///hush",
        "https://user:hush@example.org/a",
        "https://hush@example.org/a",
        "https://example.org/#hush",
        "https://example.org/a hush",
        "https://example.org/\nhush",
        "https://example.org/\\hush",
        "https://exämple.org/hush",
        "https://exa mple.org/hush",
        "https://example.org:0/hush",
        "https://example.org:99999/hush",
        "https://example.org:hush/",
        "https://[hush/",
        "https://-hush.org/",
        "https://example.org/" + "hush" * MAX_URI,
        "s3://",
        "s3:///hush",
        "s3://A/hush",
        "s3://bu/hush",
        "s3://my..bucket/hush",
        "s3://my-bucket/a/../hush",
        "s3://my-bucket/a?hush",
        "s3://my-bucket/a\x00hush",
        "s3://my-bucket/\ud800hush",
        "s3://my-bucket/" + "hush" * 300,
        "s3://id:hush@bucket/a",
        "file://elsewhere/hush",
        "file:hush",
        "file:///a?hush",
        "file:///a%00hush",
    ],
)
def test_invalid__one_line_that_repeats_nothing(text: str) -> None:
    with pytest.raises(LocalError) as caught:
        parse(text)
    assert caught.value.code == Code.URI_INVALID
    assert "hush" not in str(caught.value) and "\n" not in str(caught.value)


def test_access__from_a_file_that_is_its_users_alone(tmp_path: Path) -> None:
    file = tmp_path / "access.json"
    given = {"key_id": "KEY-HUSH", "secret": "SECRET-HUSH", "endpoint": "https://s3.example.org"}
    file.write_text(json.dumps(given))
    file.chmod(0o600)
    access = Access.of_file(file)
    assert (access.key_id, access.secret, access.region) == ("KEY-HUSH", "SECRET-HUSH", "us-east-1")
    assert str(access.endpoint) == "https://s3.example.org/"
    assert "HUSH" not in repr(access)
    file.chmod(0o644)
    with pytest.raises(LocalError, match="chmod 600") as caught:
        Access.of_file(file)
    assert caught.value.code == Code.INPUT_INVALID


@pytest.mark.parametrize(
    "text",
    [
        "hush",
        "[" * 5000,
        '["hush"]',
        '{"key_id": 1}',
        '{"key_id": "hush"}',
        '{"secret": "hush"}',
        '{"password": "hush"}',
        '{"hush": "x"}',
        '{"key_id": "a", "secret": "hush hush"}',
        '{"endpoint": "s3://hush"}',
        '{"endpoint": "https://user:hush@example.org"}',
    ],
)
def test_access__that_is_wrong__one_line_that_repeats_nothing(text: str, tmp_path: Path) -> None:
    file = tmp_path / "access.json"
    file.write_text(text)
    file.chmod(0o600)
    with pytest.raises(LocalError) as caught:
        Access.of_file(file)
    assert caught.value.code == Code.INPUT_INVALID
    assert "hush" not in str(caught.value) and "\n" not in str(caught.value)


def test_access__from_the_environment() -> None:
    found = Access.of_environment(
        {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "eu-west-1"}
    )
    assert (found.key_id, found.secret, found.region, found.endpoint) == (
        "a",
        "b",
        "eu-west-1",
        None,
    )
    assert Access.of_environment({}) == Access()
    with pytest.raises(LocalError, match="belong together"):
        Access.of_environment({"AWS_ACCESS_KEY_ID": "a"})
