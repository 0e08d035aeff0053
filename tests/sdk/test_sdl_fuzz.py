# SPDX-License-Identifier: Apache-2.0
"""Whatever the bytes are, a file gives leases or faults with their places, and nothing else."""

from __future__ import annotations

import json
import random
from fractions import Fraction
from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from teraproof.protocol import leasespec
from teraproof.protocol.errors import Code
from teraproof.sdl.faults import MOST, SdlError
from teraproof.sdl.leases import MONTH, examine, read
from tests.support import budget
from tests.support.anvil import ROOT
from tests.support.sdl import FILES, samples

#: What the end-to-end tests run.
RUN = ROOT / "tests" / "agent_e2e" / "sdl_files"
SEEDS = [
    path.read_text()
    for path in (*sorted(FILES.glob("*.yaml")), *sorted(RUN.glob("*.yaml")), *samples("valid"))
]
NASTY = [
    *("1e3", ".nan", "-1", "0", "0x10", "1_000", "9" * 40, "null", "~", "yes", "2.0", "2026-01-01"),
    *("&a", "*a", "!!str", "<<", "{}", "[]", "[", "}", ":", "-", "|", ">-", "#", "%", "@", "`"),
    *("\t", "\r", "\x00", "\u202e", "\u00e9", "\U0001f600", "'", '"', "\\", '"\\U00110000"'),
    *(
        "5Mi",
        "80Gi",
        "16Ei",
        "100m",
        "true",
        "false",
        "tee",
        "ip",
        "ram",
        "beta2",
        "2.1",
        "default",
    ),
]
KEYS = [
    *("version", "services", "profiles", "deployment", "endpoints", "reclamation", "compute", "a"),
    *("placement", "resources", "cpu", "memory", "storage", "gpu", "units", "size", "attributes"),
    *("vendor", "nvidia", "model", "ram", "interface", "image", "expose", "port", "to", "global"),
    *("service", "params", "mount", "pricing", "denom", "amount", "profile", "count", "min_window"),
    *("signedBy", "anyOf", "env", "args", "credentials", "host", "password", "class", "persistent"),
]
TEXTS = st.text(max_size=300).map(lambda text: text.encode("utf-8", "replace"))


def holds(data: bytes) -> None:
    """What is promised for every file."""
    examined = examine(data)
    assert len(examined.faults) <= MOST and len(examined.notices) <= MOST
    last = data.count(b"\n") + 2
    for said in (*examined.faults, *examined.notices):
        assert 1 <= said.place.line <= last and said.place.column >= 1 and said.reason
        assert str(said).isascii() and str(said).isprintable(), str(said)
    if examined.faults:
        assert not examined.leases
        try:
            read(data)
        except SdlError as error:
            assert list(error.faults) == list(examined.faults)
            assert error.code in (Code.SDL_INVALID, Code.SDL_UNSUPPORTED)
            json.dumps(error.details)
        else:
            raise AssertionError("a file with faults was read")
        return
    assert examined.leases and examined.group_specs()
    for lease in examined.leases:
        data = lease.spec.canonical()
        assert leasespec.parse_named(data, lease.spec.digest()) == lease.spec
        needs = lease.spec.needs()
        assert needs.cpu_millis > 0 and needs.memory_bytes > 0 and needs.disk_bytes > 0
        assert lease.dollars(MONTH, Fraction(1)) > 0


@settings(max_examples=budget.of(80, 200), deadline=None)
@given(st.binary(max_size=300) | TEXTS)
def test_noise(data: bytes) -> None:
    holds(data)


def mutated(seed: int, text: str, changes: int) -> bytes:
    """A sample with a few lines, words and bytes changed."""
    chance = random.Random(seed)
    lines = text.splitlines()
    for _ in range(changes):
        at = chance.randrange(len(lines))
        line = lines[at]
        kind = chance.randrange(9)
        if kind == 0:
            del lines[at]
        elif kind == 1:
            lines.insert(at, line)
        elif kind == 2:
            lines[at] = " " * chance.randrange(4) + line
        elif kind == 3:
            lines[at] = line[chance.randrange(4) :]
        elif kind == 4 and ":" in line:
            lines[at] = f"{line.partition(':')[0]}: {chance.choice(NASTY)}"
        elif kind == 5:
            lines[at] = line.replace(line.strip().partition(":")[0], chance.choice(KEYS), 1)
        elif kind == 6:
            lines.insert(at, " " * 2 * chance.randrange(6) + f"{chance.choice(KEYS)}: 1")
        elif kind == 7:
            other = chance.randrange(len(lines))
            lines[at], lines[other] = lines[other], lines[at]
        else:
            where = chance.randrange(len(line) + 1)
            lines[at] = line[:where] + chance.choice(NASTY) + line[where:]
        if not lines:
            lines.append("")
    data = bytearray("\n".join(lines).encode())
    if chance.randrange(8) == 0 and data:
        data[chance.randrange(len(data))] = chance.randrange(256)
    return bytes(data)


@settings(max_examples=budget.of(100, 250), deadline=None)
@given(st.integers(0, 2**64), st.sampled_from(SEEDS), st.integers(1, 4))
def test_samples_changed_in_a_few_places(seed: int, text: str, changes: int) -> None:
    holds(mutated(seed, text, changes))


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(NASTY)
    | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=6), inner, max_size=5)
    ),
    max_leaves=12,
)


@settings(max_examples=budget.of(60, 150), deadline=None)
@given(st.dictionaries(st.sampled_from(KEYS[:8]), VALUES, max_size=6))
def test_documents_of_known_fields_with_any_values(document: dict[str, Any]) -> None:
    # JSON is YAML, but for what it escapes.
    holds(json.dumps(document).encode())
    holds(json.dumps(document, ensure_ascii=False, indent=1).encode("utf-8", "replace"))


def paths(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a document."""
    parts = value.items() if isinstance(value, dict) else enumerate(value)
    found = [at]
    for name, part in parts:
        here = (*at, name)
        found += paths(part, here) if isinstance(part, dict | list) else [here]
    return found


@settings(max_examples=budget.of(80, 200), deadline=None)
@given(st.sampled_from(SEEDS), st.data())
def test_valid_documents_with_one_value_of_another_kind(text: str, data: st.DataObject) -> None:
    document = yaml.safe_load(text)
    path = data.draw(st.sampled_from(paths(document)[1:]))
    at = document
    for part in path[:-1]:
        at = at[part]
    at[path[-1]] = data.draw(VALUES)
    holds(json.dumps(document).encode())
