# SPDX-License-Identifier: Apache-2.0
import hashlib
import json
import os
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teraproof.errors import LocalError
from teraproof.protocol import digests
from teraproof.protocol.digests import Entry


def test_file_digest__content__is_its_sha256(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"x" * 3_000_000)
    assert digests.file_digest(path) == hashlib.sha256(b"x" * 3_000_000).digest()


def test_manifest__tree__sorted_canonical_files(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "z").write_bytes(b"zz")
    (tmp_path / "b.txt").write_bytes(b"")
    (tmp_path / "é").write_bytes(b"e")
    (tmp_path / "empty").mkdir()
    data = digests.manifest(tmp_path)
    listed = json.loads(data)
    # "." sorts before "/": the whole path counts, not its parts.
    assert [item["path"] for item in listed] == ["b.txt", "b/z", "é"]
    assert listed[1] == {"path": "b/z", "sha256": hashlib.sha256(b"zz").hexdigest(), "size": 2}
    assert digests.directory_digest(tmp_path) == hashlib.sha256(data).digest()
    assert digests.parse_manifest(data) == digests.entries(tmp_path)


def test_manifest__modes_and_times__do_not_count(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"a")
    before = digests.directory_digest(tmp_path)
    path.chmod(0o755)
    os.utime(path, (1, 1))
    assert digests.directory_digest(tmp_path) == before


def test_manifest__symlink__refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(LocalError, match="link: a link or special file"):
        digests.manifest(tree)
    with pytest.raises(LocalError, match="link or special file"):
        digests.file_digest(tree / "link")


def test_manifest__symlinked_directory__refused(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "up").symlink_to(tmp_path, target_is_directory=True)
    with pytest.raises(LocalError, match="up: a link"):
        digests.manifest(tree)
    with pytest.raises(LocalError, match="not a directory"):
        digests.manifest(tree / "up")


def test_manifest__pipe_or_socket__refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(LocalError, match="pipe: not a regular file"):
        digests.manifest(tmp_path)
    (tmp_path / "pipe").unlink()
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "sock"))
        with pytest.raises(LocalError, match="sock: a link or special file"):
            digests.manifest(tmp_path)


def test_manifest__name_not_utf8__refused(tmp_path: Path) -> None:
    with open(os.fsencode(tmp_path) + b"/\xff", "wb"):
        pass
    with pytest.raises(LocalError, match="control character"):
        digests.manifest(tmp_path)


def test_manifest__too_deep__refused(tmp_path: Path) -> None:
    deep = tmp_path
    for _ in range(40):
        deep = deep / "d"
    deep.mkdir(parents=True)
    with pytest.raises(LocalError, match="more than 32 parts"):
        digests.manifest(tmp_path)


def test_manifest__too_many_files__refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests, "MAX_FILES", 2)
    for name in "abc":
        (tmp_path / name).touch()
    with pytest.raises(LocalError, match="more than 2 files"):
        digests.manifest(tmp_path)


def test_digest__missing__one_line(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match="no such file"):
        digests.file_digest(tmp_path / "none")
    with pytest.raises(LocalError, match="not a directory"):
        digests.directory_digest(tmp_path / "none")


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/etc/passwd",
        "..",
        "a/../b",
        "./a",
        "a//b",
        "a/",
        "a\\b",
        "a\x00",
        "a\nb",
        "a\u202eb",
        "e\u0301",
        "a" * 256,
        "/".join("a" * 33),
        "ab/" * 400 + "c",
        None,
        7,
    ],
)
def test_check_path__unclean__refused(path: object) -> None:
    with pytest.raises(LocalError, match="path"):
        digests.check_path(path)


@pytest.mark.parametrize("path", ["a", "a/b.c", "...", "..a", "-rf", "é/ü", "a b"])
def test_check_path__clean__returned(path: str) -> None:
    assert digests.check_path(path) == path


@given(st.text(max_size=40))
def test_check_path__accepted__stays_inside(path: str) -> None:
    try:
        digests.check_path(path)
    except LocalError:
        return
    assert os.path.normpath(path) == path
    assert not path.startswith(("/", "../"))
    assert path != ".."


GOOD = Entry("a/b", 1, "0" * 64)


def test_parse_manifest__good__reads_back() -> None:
    listed = [GOOD, Entry("a/c", 0, "f" * 64)]
    assert digests.parse_manifest(digests.encode_manifest(listed)) == listed
    assert digests.parse_manifest(b"[]") == []


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (b"", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"{}", "expected a list"),
        (b"[1]", r"manifest\[0\]: expected path"),
        (digests.encode_manifest([GOOD]) + b"\n", "not in canonical form"),
        (digests.encode_manifest([GOOD, GOOD]), "named twice"),
        (digests.encode_manifest([GOOD, Entry("a", 1, "0" * 64)]), "stands above"),
        (digests.encode_manifest([Entry("../a", 1, "0" * 64)]), r"manifest\[0\]\.path"),
        (digests.encode_manifest([Entry("a", -1, "0" * 64)]), r"manifest\[0\]\.size"),
        (digests.encode_manifest([Entry("a", True, "0" * 64)]), r"manifest\[0\]\.size"),
        (digests.encode_manifest([Entry("a", 1, "F" * 64)]), r"manifest\[0\]\.sha256"),
        (b'[{"path":"a","path":"a","sha256":"' + b"0" * 64 + b'","size":1}]', "canonical"),
    ],
    ids=lambda value: ascii(value)[:24],
)
def test_parse_manifest__hostile__refused(data: bytes, line: str) -> None:
    with pytest.raises(LocalError, match=line):
        digests.parse_manifest(data)


def test_open_beneath__file__readable(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "f").write_bytes(b"data")
    with digests.open_beneath(tmp_path, "d/f") as fd:
        assert os.read(fd, 10) == b"data"


def test_open_beneath__link_on_the_way__refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "f").touch()
    (tmp_path / "d").symlink_to("real")
    with pytest.raises(LocalError, match="not a directory"), digests.open_beneath(tmp_path, "d/f"):
        pass
    with pytest.raises(FileNotFoundError), digests.open_beneath(tmp_path, "real/none"):
        pass
    with pytest.raises(LocalError, match=r"'\.\.'"), digests.open_beneath(tmp_path, "../x"):
        pass


def test_open_beneath__many_failures__leak_no_descriptor(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(50):
        with pytest.raises(FileNotFoundError), digests.open_beneath(tmp_path, "d/none"):
            pass
    assert len(os.listdir("/proc/self/fd")) == before
