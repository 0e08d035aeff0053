# SPDX-License-Identifier: Apache-2.0
import copy
import hashlib
import json
import re
import unicodedata
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from teraproof.errors import LocalError, SpecError
from teraproof.protocol import jobspec
from teraproof.protocol.paths import check_path
from tests.agent.spec_documents import OWNERS, VALID, beyond_a_schema, documents

SPEC: dict[str, Any] = {
    "version": 1,
    "kind": "finetune",
    "name": "digits",
    "runtime": "python-ml",
    "command": ["python", "finetune.py"],
    "env": {"SEED": "1"},
    "inputs": [
        {"path": "finetune.py", "sha256": "a" * 64, "size": 10},
        {"path": "data/train.csv", "sha256": "b" * 64, "size": 20},
    ],
    "outputs": ["out"],
    "resources": {"cpus": 2, "memory_mb": 1024, "disk_mb": 512, "gpus": 0},
    "timeout_seconds": 600,
    "deterministic": True,
    "network": False,
}


def changed(path: str, value: Any) -> bytes:
    document = copy.deepcopy(SPEC)
    at: Any = document
    parts: list[Any] = [int(p) if p.isdigit() else p for p in path.split(".")]
    for part in parts[:-1]:
        at = at[part]
    if value is ...:
        del at[parts[-1]]
    else:
        at[parts[-1]] = value
    return json.dumps(document).encode()


def test_parse__valid__keeps_every_field() -> None:
    spec = jobspec.parse(json.dumps(SPEC, indent=4).encode())
    assert spec.to_json() == SPEC
    assert spec.input_bytes() == 30
    assert spec.resources.memory_mb == 1024


def test_allow__left_out_or_in_order() -> None:
    owners = ["0x" + "11" * 20, "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"]
    spec = jobspec.parse(changed("allow", owners))
    assert spec.allow == tuple(owners)
    assert spec.to_json() == SPEC | {"allow": owners}
    assert jobspec.parse(json.dumps(SPEC).encode()).digest() != spec.digest()
    assert jobspec.parse_named(spec.canonical(), spec.digest()) == spec


@pytest.mark.parametrize(
    "owners",
    [
        ["0x" + "22" * 20, "0x" + "11" * 20],
        ["0x" + "11" * 20] * 2,
        ["0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266"],
        ["0xF39Fd6e51aad88F6F4ce6aB8827279cffFb92266"],
    ],
)
def test_allow__two_spellings_of_one_list__refused(owners: list[str]) -> None:
    with pytest.raises(SpecError, match="allow: give each address once, in order"):
        jobspec.parse(changed("allow", owners))


@pytest.mark.parametrize("owners", [[], ["0x12"], [5], "0x" + "11" * 20])
def test_allow__no_list_of_addresses__refused(owners: Any) -> None:
    with pytest.raises(SpecError, match=r"^allow.* is not allowed; give"):
        jobspec.parse(changed("allow", owners))


def test_digest__layout__does_not_matter() -> None:
    spec = jobspec.parse(json.dumps(SPEC, indent=4).encode())
    backwards = dict(reversed(SPEC.items()))
    assert jobspec.parse(json.dumps(backwards).encode()).digest() == spec.digest()
    assert spec.digest() == hashlib.sha256(spec.canonical()).digest() == jobspec.digest(SPEC)
    # For ASCII keys and integers, RFC 8785 is this.
    assert spec.canonical() == json.dumps(SPEC, sort_keys=True, separators=(",", ":")).encode()


def test_parse_named__canonical__accepted() -> None:
    data = jobspec.canonical(SPEC)
    assert jobspec.parse_named(data, hashlib.sha256(data).digest()).canonical() == data


NUMERIC = {"rule": "numeric", "rtol": "1e-5", "atol": "0"}


@pytest.mark.parametrize("rule", [{"rule": "exact"}, NUMERIC])
def test_compare__kept_as_it_was_written(rule: dict[str, str]) -> None:
    data = jobspec.canonical(SPEC | {"compare": rule})
    spec = jobspec.parse_named(data, hashlib.sha256(data).digest())
    assert spec.compare is not None and spec.to_json()["compare"] == rule
    assert jobspec.parse(json.dumps(SPEC).encode()).compare is None


@pytest.mark.parametrize(
    ("rule", "line"),
    [
        ({}, "compare.rule: missing"),
        ({"rule": "close"}, "compare.rule: 'close' is not allowed; give exact or numeric"),
        (
            {"rule": "exact", "rtol": "0"},
            "the rule alone: rtol and atol belong to",
        ),
        ({"rule": "numeric", "rtol": "0"}, "compare.atol: missing"),
        (NUMERIC | {"rtol": 0}, "compare.rtol: 0 is not allowed; give a decimal number below 1"),
        (NUMERIC | {"rtol": "1"}, "compare.rtol: '1' is not allowed"),
        (NUMERIC | {"rtol": "nan"}, "compare.rtol: 'nan' is not allowed"),
        (NUMERIC | {"atol": "inf"}, "compare.atol: 'inf' is not allowed"),
        (NUMERIC | {"atol": "-1"}, "compare.atol: '-1' is not allowed"),
        (NUMERIC | {"atol": "1e999"}, "compare.atol: '1e999' is not allowed"),
        (NUMERIC | {"atol": "1e-5\n"}, "compare.atol: control character"),
        (NUMERIC | {"atol": 1e-5}, "1e-05 is not an integer; floats are refused"),
        (NUMERIC | {"metric": "l2"}, "compare.metric: unknown field"),
        ("exact", "compare: 'exact' is not allowed; give an object with rule"),
        (None, "compare: None is not allowed"),
    ],
)
def test_compare__no_rule_that_all_read_alike__refused(rule: Any, line: str) -> None:
    with pytest.raises(SpecError) as caught:
        jobspec.parse(changed("compare", rule))
    assert line in str(caught.value)


def test_compare__job_that_cannot_be_run_again__refused() -> None:
    document = SPEC | {"compare": NUMERIC, "deterministic": False}
    with pytest.raises(SpecError, match="deterministic: False is not allowed; give true"):
        jobspec.parse(json.dumps(document).encode())


@pytest.mark.parametrize("data", [json.dumps(SPEC).encode(), jobspec.canonical(SPEC) + b" "])
def test_parse_named__not_canonical__refused(data: bytes) -> None:
    with pytest.raises(SpecError, match="RFC 8785"):
        jobspec.parse_named(data, hashlib.sha256(data).digest())


def test_parse_named__other_digest__refused() -> None:
    with pytest.raises(SpecError, match="sha256 differs"):
        jobspec.parse_named(jobspec.canonical(SPEC), bytes(32))


@pytest.mark.parametrize(
    ("path", "value", "line"),
    [
        ("version", 2, "version: 2 is not allowed; give 1"),
        ("version", ..., "version: missing"),
        ("kind", "mine", "kind: 'mine' is not allowed; give one of finetune"),
        ("name", "", "name: '' is not allowed"),
        ("name", "a\n", "name: control character '\\n'"),
        ("name", "x" * 81, "name: "),
        ("runtime", "../python", "runtime: '../python' is not allowed"),
        ("command", [], "command: [] is not allowed"),
        ("command.0", "", "command[0]: '' is not allowed; give the program"),
        ("command.0", 5, "command[0]: 5 is not allowed; give the program"),
        ("command.1", 5, "command[1]: 5 is not allowed; give a string"),
        ("command.1", "a\x00b", "command[1]: control character '\\x00'"),
        ("env", {"lower": "x"}, "env: 'lower' is not allowed; give names"),
        ("env", {"A": 1}, "env.A: 1 is not allowed"),
        ("env", {"A": "x\ny"}, "env.A: control character"),
        ("inputs.1.sha256", "A" * 64, "inputs[1].sha256: 'AAAA"),
        ("inputs.1.sha256", "a" * 63, "inputs[1].sha256: "),
        ("inputs.1.sha256", "a" * 63 + "\n", "inputs[1].sha256: "),
        ("inputs.0.size", -1, "inputs[0].size: -1 is not allowed; give bytes"),
        ("inputs.0.size", True, "inputs[0].size: True is not allowed"),
        ("inputs.0.size", 1.0, "1.0 is not an integer"),
        ("inputs.0.size", 2**60, "inputs[0].size: the integer is beyond"),
        ("inputs.0.mode", 1, "inputs[0].mode: unknown field"),
        ("inputs.0.path", ..., "inputs[0].path: missing"),
        ("inputs.0.path", "../x", "inputs[0].path: path '../x' has a part '..'"),
        ("inputs.0.path", "/x", "inputs[0].path: path '/x' is absolute"),
        ("inputs.0.path", "a//b", "inputs[0].path: "),
        ("inputs.0.path", "a\nb", "inputs[0].path: control character"),
        ("inputs.0.path", "e\u0301", "inputs[0].path: path 'e\\u0301' is not in Unicode NFC"),
        ("inputs.0.path", "data/train.csv", "inputs: path 'data/train.csv' is named twice"),
        ("inputs.0.path", "data", "inputs: path 'data' also stands above"),
        ("outputs", ["out", "out"], "outputs: path 'out' is named twice"),
        ("outputs", ["out", "out/a"], "outputs: path 'out' also stands above"),
        ("outputs", ["data"], "inputs and outputs: path 'data' also stands above"),
        ("outputs", ["finetune.py"], "inputs and outputs: path 'finetune.py' is named twice"),
        ("outputs", [], "outputs: [] is not allowed"),
        ("resources.cpus", 0, "resources.cpus: 0 is not allowed; give an integer from 1"),
        ("resources.gpus", 65, "resources.gpus: 65"),
        ("resources.tpus", 1, "resources.tpus: unknown field"),
        ("timeout_seconds", 0, "timeout_seconds: 0"),
        ("deterministic", 1, "deterministic: 1 is not allowed; give true or false"),
        ("network", True, "network: True is not allowed; give false"),
        ("extra", 1, "extra: unknown field"),
        ("extra\x1b[31m", 1, "'extra\\x1b[31m': unknown field"),
    ],
)
def test_parse__invalid__one_line_with_path(path: str, value: Any, line: str) -> None:
    with pytest.raises(SpecError) as caught:
        jobspec.parse(changed(path, value))
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (b"", "not JSON, line 1 column 1"),
        (b"\xff\xfe", "not UTF-8"),
        (b"[]", "job specification: [] is not allowed"),
        (b"null", "job specification: None"),
        (b"[" * 200_000, "far too large"),
        (b"[" + b"9" * 10_000 + b"]", "far too large"),
        (b'{"version":1,"version":1}', "key 'version' stands twice"),
        (b'{"a":{"b":1,"b":2}}', "key 'b' stands twice"),
        (b'{"version":NaN}', "NaN is not an integer"),
        (b'{"version":-Infinity}', "-Infinity is not an integer"),
        (b'{"version":1e3}', "1e3 is not an integer"),
        (b'{"version":9007199254740993}', "version: the integer is beyond"),
        (b" " * (jobspec.MAX_BYTES + 1), "larger than"),
    ],
    ids=lambda value: ascii(value)[:24],
)
def test_parse__hostile_bytes__one_line(data: bytes, line: str) -> None:
    with pytest.raises(SpecError) as caught:
        jobspec.parse(data)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_parse__lone_surrogate_in_argument__refused() -> None:
    data = jobspec.canonical(SPEC).replace(b'"finetune.py"]', b'"\\ud800"]')
    with pytest.raises(SpecError, match=r"command\[1\]: control character '\\ud800'"):
        jobspec.parse(data)


def test_parse__program_as_argument__may_have_lines() -> None:
    spec = jobspec.parse(changed("command", ["python", "-c", "import os\nprint(1)\t# x"]))
    assert spec.command[2].count("\n") == 1


def test_canonical__float_or_big_integer__refused() -> None:
    for value in (0.5, float("nan"), 2**53):
        with pytest.raises(SpecError):
            jobspec.canonical({"a": [value]})


scalars = st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(max_size=10)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=10,
)


@given(values)
def test_canonical__any_value__is_a_fixed_point(value: Any) -> None:
    try:
        data = jobspec.canonical(value)
    except SpecError:
        return
    assert jobspec.canonical(json.loads(data)) == data


@given(st.sampled_from(sorted(SPEC)), values)
def test_parse__any_field_replaced__valid_or_spec_error(name: str, value: Any) -> None:
    data = json.dumps({**SPEC, name: value}).encode()
    try:
        spec = jobspec.parse(data)
    except SpecError as error:
        assert "\n" not in str(error)
        return
    assert spec.to_json()[name] == value


def test_schema__is_itself_valid() -> None:
    Draft202012Validator.check_schema(jobspec._SCHEMA)


# ---------------------------------------------------------------------- the published schema


def accepted(document: Any) -> bool:
    """Whether an agent takes the document."""
    try:
        jobspec.parse(json.dumps(document).encode())
    except SpecError as error:
        assert "\n" not in str(error) and len(str(error)) < 600
        return False
    return True


@settings(max_examples=200)
@given(documents())
def test_schema__as_strict_as_the_agent(document: Any) -> None:
    """What it accepts the agent accepts but for the rules that no schema can say, and the reverse
    without any exception.
    """
    published = Draft202012Validator(jobspec._SCHEMA)
    if published.is_valid(document):
        assert accepted(document) is not any(beyond_a_schema(document))
    else:
        assert not accepted(document)


def test_schema__valid_document_of_the_generator__taken() -> None:
    assert accepted(VALID)
    assert not any(beyond_a_schema(VALID))


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"outputs": ["e\u0301"]}, "NFC"),
        ({"outputs": ["/".join(["\u00e9" * 100] * 6)]}, "bytes of a path"),
        ({"outputs": ["\u00e9" * 200]}, "bytes of a part"),
        ({"outputs": ["main.py"]}, "twice the same path"),
        ({"outputs": ["main.py/x"]}, "a path above another"),
        ({"allow": OWNERS[1::-1]}, "order of the list"),
        ({"allow": ["0x" + "ab" * 20]}, "checksum"),
    ],
)
def test_schema__cannot_say__the_agent_does(change: dict[str, Any], rule: str) -> None:
    document = {**VALID, **change}
    assert Draft202012Validator(jobspec._SCHEMA).is_valid(document)
    assert list(beyond_a_schema(document)) == [rule]
    assert not accepted(document)


def test_schema__numbers_and_layout__only_in_the_bytes() -> None:
    """A reader of JSON values does not see how a number or a key was written."""
    data = jobspec.canonical(VALID)
    for old, new in (
        (b'"version":1}', b'"version":1.0}'),
        (b'"timeout_seconds":60', b'"timeout_seconds":6e1'),
        (b'"version":1}', b'"version":1,"version":1}'),
    ):
        assert old in data
        with pytest.raises(SpecError):
            jobspec.parse(data.replace(old, new))


def edges() -> set[int]:
    """Where characters that paths may not hold begin and end, and their neighbours."""
    unfit = [
        unicodedata.category(chr(n)) in ("Cc", "Cf", "Cs", "Zl", "Zp") for n in range(0x110000)
    ]
    changes = [n for n in range(1, 0x110000) if unfit[n] is not unfit[n - 1]]
    return {0, 0x10FFFF, 0x5C} | {n + near for n in changes for near in (-1, 0, 1)}


def test_schema__characters_of_paths__those_of_the_agent() -> None:
    published = re.compile(jobspec._SCHEMA["$defs"]["path"]["pattern"])
    for number in sorted(edges()):
        path = f"x{chr(number)}"
        if number in (0x2E, 0x2F) or unicodedata.normalize("NFC", path) != path:
            continue
        try:
            check_path(path)
        except LocalError:
            taken = False
        else:
            taken = True
        assert (published.search(path) is not None) is taken, f"{number:x}"
        if unicodedata.category(chr(number)) in ("Cc", "Cf", "Cs", "Zl", "Zp"):
            assert not taken, f"{number:x}"


@pytest.mark.parametrize("field", ["allow", "outputs", "inputs", "command"])
def test_parse__long_list_of_odd_things__no_quadratic_work(field: str) -> None:
    """Refused by its length; what costs the square of the length is never begun."""
    odd: list[Any] = [{"a": n} if n % 2 else str(n) for n in range(20_000)]
    with pytest.raises(SpecError, match=f"^{field}"):
        jobspec.parse(json.dumps({**VALID, field: odd}).encode())


@pytest.mark.parametrize("document", [None, [], "text", 5, True])
def test_parse__no_object__says_so(document: object) -> None:
    with pytest.raises(SpecError, match=r"is not allowed; give a JSON object$"):
        jobspec.parse(json.dumps(document).encode())
