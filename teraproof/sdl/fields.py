# SPDX-License-Identifier: Apache-2.0
"""Reading a tree by what each field must be. A fault is noted, and reading goes on.

What cannot be read gives a value of the right type all the same: nobody uses it, because a file
with a fault gives nothing but its faults.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass

from teraproof.sdl.faults import Book, Place
from teraproof.sdl.quantities import Unfit
from teraproof.sdl.tree import MAX_TEXT, Entries, Items, Node, Text, Unread, shown_key

_WHOLE = re.compile(r"0|[1-9][0-9]{0,15}")
# What YAML's readers take for something else than a text: null, truth, numbers, times.
_NO_TEXT = re.compile(
    r"""~|null|Null|NULL|
    true|True|TRUE|false|False|FALSE|yes|Yes|YES|no|No|NO|on|On|ON|off|Off|OFF|
    [-+]?(?:\.[0-9_]+|[0-9][0-9_]*(?:\.[0-9_]*)?)(?:[eE][-+]?[0-9]+)?|
    [-+]?0[xob][0-9a-fA-F_]+|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)|
    [-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?|
    [0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:[Tt ].*)?""",
    re.VERBOSE,
)
_NULL = re.compile(r"~|null|Null|NULL|")


@dataclass(frozen=True)
class Field:
    """A value of the file, and the book in which its faults are noted."""

    node: Node
    book: Book

    @property
    def place(self) -> Place:
        """Where it is."""
        return self.node.place

    @property
    def is_null(self) -> bool:
        """Whether nothing is written there, or `null`."""
        node = self.node
        return isinstance(node, Text) and node.plain and _NULL.fullmatch(node.text) is not None

    @property
    def is_list(self) -> bool:
        """Whether it is a list."""
        return isinstance(self.node, Items)

    @property
    def is_empty(self) -> bool:
        """Whether it is a mapping without entries."""
        return isinstance(self.node, Entries) and not self.node.entries

    @property
    def is_text(self) -> bool:
        """Whether it is one word or number, whatever it means."""
        return isinstance(self.node, Text)

    def fault(self, reason: str) -> None:
        """Note that it is not valid."""
        self.book.fault(self.place, reason)

    def refuse(self, reason: str) -> None:
        """Note that what it asks for is not sold here."""
        self.book.refuse(self.place, reason)

    # ------------------------------------------------------------------ parts

    def fields(
        self,
        required: Collection[str] = (),
        optional: Collection[str] = (),
        unsold: Mapping[str, str] | None = None,
    ) -> dict[str, Field]:
        """The fields of a mapping whose keys are known. `unsold` says why some are refused."""
        found: dict[str, Field] = {}
        if not isinstance(self.node, Entries):
            self._expected("a mapping", f"with {_listed([*required, *optional])}")
            return found
        for key, value in self.node.entries:
            if key.text in required or key.text in optional:
                found[key.text] = Field(value, self.book)
            elif unsold is not None and key.text in unsold:
                self.book.refuse(key.place, unsold[key.text])
            else:
                known = _listed([*required, *optional])
                self.book.fault(key.place, f"unknown field; known here: {known}")
        for name in required:
            if name not in found:
                place = Place(self.place.line, self.place.column, self.place.below(name))
                self.book.fault(place, "missing; it is required")
        return found

    def named(
        self, what: str, pattern: re.Pattern[str], form: str, most: int, least: int = 1
    ) -> Iterator[tuple[str, Place, Field]]:
        """(name, its place, value) of a mapping from names of somebody's choice."""
        if not isinstance(self.node, Entries):
            self._expected("a mapping", f"from the name of each {what}")
            return
        entries = self.node.entries
        if not least <= len(entries) <= most:
            self.fault(f"{len(entries)} entries; give {least} to {most}")
        for key, value in entries[:most]:
            if pattern.fullmatch(key.text) is None:
                self.book.fault(key.place, f"not a name for a {what}; give {form}")
            yield key.text, key.place, Field(value, self.book)

    def items(self, most: int, what: str) -> Iterator[Field]:
        """The values of a list."""
        if not isinstance(self.node, Items):
            self._expected("a list", f"of {what}")
            return
        found = self.node.items
        if len(found) > most:
            self.fault(f"{len(found)} {what}; give at most {most}")
        for node in found[:most]:
            yield Field(node, self.book)

    # ------------------------------------------------------------------ values

    def text(
        self,
        form: str,
        pattern: re.Pattern[str] | None = None,
        most: int = MAX_TEXT,
        *,
        secret: bool = False,
    ) -> str:
        """A text. One that YAML takes for a number, a truth or nothing has to stand in quotes.

        A fault does not repeat what may be a `secret`.
        """
        if not isinstance(self.node, Text):
            self._expected("a text", f"such as {form}")
            return ""
        text = self.node.text
        if self.node.plain and (text == "" or _NO_TEXT.fullmatch(text)):
            shown = "write it in quotes" if secret else f"write {_quoted(text)}"
            self.fault(f"a text is wanted; {shown if text else 'nothing is written here'}")
        elif len(text) > most or (pattern is not None and pattern.fullmatch(text) is None):
            self.fault(f"{'this text' if secret else _quoted(text)} is not allowed; give {form}")
        return text

    def choice(self, allowed: Collection[str]) -> str:
        """One of a few words."""
        word = self.word()
        if word is not None and word not in allowed:
            self.fault(f"{_quoted(word)} is not known; give {_listed(allowed, 'or')}")
        return word or ""

    def integer(self, least: int, most: int) -> int:
        """A whole number, without quotes."""
        node = self.node
        fits = isinstance(node, Text) and node.plain and _WHOLE.fullmatch(node.text)
        if not isinstance(node, Text) or not fits or not least <= int(node.text) <= most:
            self._expected(f"a whole number from {least} to {most}", "in digits, without quotes")
            return least
        return int(node.text)

    def boolean(self, quoted: bool = False) -> bool:
        """`true` or `false`; in quotes only where `quoted` says so."""
        node = self.node
        if not isinstance(node, Text) or not (node.plain or quoted):
            self._expected("true or false", "without quotes")
            return False
        if node.text not in ("true", "false"):
            self._expected("true or false", "in lower case")
            return False
        return node.text == "true"

    def amount(
        self, read: Callable[[str], int], least: int, most: int, said: str, *, text: bool = False
    ) -> int:
        """What `read` makes of a word or number; `said` are the bounds for people. `text`: a bare
        number has to stand in quotes.
        """
        word = self.word()
        if word is None:
            return least
        try:
            value = read(word)
        except Unfit as reason:
            self.fault(f"{_quoted(word)} is not an amount; {reason}")
            return least
        if not least <= value <= most:
            self.fault(f"{_quoted(word)} is out of bounds; give {said}")
            return least
        if text and getattr(self.node, "plain", False) and _NO_TEXT.fullmatch(word):
            self.fault(f"a text is wanted; write {_quoted(word)}")
        return value

    def word(self) -> str | None:
        """A word or a number as it is written; None, with a fault, for anything else."""
        if not isinstance(self.node, Text) or self.is_null:
            self._expected("one word or number", "here")
            return None
        return self.node.text

    def _expected(self, what: str, more: str) -> None:
        if isinstance(self.node, Unread):
            return
        kind = {Items: "a list", Entries: "a mapping"}.get(type(self.node))
        if kind is None:
            kind = "nothing" if self.is_null else _quoted(getattr(self.node, "text", ""))
        self.fault(f"{what} is wanted, {more}; {kind} stands here")


def _quoted(text: str) -> str:
    """A stranger's text in a line: plain ASCII, and short."""
    shown = text if text.isascii() and text.isprintable() else ascii(text)[1:-1]
    return f'"{shown if len(shown) <= 60 else shown[:57] + "..."}"'


def _listed(names: Collection[str], last: str = "and") -> str:
    shown = [shown_key(name) for name in names]
    return f"{', '.join(shown[:-1])} {last} {shown[-1]}" if len(shown) > 1 else "".join(shown)
