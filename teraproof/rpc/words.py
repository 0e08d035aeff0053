# SPDX-License-Identifier: Apache-2.0
"""The words of nodes, sorted. Clients agree on few error codes, so the text has to be read.

A text that is on no list is never an answer: it counts against its endpoint, and the next is asked.
"""

from __future__ import annotations

import re
from enum import Enum

from eth_abi.abi import decode as abi_decode
from eth_abi.exceptions import DecodingError

from teraproof.rpc.errors import Reverted, RpcError, TxFault, TxRefused

_ERROR_STRING = bytes.fromhex("08c379a0")  # Error(string)
_PANIC = bytes.fromhex("4e487b71")  # Panic(uint256)
_RUNS_CODE = ("eth_call", "eth_estimateGas")
_HAS_FAULTS = ("eth_sendRawTransaction", "eth_estimateGas")
_LONGEST = 300  # characters of a stranger's text that are kept
_HIGHEST = 10**15  # wei per gas; a floor above a million gwei is nonsense


class Verdict(Enum):
    """What an error object of a node is."""

    ANSWER = "answer"  # about the call or the transaction; another node would say the same
    BLOCK = "block"  # the block or its state is not here
    LIMIT = "limit"  # too many requests
    NEVER = "never"  # the method or its parameters are not to its liking; repeating is of no use
    REFUSED = "refused"  # anything else


def _any(*parts: str) -> re.Pattern[str]:
    return re.compile("|".join(parts), re.IGNORECASE)


_REVERT = _any(
    r"\b(execution|exception|transaction|call|e?vm)\b.{0,60}\brevert",
    r"^\s*revert(ed)?\s*(:|$|with\b|0x)",
)
# The code ran and came to an end by itself. Every node would say so.
_ENDED = _any(
    r"invalid opcode",
    r"opcode 0x[0-9a-f]+ not defined",
    r"bad ?instruction",
    r"\bout ?of ?gas\b",
    r"bad ?jump|invalid jump",
    r"stack (under|over)flow|stack limit reached",
    r"write protection|static state change",
    r"\bmax (init)?code size exceeded",
)
_BLOCK = _any(
    r"header not found",
    r"block ?(is )?not found",
    r"block ?out ?of ?range",
    r"unknown block",
    r"not (currently )?canonical",
    r"missing trie node",
    r"hash not found",
    r"could not find block|block could not be found|blocks? .{0,60}cannot be found",
    r"resource not found",
    r"(historical )?state .{0,80}(is )?(not available|unavailable|pruned)",
    r"(after|beyond|above) (the )?(last|latest|current|head)\b.{0,30}block",
    r"beyond (the )?(current )?head",
    r"block .{0,40}(in the future|has been pruned|not yet)",
)
_LIMIT = _any(
    r"rate.?limit",
    r"too many requests",
    r"request (limit|count)",
    r"requests? per (second|minute|day)|/second",
    r"quota",
    r"capacity limit|compute units?",
    r"throttl|slow down",
)
_LIMIT_CODES = (-32005, -32007, -32016, 429)
NEVER_CODES = (-32600, -32601, -32602)

# The first that fits decides.
_FAULTS: tuple[tuple[TxFault, re.Pattern[str]], ...] = (
    (
        TxFault.REPLACEMENT,
        _any(
            r"replac\w* .{0,40}(underpriced|not allowed|too low)",
            r"replacement_?(underpriced|not_?allowed)",
            r"could not replace",
            r"too low to replace",
            r"(another transaction with|with the|with) same nonce",
        ),
    ),
    (
        TxFault.KNOWN,
        _any(
            r"already ?(known|imported|exists)",
            r"already (been )?(in|sent|submitted|pending)",
            r"known transaction",
            r"duplicate transaction",
        ),
    ),
    (
        TxFault.NONCE,
        _any(
            r"nonce.{0,30}(too|is|already|below|lower|invalid|incorrect|gap|expected)",
            r"(invalid|incorrect|old|bad|wrong|stale).{0,5}(nonce|sequence)",
            r"nonce ?gap",
        ),
    ),
    (
        TxFault.FUNDS,
        _any(
            r"insufficient.{0,5}(funds|balance|eth\b)",
            r"(not|does ?n.t have) enough (funds|balance|eth\b)",
            r"exceeds? (the )?(account |sender )?.{0,10}balance",
            r"overdraft",
            r"gas required exceeds allowance",
        ),
    ),
    (
        TxFault.FEE_CAP,
        _any(
            r"(max ?fee|fee ?cap|gas ?price|gas fee).{0,40}(less|low|below|under).{0,30}base ?fee",
        ),
    ),
    (
        TxFault.GAS,
        _any(
            r"intrinsic gas",
            r"exceeds.{0,20}(block )?gas ?limit",
            r"gas ?limit.{0,30}(too|exceed|reached|above|below|greater)",
            r"floor data gas",
            r"exceeds the configured cap",
        ),
    ),
    (
        TxFault.TYPE,
        _any(
            r"(transaction|tx|envelope) ?type.{0,30}(not|un)",
            r"(unsupported|invalid|unknown).{0,12}(transaction|tx|envelope) ?type",
            r"(eip-?1559|eip-?2718|typed transactions?|dynamic fee).{0,40}(not|un|before)",
            r"rlp: expected (input )?list",
        ),
    ),
    (
        TxFault.UNDERPRICED,
        _any(
            r"underpriced",
            r"(tip|priority fee|gas ?price|fees?)\b.{0,60}(too ?low|below|less than|minimum|under)",
            r"fee ?too ?low",
            r"insufficient fees?",
            r"min(imum)? gas ?price",
        ),
    ),
)
_LEAST = re.compile(
    r"(?:minimum|needed|required|at least|expected|\bmin\b)\D{0,30}?"
    r"(\d[\d_,]*(?:\.\d+)?)\s*(gwei|wei)?",
    re.IGNORECASE,
)


def sort(method: str, error: RpcError) -> tuple[Verdict, RpcError | Reverted]:
    """What a node's error to a `method` is, and the error to raise for it."""
    if method in _RUNS_CODE:
        reverted = as_revert(error)
        if reverted is not None:
            # The rest of the message is the contract's: it must not pass for the node's.
            return Verdict.ANSWER, reverted
    if method in _HAS_FAULTS:
        refused = as_fault(error)
        if refused is not None:
            return Verdict.ANSWER, refused
    if _BLOCK.search(error.message):
        return Verdict.BLOCK, error
    # To a request for logs, "limit" may speak of the range as well as of the rate.
    if method != "eth_getLogs" and (error.number in _LIMIT_CODES or _LIMIT.search(error.message)):
        return Verdict.LIMIT, error
    return (Verdict.NEVER if error.number in NEVER_CODES else Verdict.REFUSED), error


def as_fault(error: RpcError) -> TxRefused | None:
    """What a node has against a transaction, or None when the error is about something else."""
    for fault, pattern in _FAULTS:
        if pattern.search(error.message):
            return TxRefused(error, fault, _least(error.message))
    return None


def _least(text: str) -> int | None:
    """The floor in wei per gas that a refusal names."""
    found = []
    for number, unit in _LEAST.findall(text):
        plain = number.replace(",", "").replace("_", "")
        factor = 10**9 if unit.lower() == "gwei" else 1
        if len(plain) <= 30:
            found.append(int(float(plain) * factor) if "." in plain else int(plain) * factor)
    least = max(found, default=0)
    return least if 0 < least <= _HIGHEST else None


def as_revert(error: RpcError) -> Reverted | None:
    """The contract's refusal in a node's error, or None when the error is about something else."""
    data = _data(error.data)
    known = data is not None and data[:4] in (_ERROR_STRING, _PANIC)
    if error.number != 3 and not known and not _REVERT.search(error.message):
        ended = _ENDED.search(error.message)
        return Reverted(error.message) if ended else None
    if data is not None:
        return Reverted(revert_reason(data))
    text = error.message
    for prefix in ("execution reverted", "VM Exception while processing transaction: revert"):
        text = text.removeprefix(prefix)
    return Reverted(text.strip(" :,") or "no reason given")


def _data(raw: object) -> bytes | None:
    """What a failed call returned; clients wrap it in several ways."""
    if isinstance(raw, dict):
        raw = raw.get("data") or raw.get("result")
    if not isinstance(raw, str):
        return None
    text = raw.removeprefix("Reverted").strip()
    if not text.startswith("0x"):
        return None
    try:
        return bytes.fromhex(text[2:])
    except ValueError:
        return None


def revert_reason(data: bytes) -> str:
    """The reason in what a failed call returned: Error(string), Panic(uint256), or the bytes."""
    try:
        if data[:4] == _ERROR_STRING:
            return one_line(abi_decode(["string"], data[4:])[0])
        if data[:4] == _PANIC:
            return f"panic 0x{abi_decode(['uint256'], data[4:])[0]:02x}"
    except (DecodingError, UnicodeDecodeError, OverflowError):
        return f"unreadable reason 0x{data[:36].hex()}"
    return f"0x{data[:36].hex()}" if data else "no reason given"


def one_line(text: object) -> str:
    """A stranger's text in one short line that a terminal may show."""
    plain = "".join(c if c.isprintable() else " " for c in str(text)[: 4 * _LONGEST])
    return " ".join(plain.split())[:_LONGEST]
