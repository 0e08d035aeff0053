# SPDX-License-Identifier: Apache-2.0
"""How the results of two runs of one job are compared: what a specification's `compare` says.

`exact`, the rule where nothing is said: the results are equal when their manifests are. `numeric`:
arrays (.npy, .npz, .safetensors) and JSON may differ in their numbers, by

    |a - b| <= atol + rtol * max(|a|, |b|)          in binary64, the same for a, b as for b, a

and in nothing else; all other files must be equal. NaN equals NaN, an infinity only itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

EXACT: Final = "exact"
NUMERIC: Final = "numeric"


@dataclass(frozen=True)
class Comparison:
    """A rule, and for `numeric` its two tolerances: decimal numbers as text, for JSON has no exact
    one of its own. The schema of specifications bounds them.
    """

    rule: str = EXACT
    rtol: str | None = None
    atol: str | None = None

    @classmethod
    def from_json(cls, value: Mapping[str, str]) -> Comparison:
        """The inverse of `to_json`, for a value that the schema has passed."""
        return cls(value["rule"], value.get("rtol"), value.get("atol"))

    def to_json(self) -> dict[str, Any]:
        """As it stands in a specification."""
        given = {"rule": self.rule, "rtol": self.rtol, "atol": self.atol}
        return {name: value for name, value in given.items() if value is not None}

    def __str__(self) -> str:
        """For people."""
        if self.rule == EXACT:
            return "byte by byte"
        return f"numbers within {self.atol} + {self.rtol} of the larger, the rest byte by byte"
