# SPDX-License-Identifier: Apache-2.0
"""YAML is read in one way alone, and within bounds: what would make two readings is refused."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import yaml

from teraproof.sdl import tree
from teraproof.sdl.faults import Book, Fault
from teraproof.sdl.leases import examine
from teraproof.sdl.tree import Entries, Items, Text
from tests.support.sdl import FULL, SMALL, changed


def read(text: str | bytes) -> tuple[tree.Node | None, list[Fault]]:
    book = Book()
    node = tree.read(text if isinstance(text, bytes) else text.encode(), book)
    return node, list(book.faults)


@pytest.mark.parametrize(
    ("text", "line", "column", "reason"),
    [
        ("", 1, 1, "empty"),
        ("# only\n", 1, 1, "empty"),
        ("a: b\n---\nc: d\n", 2, 1, "second document"),
        ("%YAML 1.1\n---\na: b\n", 1, 1, "directives"),
        ("%TAG ! x,2026:\n---\na: b\n", 1, 1, "directives"),
        ("a: &x b\nc: *x\n", 1, 4, "anchors"),
        ("a: &x b\nc: *x\n", 2, 4, "aliases"),
        ("a: !!int 5\n", 1, 4, "tags"),
        ("a: !own {b: c}\n", 1, 4, "tags"),
        ("a: !!python/object/apply:os.system [ls]\n", 1, 4, "tags"),
        ("a: {b: c}\na: d\n", 2, 1, "stands twice"),
        ('a: 1\n"a": 2\n', 2, 1, "stands twice"),
        ("[a, b]: c\n", 1, 1, "a key must be a word"),
        ("? {a: b}\n: c\n", 1, 3, "a key must be a word"),
        ("a:\n\t- b\n", 2, 1, "not YAML"),
        ("a: [b\n", 2, 1, "not YAML"),
        ("a: 'b\n", 2, 1, "not YAML"),
        ("a: b: c\n", 1, 5, "not YAML"),
        ("a: @b\n", 1, 4, "not YAML"),
        ('a: "\\UFFFFFFFF"\n', 1, 1, "makes no sense"),
        ('a: "\\uD800"\n', 1, 4, "a character that is not allowed"),
        ('a: "\\0"\n', 1, 4, "a character that is not allowed"),
        ('a: "\\u202e"\n', 1, 4, "a character that is not allowed"),
        ("a: b\x00\n", 1, 5, "U+0000"),
        ("a: \x1b[31m\n", 1, 4, "U+001B"),
        ("ab\rc: d\n", 1, 3, "U+000D"),
        ("a: b\u2028c\n", 1, 5, "U+2028"),
        ("a: b\x85c\n", 1, 5, "U+0085"),
        ("# \u202e hidden\na: b\n", 1, 3, "U+202E"),
        ("a:\n  b: c\u200bd\n", 2, 7, "U+200B"),
        (b"a: b\nc: \xff\n", 2, 4, "not UTF-8"),
        (b"\xff\xfea\x00:\x00", 1, 1, "not UTF-8"),
        (b"a: \xed\xa0\x80\n", 1, 4, "not UTF-8"),
    ],
)
def test_refused__with_its_place(text: str | bytes, line: int, column: int, reason: str) -> None:
    _, faults = read(text)
    found = [(fault.place.line, fault.place.column) for fault in faults if reason in fault.reason]
    assert found == [(line, column)], faults


def test_a_merge_key__an_unknown_field_like_any_other() -> None:
    examined = examine(changed(SMALL, "    image:", "    <<: {image: x}\n    image:"))
    assert [fault.place.path for fault in examined.faults] == ["services.page.<<"]


def test_line_ends_and_a_mark_at_the_beginning__as_editors_write_them() -> None:
    windows = FULL.replace("\n", "\r\n").encode()
    marked = b"\xef\xbb\xbf" + FULL.encode()
    wanted = examine(FULL.encode()).leases
    assert wanted
    for data in (windows, marked):
        assert [lease.spec for lease in examine(data).leases] == [lease.spec for lease in wanted]


def test_tree__texts_as_they_are_written() -> None:
    node, faults = read("a: [1e3, '1e3', null, ~, yes, 2026-01-01]\n")
    assert not faults and isinstance(node, Entries)
    ((_, items),) = node.entries
    assert isinstance(items, Items)
    texts = [item for item in items.items if isinstance(item, Text)]
    written = ["1e3", "1e3", "null", "~", "yes", "2026-01-01"]
    assert [text.text for text in texts] == written
    assert [text.plain for text in texts] == [True, False, True, True, True, True]


def test_paths__say_where_a_value_is() -> None:
    node, _ = read("a:\n  - b: {c: 1}\n")
    assert isinstance(node, Entries)
    value: tree.Node = node
    while not isinstance(value, Text):
        value = value.entries[0][1] if isinstance(value, Entries) else value.items[0]  # type: ignore[attr-defined]  # a list
    assert str(value.place) == "line 2, column 12: a[0].b.c"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: " + "x" * tree.MAX_BYTES, "larger than"),
        ("[" * (tree.MAX_DEPTH + 1) + "]" * (tree.MAX_DEPTH + 1), "nested more than"),
        ("[" * 100_000, "nested more than"),
        ("{a: " * 20_000, "nested more than"),
        ("- " * 1_000 + "x", "nested more than"),
        ("[" + "a," * tree.MAX_NODES + "]", "values; make"),
        ("a: '" + "x" * (tree.MAX_TEXT + 1) + "'", "a text of more than"),
        # The fan of a billion laughs needs aliases, and there are none.
        ("a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n", "aliases"),
    ],
    ids=["bytes", "lists", "open lists", "open mappings", "dashes", "values", "text", "laughs"],
)
def test_bounds__beyond_them_one_fault_and_no_tree_of_that_size(text: str, reason: str) -> None:
    _, faults = read(text)
    assert any(reason in fault.reason for fault in faults)
    assert len(faults) < 10


def test_bounds__at_the_limit_it_is_read() -> None:
    assert not read("[" * tree.MAX_DEPTH + "]" * tree.MAX_DEPTH)[1]
    assert not read("[" + "a," * (tree.MAX_NODES - 1) + "]")[1]
    assert not read("a: '" + "x" * tree.MAX_TEXT + "'")[1]


def test_events__the_parser_is_asked_for_no_more_than_the_bounds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What stops the reading stops the library, too: its work is bounded by what was asked for."""
    asked = 0
    parse = yaml.parse

    def counted(text: str, Loader: type[yaml.SafeLoader]) -> Iterator[yaml.Event]:
        nonlocal asked
        for event in parse(text, Loader=Loader):
            asked += 1
            yield event

    monkeypatch.setattr(yaml, "parse", counted)
    read("[" * 100_000)
    assert asked < 100
    asked = 0
    read("[" + "a," * 60_000)
    assert asked < tree.MAX_NODES + 100
