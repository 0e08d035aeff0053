# SPDX-License-Identifier: Apache-2.0
"""Roots and paths of allow-lists, walked the way that the contract does it."""

import pytest
from eth_utils.crypto import keccak
from hypothesis import given
from hypothesis import strategies as st

from teraproof.errors import LocalError
from teraproof.protocol import allow_list
from teraproof.protocol.terms import ZERO_WORD

owners = st.binary(min_size=20, max_size=20).map(lambda b: "0x" + b.hex())
A, B, C = (f"0x{digit * 40}" for digit in "123")


def walk(node: bytes, path: list[bytes]) -> bytes:
    """Siblings hashed in sorted order, from the leaf upwards."""
    for sibling in path:
        node = keccak(min(node, sibling) + max(node, sibling))
    return node


@given(st.lists(owners, min_size=1, max_size=70, unique=True), st.data())
def test_proof__every_member__leads_to_the_root(members: list[str], data: st.DataObject) -> None:
    root = allow_list.root(members)
    member = data.draw(st.sampled_from(members))
    path = allow_list.proof(members, member)
    assert walk(allow_list.leaf(member), path) == root
    assert len(path) <= 7
    # Neither the order nor a name that stands twice makes another list.
    assert allow_list.root([*reversed(members), member]) == root


@given(st.lists(owners, min_size=1, max_size=9, unique=True), owners)
def test_proof__not_a_member__refused(members: list[str], stranger: str) -> None:
    if stranger in members:
        return
    with pytest.raises(LocalError, match="is not on the list"):
        allow_list.proof(members, stranger)
    assert allow_list.root([*members, stranger]) != allow_list.root(members)


def test_root__nobody_named__anyone() -> None:
    assert allow_list.root([]) == ZERO_WORD
    assert allow_list.proof([], A) == []


def test_root__one__its_leaf() -> None:
    assert allow_list.root([A]) == allow_list.leaf(A)
    assert allow_list.proof([A], A) == []


def test_ordered__checked_and_each_once() -> None:
    lower = "0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266"
    given_twice = [B, lower, A, "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"]
    assert allow_list.ordered(given_twice) == (A, B, "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266")
    with pytest.raises(LocalError, match=r"allow: .* is not an address"):
        allow_list.ordered([A, "0x12"])
