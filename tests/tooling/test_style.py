# SPDX-License-Identifier: Apache-2.0
"""The style lint finds what docs/style.md forbids, and lets plain English pass."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import style


@pytest.mark.parametrize(
    "words",
    [
        "a job for who has it",
        "It is sent to who asked.",
        "the address is no manager",
        "these are no files of ours",
        "none of the endpoints answers",
        "10 files in all.",
        "the sum (in all)",
        "after so many seconds",
        "the table is built anew",
        "the tenant is told the reason",
        "there is no room just now",
        "one nonce for ever",
        "operations a second",
        "5 requests a cycle",
        "once a block",
        "the file beside it",
    ],
)
def test_pattern__found_in_document_docstring_comment_and_message(words: str) -> None:
    assert [place.line for place in style.faults_in_text("x", f"fine\n{words}")] == [2]
    for source in (
        f'"""{words}"""\n',
        f"x = 1  # {words}\n",
        f'def f():\n    """First.\n\n    {words}\n    """\n',
        f"raise ValueError('{words}')\n",
        f"raise ValueError(f'{{x}} {words} {{y}}')\n",
    ):
        assert list(style.faults_in_source("x.py", source)), source
    assert list(style.faults_in_document("x.md", f"# T\n\n{words}\n"))


def test_pattern__over_the_end_of_a_line__found() -> None:
    assert list(style.faults_in_source("x.py", "# paid for\n# who\nx = 1\n")) != []


@pytest.mark.parametrize(
    "words",
    [
        "those who know, and whoever asks",
        "there is no file; it is no longer there, and no more than 5 are",
        "in all cases, and in all of them",
        "until it is told to stop",
        "that takes a second, and is a job of a provider",
        "5 requests per cycle, and with source 1 a block's hash; jobs a cycle looks at",
        "besides",
    ],
)
def test_plain_english__passes(words: str) -> None:
    assert list(style.faults_in_text("x", words)) == []


def test_code_and_made_tables__are_not_prose() -> None:
    page = (
        "`x.anew` is fine.\n\n```\nanew anew\n```\n\n"
        "<!-- codes:begin -->\nanew\n<!-- codes:end -->\n<!-- table: a -->\nanew\n<!-- end -->\n"
    )
    assert list(style.faults_in_document("x.md", page)) == []


def sentence(words: int) -> str:
    return " ".join(["One", *["word"] * (words - 1)]) + "."


@pytest.mark.parametrize(
    "page",
    [
        sentence(style.LONGEST + 1),
        f"Short. {sentence(style.LONGEST + 1)} Short.",
        f"- item\n- {sentence(style.LONGEST + 1)}\n",
        f"| a | {sentence(style.LONGEST + 1)} |\n|---|---|\n",
        sentence(style.LONGEST + 1).replace(" ", "\n"),
    ],
)
def test_long_sentence__in_paragraph_item_or_cell__found(page: str) -> None:
    (found,) = style.faults_in_document("x.md", page)
    assert found.fault == style.LONG


@pytest.mark.parametrize(
    "page",
    [
        sentence(style.LONGEST),
        " ".join([sentence(20), sentence(20)]),
        f"- {sentence(20)}\n- {sentence(20)}\n",
        f"| {sentence(20)} | {sentence(20)} |\n",
        f"{sentence(20)[:-1]}:\n\n{sentence(20)}",
    ],
)
def test_short_sentences__pass(page: str) -> None:
    assert list(style.faults_in_document("x.md", page)) == []


def test_fault__named_with_file_and_line_and_an_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "page.md").write_text("Fine.\n\nIt is built anew.\n")
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "x.py").write_text('"""Fine."""\n')
    monkeypatch.setattr(style, "ROOT", tmp_path)
    assert style.main([]) == 1
    assert capsys.readouterr().err.startswith("docs/page.md:3: anew: write again")
    assert style.main(["tools/x.py"]) == 0


def test_this_repository__has_no_fault() -> None:
    assert style.all_faults() == []


def test_tests_of_contracts__quote_the_contracts_and_are_read_else() -> None:
    file = "tests/contracts/test_x.py"
    assert not list(style.faults_in_source(file, 'reverts("limit in all")\n'))
    for source in (
        '"""So many wei."""\n',
        'x: int = 1\n"""So many wei."""\n',
        "x = 1  # so many\n",
    ):
        assert list(style.faults_in_source(file, source)), source


def test_contract__docstrings_and_comments_are_read__and_what_the_chain_holds_is_not() -> None:
    file = "contracts/X.vy"
    for source in (
        '"""\n@notice Built anew.\n"""\n',
        'def f():\n    """\n    @dev After so many seconds.\n    """\n    pass\n',
        "x: uint256  # so many\n",
        "# paid for\n# who\nx: uint256\n",
    ):
        assert list(style.faults_in_contract(file, source)), source
    assert not list(style.faults_in_contract(file, 'assert a, "staking: anew"\n'))
