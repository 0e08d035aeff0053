# SPDX-License-Identifier: Apache-2.0
"""YAML as a tree of texts with their places, without anything that YAML means by itself.

Bounded: bytes, depth and nodes. No anchors, aliases, merge keys, tags, directives or second
documents, and no key twice: so a file has one reading, and its tree is no larger than itself.
What a text means is decided where it is read, never by its looks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import yaml

from teraproof.sdl.faults import Book, Place

MAX_BYTES = 128 << 10
MAX_DEPTH = 16
MAX_NODES = 10_000
MAX_TEXT = 25_000  # characters of one text: the kernel takes as many of four bytes in an argument

# Control characters, other line ends than \n, and what makes a line look like another one.
_STRANGE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u2064"
    "\u2066-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb\ufffe\uffff\U000e0000-\U000e007f]"
    "|\r(?!\n)"
)


@dataclass(frozen=True)
class Node:
    """Anything in the tree. `path` of its place is that of the field that it is the value of."""

    place: Place


@dataclass(frozen=True)
class Text(Node):
    """A scalar as it is written, without its quotes."""

    text: str
    plain: bool
    """Whether it was written without quotes, so that YAML may take it for something else."""


@dataclass(frozen=True)
class Items(Node):
    """A list."""

    items: tuple[Node, ...]


@dataclass(frozen=True)
class Entries(Node):
    """A mapping. Each key stands once; its place is that of the key."""

    entries: tuple[tuple[Text, Node], ...]


@dataclass(frozen=True)
class Unread(Node):
    """What could not be read; its fault is noted already."""


class _TooMuch(Exception):
    """The file is beyond a bound; its fault is noted already."""


def read(data: bytes, book: Book) -> Node | None:
    """The tree of a file; None, with a fault in the book, when it has none."""
    text = _decoded(data, book)
    if text is None:
        return None
    try:
        return _Reader(text, book).document()
    except _TooMuch:
        return None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Place(1, 1) if mark is None else Place(mark.line + 1, mark.column + 1)
        book.fault(place, f"not YAML: {_said(error.problem or error.context)}")
    except (yaml.YAMLError, ValueError, OverflowError):
        # An escape or a directive with a number that no character or version has.
        book.fault(Place(1, 1), "not YAML: an escape sequence or a directive makes no sense")
    return None


def _decoded(data: bytes, book: Book) -> str | None:
    if len(data) > MAX_BYTES:
        book.fault(Place(1, 1), f"larger than {MAX_BYTES} bytes; move data to the image")
        return None
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8", "replace")
        book.fault(_at(before, len(before)), "not UTF-8; save the file in that encoding")
        return None
    text = text.removeprefix("\ufeff")
    strange = _STRANGE.search(text)
    if strange is not None:
        shown = f"U+{ord(strange[0]):04X}"
        book.fault(_at(text, strange.start()), f"the character {shown} is not allowed; remove it")
        return None
    return text


def _at(text: str, offset: int) -> Place:
    return Place(text.count("\n", 0, offset) + 1, offset - (text.rfind("\n", 0, offset) + 1) + 1)


def _said(text: object) -> str:
    """The library's words, in one short line."""
    return ascii(str(text))[1:-1][:120]


class _Reader:
    """Builds the tree from the events of the YAML parser."""

    def __init__(self, text: str, book: Book) -> None:
        # The library's own parser, not the one in C: the same places on every machine.
        self._events: Iterator[yaml.Event] = yaml.parse(text, Loader=yaml.SafeLoader)
        self._book, self._nodes = book, 0

    def document(self) -> Node | None:
        next(self._events)  # the stream begins
        event = next(self._events)
        if isinstance(event, yaml.StreamEndEvent):
            self._book.fault(Place(1, 1), "the file is empty")
            return None
        assert isinstance(event, yaml.DocumentStartEvent)
        if event.version is not None or event.tags:
            self._book.fault(_place(event, ""), "directives are not read; remove the line with %")
        root = self._node(next(self._events), "", 1)
        next(self._events)  # the document ends
        event = next(self._events)
        if not isinstance(event, yaml.StreamEndEvent):
            self._book.fault(_place(event, ""), "a second document; give each a file of its own")
        return root

    def _node(self, event: yaml.Event, path: str, depth: int) -> Node:
        place = _place(event, path)
        self._nodes += 1
        if self._nodes > MAX_NODES:
            self._book.fault(place, f"more than {MAX_NODES} values; make the file shorter")
            raise _TooMuch
        if depth > MAX_DEPTH:
            self._book.fault(place, f"nested more than {MAX_DEPTH} deep")
            raise _TooMuch
        if isinstance(event, yaml.AliasEvent):
            self._book.fault(place, "aliases are not read; write the value out")
            return Unread(place)
        assert isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent)
        if event.anchor is not None:
            self._book.fault(place, "anchors are not read; remove the word with &")
        if event.tag is not None:
            self._book.fault(place, "tags are not read; remove the word with !")
        if isinstance(event, yaml.ScalarEvent):
            return self._text(event, place)
        if isinstance(event, yaml.SequenceStartEvent):
            return Items(place, tuple(self._items(path, depth)))
        return Entries(place, tuple(self._entries(path, depth)))

    def _text(self, event: yaml.ScalarEvent, place: Place) -> Text:
        if len(event.value) > MAX_TEXT:
            self._book.fault(place, f"a text of more than {MAX_TEXT} characters; shorten it")
            raise _TooMuch
        if _STRANGE.search(event.value):
            self._book.fault(place, "an escape stands for a character that is not allowed")
        return Text(place, event.value, event.style is None)

    def _items(self, path: str, depth: int) -> Iterator[Node]:
        number = 0
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            yield self._node(event, f"{path}[{number}]", depth + 1)
            number += 1

    def _entries(self, path: str, depth: int) -> Iterator[tuple[Text, Node]]:
        known: set[str] = set()
        here = Place(0, 0, path)
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = self._node(event, path, depth + 1)
            name = shown_key(key.text) if isinstance(key, Text) else "?"
            value = self._node(next(self._events), here.below(name), depth + 1)
            if not isinstance(key, Text):
                if not isinstance(key, Unread):
                    self._book.fault(key.place, "a key must be a word; write it in one line")
            elif key.text in known:
                place = Place(key.place.line, key.place.column, here.below(name))
                self._book.fault(place, "stands twice; remove one")
            else:
                known.add(key.text)
                place = Place(key.place.line, key.place.column, here.below(name))
                yield Text(place, key.text, key.plain), value


def _place(event: yaml.Event, path: str) -> Place:
    mark = event.start_mark
    assert mark is not None  # an event that was read has one
    return Place(mark.line + 1, mark.column + 1, path)


def shown_key(key: str) -> str:
    """A key as it stands in a path: a stranger's word, short and plain."""
    fine = key.isascii() and key.isprintable() and len(key) <= 64 and key
    return key if fine else ascii(key[:64])
