# SPDX-License-Identifier: Apache-2.0
"""The generator of the contract classes, on small contracts of its own and on ours."""

from __future__ import annotations

import ast
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from eth_abi.abi import encode
from eth_utils.crypto import keccak
from vyper.cli.vyper_compile import get_search_paths
from vyper.compiler.input_bundle import FilesystemInputBundle
from vyper.compiler.phases import CompilerData

from teraproof.contracts import deals, jobs, staking
from teraproof.rpc.errors import ChainError
from teraproof.rpc.types import Log
from tools.sdk import __main__ as sdk
from tools.sdk.types import SdkError, snake
from tools.sdk.writer import Base, Writer

ALICE = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
SHELF = '''# pragma version 0.4.3
# pragma nonreentrancy on
"""
@title A shelf of words
"""

struct Page:
    number: uint256
    text: Bytes[8]  # as it was written

event Kept:
    owner: indexed(address)
    pages: DynArray[uint256, 4]  # their numbers

# How many fit.
ROOM: public(constant(uint256)) = 7

@external
@view
def page(number: uint256) -> Page:
    """
    @notice Returns a page.
    @param number From 0.
    @return The page.
    """
    return Page(number=number, text=b"")

@external
@view
def ownerOf(number: uint256, later: uint256 = 0) -> address:
    return self

@external
def keep(owner: address, pages: DynArray[Page, 4], note: String[9] = ""):
    """@notice Keeps pages."""
    log Kept(owner=owner, pages=[1])
'''


class Node:
    """Answers every call with the same bytes."""

    def __init__(self, answer: bytes = b"") -> None:
        self.answer, self.asked = answer, b""

    def eth_call(self, to: str, data: bytes, block: object) -> bytes:
        self.asked = data
        return self.answer


def write(tmp_path: Path, text: str) -> str:
    source = tmp_path / "Shelf.vy"
    source.write_text(text)
    bundle = FilesystemInputBundle(get_search_paths([str(tmp_path)], True))
    return Writer("Shelf", "Shelf.vy", CompilerData(bundle.load_file(source), bundle)).text()


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    module = ModuleType("shelf")
    monkeypatch.setitem(sys.modules, "shelf", module)
    exec(compile(write(tmp_path, SHELF), "shelf.py", "exec", dont_inherit=True), module.__dict__)
    return module


def selector(signature: str) -> bytes:
    return bytes(keccak(text=signature))[:4]


def test_views__arguments_go_out_and_typed_values_come_back(shelf: Any) -> None:
    node = Node(encode(["(uint256,bytes)"], [(3, b"word")]))
    contract = shelf.ShelfContract(node, ALICE.lower())
    assert contract.address == ALICE
    assert contract.page(3, "latest") == shelf.Page(number=3, text=b"word")
    assert node.asked == selector("page(uint256)") + encode(["uint256"], [3])
    node.answer = encode(["address"], [ALICE.lower()])
    assert contract.owner_of(1, "latest") == ALICE
    assert node.asked[:4] == selector("ownerOf(uint256)")
    assert contract.owner_of(1, "latest", later=5) == ALICE
    assert node.asked == selector("ownerOf(uint256,uint256)") + encode(["uint256"] * 2, [1, 5])


@pytest.mark.parametrize(
    "answer", [b"", b"\x00" * 31, b"\xff" * 64], ids=["none", "short", "other"]
)
def test_views__not_what_the_contract_returns__one_line(shelf: Any, answer: bytes) -> None:
    contract = shelf.ShelfContract(Node(answer), ALICE)
    with pytest.raises(ChainError, match="check the contract addresses"):
        contract.page(3, "latest")


def test_calls__calldata_that_the_contract_reads(shelf: Any) -> None:
    contract = shelf.ShelfContract(Node(), ALICE)
    pages = [shelf.Page(1, b"a"), shelf.Page(2, b"b")]
    types = ["address", "(uint256,bytes)[]"]
    assert contract.keep(ALICE, pages) == (
        selector("keep(address,(uint256,bytes)[])") + encode(types, [ALICE, pages])
    )
    assert contract.keep(ALICE, pages, "x") == (
        selector("keep(address,(uint256,bytes)[],string)")
        + encode([*types, "string"], [ALICE, pages, "x"])
    )


def kept(topics: list[bytes], data: bytes, address: str = ALICE) -> Log:
    topic = bytes(keccak(text="Kept(address,uint256[])"))
    return Log(address, (topic, *topics), data, 1, b"b", b"t", 0)


def test_events__typed(shelf: Any) -> None:
    entry = kept([encode(["address"], [ALICE])], encode(["uint256[]"], [[4, 5]]))
    contract = shelf.ShelfContract(Node(), ALICE)
    assert contract.decode(entry) == shelf.Kept(at=entry, owner=ALICE, pages=(4, 5))


def test_events__of_others_or_unreadable__none(shelf: Any) -> None:
    owner, data = encode(["address"], [ALICE]), encode(["uint256[]"], [[4, 5]])
    contract = shelf.ShelfContract(Node(), ALICE)
    assert contract.decode(kept([owner], data, "0x" + "01" * 20)) is None
    assert contract.decode(kept([owner], data[:-1])) is None
    assert contract.decode(kept([], data)) is None
    assert contract.decode(Log(ALICE, (b"\x01" * 32,), data, 1, b"b", b"t", 0)) is None
    assert contract.decode(Log(ALICE, (), data, 1, b"b", b"t", 0)) is None


def test_words__notice_parameters_and_comments(tmp_path: Path) -> None:
    tree = ast.parse(write(tmp_path, SHELF))
    (found,) = [each for each in tree.body if getattr(each, "name", "") == "ShelfContract"]
    assert isinstance(found, ast.ClassDef)
    said = {
        each.name: ast.get_docstring(each) or ""
        for each in found.body
        if isinstance(each, ast.FunctionDef)
    }
    assert ast.get_docstring(found) == "A shelf of words."
    assert said["room"] == "How many fit."
    assert said["page"].startswith("Returns a page.")
    assert "number: From 0." in said["page"]
    assert '"""As it was written."""' in write(tmp_path, SHELF)


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("@external\n@view\ndef two() -> (uint256, uint256):\n    return 1, 2", "name its values"),
        ("kept: public(HashMap[address, uint256])", "name its keys"),
        ("rpc: public(uint256)", "taken"),
        ("aWord: public(uint256)\na_word: public(uint256)", "taken"),
    ],
)
def test_what_cannot_be_named_is_refused(tmp_path: Path, code: str, why: str) -> None:
    text = f'# pragma version 0.4.3\n"""\n@title A shelf\n"""\n{code}\n'
    with pytest.raises(SdkError, match=why):
        write(tmp_path, text)


DRAWER = """# pragma version 0.4.3
event Kept:
    number: indexed(uint256)

ROOM: public(constant(uint256)) = 7
kept: public(uint256)

@external
def keep(number: uint256):
    self.kept = number
    log Kept(number=number)
"""
DESK = '''# pragma version 0.4.3
"""
@title {title}
"""
import Drawer
initializes: Drawer
exports: ({exports})

event Written:
    number: uint256

@external
def write(number: uint256):
    log Written(number=number)
'''


@pytest.fixture
def desks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Two contracts that take a drawer in, one of them with its room, and their base."""
    (tmp_path / "Drawer.vy").write_text(DRAWER)
    exports = {"Desk": "Drawer.keep, Drawer.kept", "Table": "Drawer.keep, Drawer.kept, Drawer.ROOM"}
    bundle = FilesystemInputBundle(get_search_paths([str(tmp_path)], True))
    compiled = {}
    for name, taken in exports.items():
        source = tmp_path / f"{name}.vy"
        source.write_text(DESK.format(title=name, exports=taken))
        compiled[name] = CompilerData(bundle.load_file(source), bundle)
    base = Base.of("Furniture", compiled)
    texts = {"furniture": Writer("Desk", "Desk.vy", compiled["Desk"], base, write_base=True).text()}
    texts |= {
        name.lower(): Writer(name, f"{name}.vy", data, base).text()
        for name, data in compiled.items()
    }
    modules: dict[str, Any] = {}
    for name, text in texts.items():
        modules[name] = module = ModuleType(f"teraproof.contracts.{name}")
        monkeypatch.setitem(sys.modules, module.__name__, module)
        exec(compile(text, f"{name}.py", "exec", dont_inherit=True), module.__dict__)
    return modules


def own(kind: type[Any]) -> set[str]:
    """The methods that a class does not inherit."""
    return {name for name, value in vars(kind).items() if callable(value)}


def test_shared__what_contracts_take_from_the_same_source_is_written_once(
    desks: dict[str, Any],
) -> None:
    parent = desks["furniture"].FurnitureContract
    assert own(parent) == {"keep", "kept"}
    assert own(desks["desk"].DeskContract) == {"write"}, "the same words, not the same source"
    assert own(desks["table"].TableContract) == {"write", "room"}, "only one of them has room"
    assert issubclass(desks["desk"].DeskContract, parent)
    assert parent.__doc__ == "What Desk and Table have alike."


def test_shared__calls_and_events_are_those_of_the_contract(desks: dict[str, Any]) -> None:
    kept, table = desks["furniture"].Kept, desks["table"]
    contract = table.TableContract(Node(encode(["uint256"], [7])), ALICE)
    assert contract.keep(3) == selector("keep(uint256)") + encode(["uint256"], [3])
    assert contract.room("latest") == contract.kept("latest") == 7
    data = encode(["uint256"], [5])
    topics = [bytes(keccak(text=f"{name}(uint256)")) for name in ("Kept", "Written")]
    entry = Log(ALICE, (topics[0], data), b"", 1, b"b", b"t", 0)
    assert contract.decode(entry) == kept(at=entry, number=5)
    entry = Log(ALICE, (topics[1],), data, 1, b"b", b"t", 0)
    assert contract.decode(entry) == table.Written(at=entry, number=5)


def abi_of(contract: str) -> tuple[set[str], set[bytes]]:
    """The functions, and the topics of the events, that the compiler knows."""
    source = sdk.CONTRACTS / sdk.SOURCES[contract]
    bundle = FilesystemInputBundle(get_search_paths([str(sdk.ROOT), str(sdk.CONTRACTS)], True))
    module = CompilerData(bundle.load_file(source), bundle).annotated_vyper_module
    kind = module._metadata["type"]
    functions = {snake(each.name) for each in kind.exposed_functions} - {"__default__"}
    events = {int(each.event_id).to_bytes(32) for each in kind.interface.events.values()}
    return functions, events


@pytest.mark.parametrize("contract", [each for shared in sdk.SHARED.values() for each in shared])
def test_shared__no_function_and_no_event_is_lost(contract: str) -> None:
    module = import_module(f"teraproof.contracts.{snake(contract)}")
    written = getattr(module, f"{contract}Contract")
    functions, events = abi_of(contract)
    assert functions <= set(dir(written))
    assert {kind.TYPE.topic for kind in written.EVENTS} == events
    assert len(written.EVENTS) == len(events)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("totalSupply", "total_supply"),
        ("eip712Domain", "eip712_domain"),
        ("BOND", "bond"),
        ("DOMAIN_SEPARATOR", "domain_separator"),
        ("owner_assets", "owner_assets"),
    ],
)
def test_snake(name: str, expected: str) -> None:
    assert snake(name) == expected


def test_check__a_changed_file_is_stale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sdk, "FOLDER", tmp_path)
    monkeypatch.setattr(sdk, "SOURCES", {"Timelock": "Timelock.vy"})
    assert sdk.main(["check"]) == 1, "there is none"
    assert sdk.main([]) == 0
    assert sdk.main(["check"]) == 0
    file = tmp_path / "timelock.py"
    file.write_text(file.read_text().replace("bool", "int", 1))
    capsys.readouterr()
    assert sdk.main(["check"]) == 1
    assert (
        capsys.readouterr().err == "error: teraproof/contracts/timelock.py is stale; run make sdk\n"
    )
    assert sdk.main(["chek"]) == 2


# ---------------------------------------------------------------------- events on a chain


class Logs:
    """A node that keeps what it is asked for, and has no logs."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def head(self) -> Any:
        return type("Head", (), {"number": 9})

    def logs(self, addresses: list[str], first: int, last: int, topics: list[Any]) -> list[Log]:
        self.asked.append((addresses, first, last, topics))
        return []


def topic(kind: type[Any]) -> str:
    return f"0x{kind.TYPE.topic.hex()}"


def word(address: str) -> str:
    return "0x" + encode(["address"], [address]).hex()


def test_find__asks_for_the_kind_and_its_indexed_values() -> None:
    node = Logs()
    contract = jobs.JobsContract(node, ALICE)  # type: ignore[arg-type]
    assert contract.find(jobs.Posted, 3) == []
    assert contract.find(jobs.Posted, 3, 5, requester=ALICE) == []
    assert contract.find(jobs.Posted, 3, job=[b"\x01" * 32, b"\x02" * 32]) == []
    ids = ["0x" + "01" * 32, "0x" + "02" * 32]
    assert node.asked == [
        ([ALICE], 3, 9, [[topic(jobs.Posted)]]),
        ([ALICE], 3, 5, [[topic(jobs.Posted)], None, [word(ALICE)]]),
        ([ALICE], 3, 9, [[topic(jobs.Posted)], ids]),
    ]


def test_find_any__kinds_with_more_and_fewer_indexed_arguments() -> None:
    node = Logs()
    contract = staking.StakingContract(node, ALICE)  # type: ignore[arg-type]
    kinds = (staking.OwnershipTransferred, staking.ManagerAnnounced, staking.Sealed)
    assert contract.find_any(kinds, 0) == []
    assert node.asked[0][3] == [[topic(kind) for kind in kinds]]
    both = (staking.Registered, staking.EndpointChanged)
    assert contract.find_any(both, 0, provider=ALICE) == []
    assert node.asked[1][3] == [[topic(kind) for kind in both], [word(ALICE)]]


def test_find__none_of_no_values_asks_nobody() -> None:
    """To a node an empty list would mean any value."""
    node = Logs()
    contract = jobs.JobsContract(node, ALICE)  # type: ignore[arg-type]
    assert contract.find(jobs.Posted, 0, job=[]) == []
    assert node.asked == []


def test_find__arguments_that_are_not_indexed_are_refused() -> None:
    contract = jobs.JobsContract(Logs(), ALICE)  # type: ignore[arg-type]
    with pytest.raises(KeyError, match="not indexed by terms"):
        contract.find(jobs.Posted, 0, terms=1)
    with pytest.raises(KeyError, match="indexed differently"):
        contract.find_any((jobs.Accepted, deals.QuotesCancelled), 0, operator=ALICE)
