# SPDX-License-Identifier: Apache-2.0
"""Tokens of an answer as text: characters whole, and an end at the request's stop texts."""

from __future__ import annotations

import codecs
from collections.abc import Sequence


class Text:
    """Collects the bytes of tokens and gives out text that can no longer become a stop text."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""
        self.stopped = False

    def add(self, data: bytes, last: bool = False) -> str:
        """The text that is sure after these bytes; nothing more once a stop text has come."""
        if self.stopped:
            return ""
        self._held += self._decoder.decode(data, last)
        places = [at for each in self._stops if (at := self._held.find(each)) >= 0]
        if places:
            self.stopped = True
            return self._held[: min(places)]
        keep = 0 if last else self._may_begin()
        sure = self._held[: len(self._held) - keep]
        self._held = self._held[len(sure) :]
        return sure

    def _may_begin(self) -> int:
        """How many of the last characters may be the beginning of a stop text."""
        longest = max((len(each) for each in self._stops), default=0) - 1
        for size in range(min(longest, len(self._held)), 0, -1):
            if any(each.startswith(self._held[-size:]) for each in self._stops):
                return size
        return 0
