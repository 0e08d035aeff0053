# SPDX-License-Identifier: Apache-2.0
"""JSON of strangers that is nested without end, in a program whose libraries have lifted Python's
own limit.
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teraproof import nesting

READERS = {
    "a lease": "from teraproof.protocol import leasespec; leasespec.parse(data)",
    "a job": "from teraproof.protocol import jobspec; jobspec.parse(data)",
    "a frame": "from teraproof.protocol import dataplane; dataplane.decoded(data, 'OPEN')",
    "an error": "from teraproof.protocol.errors import WireError; assert not WireError.parse(data)",
    "a manifest": "from teraproof.protocol import digests; digests.parse_manifest(data)",
    "a receipt": "from teraproof.protocol.receipt import Receipt; Receipt.parse(data)",
    "a node's answer": "from teraproof.rpc import endpoint; assert not endpoint._object(data)",
}
PROGRAM = """\
import sys
sys.setrecursionlimit(10**6)
from teraproof.errors import TeraproofError
data = sys.stdin.buffer.read()
try:
    {reader}
except TeraproofError:
    pass
print("goes on")
"""


@pytest.mark.parametrize("what", READERS)
@pytest.mark.parametrize(
    "deep",
    [b"[" * 100_000, b'{"a":' * 40_000, b"[" * 99_999 + b"]" * 99_999],
    ids=["lists", "objects", "closed"],
)
def test_document_without_end__ends_no_program(what: str, deep: bytes) -> None:
    program = PROGRAM.format(reader=READERS[what])
    done = subprocess.run(
        [sys.executable, "-c", program], input=deep, capture_output=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, b"goes on\n"), done.stderr[-500:]


_values = st.recursive(
    st.none() | st.integers() | st.text(st.sampled_from('[]{}"\\a\u00e9')),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.sampled_from('[]{}"\\')), inner),
)


@given(_values, st.sampled_from(["utf-8", "utf-16", "utf-32"]), st.booleans())
def test_any_document__is_read_as_json_does(value: object, encoding: str, ascii_only: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only)
    assert nesting.loads(text) == nesting.loads(text.encode(encoding)) == value


@pytest.mark.parametrize("texts", [0, 1, 300])
def test_depth__that_of_brackets_outside_of_texts(texts: int) -> None:
    quoted = json.dumps(['[{"\\' * 50] * texts)
    fits = "[" * (nesting.DEEPEST - 1) + quoted + "]" * (nesting.DEEPEST - 1)
    nesting.loads(fits)
    with pytest.raises(RecursionError):
        nesting.loads(f"[{fits}]")
    nesting.loads(json.dumps([[]] * 5_000))
