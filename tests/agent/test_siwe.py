# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace

import pytest
from eth_account import Account
from eth_account.messages import encode_defunct
from hypothesis import given
from hypothesis import strategies as st

from teraproof.errors import AuthError
from teraproof.protocol import siwe
from teraproof.protocol.messages import recover_signer
from teraproof.rpc.errors import ChainError, Reverted

KEY = Account.from_key(b"\x01" * 32)
OTHER = Account.from_key(b"\x02" * 32)
NOW = 1_800_000_000
URL = "https://gpu.example:8443"
EXPECTED = siwe.Expected.at(URL, 11_155_111)
NONCE = "0123456789abcdef"
WALLET = "0x00000000000000000000000000000000000A11cE"


class Nonces:
    """Holds one nonce."""

    def __init__(self) -> None:
        self.left = {NONCE}

    def consume_nonce(self, value: str, now: int) -> bool:
        found = value in self.left
        self.left.discard(value)
        return found


def no_contract(to: str, data: bytes) -> bytes:
    return b""


def message() -> siwe.Message:
    return siwe.new_message(URL, KEY.address, 11_155_111, NONCE, NOW)


def personal_sign(text: str, key: object = KEY) -> bytes:
    return bytes(key.sign_message(encode_defunct(text=text)).signature)  # type: ignore[attr-defined]  # a key


def check(text: str, signature: bytes, nonces: Nonces | None = None, now: int = NOW) -> str:
    return siwe.verify(text, signature, EXPECTED, nonces or Nonces(), no_contract, now)


# The example of EIP-4361.
EXAMPLE = """example.com wants you to sign in with your Ethereum account:
0xC02aaA39b223FE8D0A0e5C4F27eAD9083C756Cc2

I accept the ExampleOrg Terms of Service: https://example.com/tos

URI: https://example.com/login
Version: 1
Chain ID: 1
Nonce: 32891756
Issued At: 2021-09-30T16:25:24Z
Resources:
- ipfs://bafybeiemxf5abjwjbikoz4mc3a3dla6ual3jsgpdr4cjr3oz3evfyavhwq/
- https://example.com/my-web2-claim.json"""


def test_parse__example_of_the_standard__every_field() -> None:
    parsed = siwe.parse(EXAMPLE)
    assert parsed.text() == EXAMPLE
    assert parsed.domain == "example.com"
    assert parsed.scheme is None
    assert parsed.chain_id == 1
    assert parsed.nonce == "32891756"
    assert parsed.statement is not None and parsed.statement.startswith("I accept")
    assert len(parsed.resources) == 2


def test_parse__no_statement__two_empty_lines() -> None:
    text = replace(message(), statement=None).text()
    assert "\n\n\nURI" in text
    assert siwe.parse(text).statement is None


def test_parse__all_optional_fields__reads_back() -> None:
    full = replace(
        message(), not_before=siwe.rfc3339(NOW), request_id="r-1", resources=("ipfs://x", "urn:y")
    )
    assert siwe.parse(full.text()) == full


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Version: 1", "Version: 2"),
        ("Version: 1", "Version: 01"),
        ("Chain ID: 1\n", "Chain ID: 01\n"),
        ("Chain ID: 1\n", "Chain ID: 0x1\n"),
        ("Chain ID: 1\n", "Chain ID: 1\r\n"),
        ("Chain ID: 1\n", "Chain ID: \u0661\n"),
        ("Nonce: 32891756", "Nonce: short"),
        ("Nonce: 32891756", "Nonce: 3289-1756"),
        ("Nonce: 32891756\n", ""),
        ("0xC02aaA39", "0xc02aaa39"),
        ("0xC02aaA39", "C02aaA39"),
        ("2021-09-30T16:25:24Z", "2021-09-31T16:25:24Z"),
        ("2021-09-30T16:25:24Z", "2021-09-30 16:25:24Z"),
        ("2021-09-30T16:25:24Z", "2021-09-30T16:25:24"),
        ("Issued At", "Issued at"),
        ("- https", "* https"),
        ("tos\n", "tos\n\n"),
        ("tos\n", "tos\nURI: https://evil.example\n"),
        ("URI: https", "URI:https"),
        ("URI: https://example.com/login", "URI: login"),
        ("wants you", "want you"),
        ("example.com wants", "example.com/ wants"),
        ("I accept", "I\taccept"),
        ("claim.json", "claim.json\n"),
        ("Resources:", "Request ID: a b\nResources:"),
    ],
)
def test_parse__one_thing_wrong__refused(old: str, new: str) -> None:
    assert old in EXAMPLE
    with pytest.raises(AuthError) as caught:
        siwe.parse(EXAMPLE.replace(old, new, 1))
    assert "\n" not in str(caught.value)


@given(st.text(max_size=200))
def test_parse__noise__auth_error(text: str) -> None:
    with pytest.raises(AuthError):
        siwe.parse(text)


@given(st.integers(0, len(EXAMPLE) - 1), st.characters())
def test_parse__one_character_changed__same_text_or_refused(at: int, char: str) -> None:
    text = EXAMPLE[:at] + char + EXAMPLE[at + 1 :]
    try:
        parsed = siwe.parse(text)
    except AuthError:
        return
    assert parsed.text() == text


def test_parse__too_long__refused() -> None:
    with pytest.raises(AuthError, match="longer than"):
        siwe.parse(EXAMPLE + "\n- urn:x" * 1_000)


def test_verify__signed__gives_address() -> None:
    text = message().text()
    assert check(text, personal_sign(text)) == KEY.address
    assert siwe.personal_digest(text) == bytes(KEY.sign_message(encode_defunct(text=text))[0])


def test_verify__replayed__refused() -> None:
    text, nonces = message().text(), Nonces()
    check(text, personal_sign(text), nonces)
    with pytest.raises(AuthError, match="nonce is unknown, used"):
        check(text, personal_sign(text), nonces)


def test_verify__wrong_signer__refused_and_nonce_spent() -> None:
    text, nonces = message().text(), Nonces()
    with pytest.raises(AuthError, match=f"not signed by {KEY.address}"):
        check(text, personal_sign(text, OTHER), nonces)
    with pytest.raises(AuthError, match="nonce"):
        check(text, personal_sign(text), nonces)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"domain": "gpu.example"}, "domain is not gpu.example:8443"),
        ({"domain": "evil.example"}, "domain"),
        ({"scheme": "http"}, "scheme is not https"),
        ({"uri": "https://evil.example:8443"}, "URI is not"),
        ({"uri": "https://gpu.example:8443/x"}, "URI is not"),
        ({"chain_id": 1}, "chain id is not 11155111"),
        ({"nonce": "f" * 16}, "nonce is unknown"),
        ({"issued_at": siwe.rfc3339(NOW + 61)}, "in the future"),
        ({"issued_at": siwe.rfc3339(NOW - 661)}, "too long ago"),
        ({"expiration_time": siwe.rfc3339(NOW)}, "has expired"),
        ({"not_before": siwe.rfc3339(NOW + 61)}, "not valid yet"),
    ],
)
def test_verify__not_for_this_server_or_time__refused(
    changes: dict[str, object], line: str
) -> None:
    text = replace(message(), **changes).text()  # type: ignore[arg-type]  # values differ by field
    with pytest.raises(AuthError, match=line):
        check(text, personal_sign(text))


def test_verify__clocks_differ_by_the_allowance__accepted() -> None:
    for changes in (
        {"issued_at": siwe.rfc3339(NOW + 60)},
        {"issued_at": siwe.rfc3339(NOW - 660)},
        {"not_before": siwe.rfc3339(NOW + 60)},
        {"expiration_time": siwe.rfc3339(NOW + 1)},
        {"expiration_time": None},
        {"uri": URL + "/"},
        {"scheme": None},
    ):
        text = replace(message(), **changes).text()
        assert check(text, personal_sign(text)) == KEY.address


def contract(owner: str) -> siwe.EthCall:
    def call(to: str, data: bytes) -> bytes:
        assert to == WALLET
        if recover_signer(data[4:36], data[100:165]) != owner:
            raise Reverted("not an owner")
        return bytes.fromhex("1626ba7e") + bytes(28)

    return call


def test_verify__contract_wallet__asks_the_contract() -> None:
    text = replace(message(), address=WALLET).text()
    signature = personal_sign(text)
    found = siwe.verify(text, signature, EXPECTED, Nonces(), contract(KEY.address), NOW)
    assert found == WALLET
    with pytest.raises(AuthError, match="not signed by"):
        siwe.verify(text, signature, EXPECTED, Nonces(), contract(OTHER.address), NOW)
    with pytest.raises(AuthError, match="not signed by"):
        siwe.verify(text, signature, EXPECTED, Nonces(), no_contract, NOW)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        bytes.fromhex("1626ba7e"),
        bytes.fromhex("ffffffff") + bytes(28),
        bytes(28) + bytes.fromhex("1626ba7e"),
        bytes.fromhex("1626ba7e") + bytes(27) + b"\x01",
        bytes.fromhex("1626ba7e") + bytes(60),
    ],
)
def test_signed_by__contract_answers_anything_else__no(answer: bytes) -> None:
    assert not siwe.signed_by(WALLET, b"\x01" * 32, b"\x02" * 65, lambda to, data: answer)


def test_signed_by__chain_down__error_is_not_a_no() -> None:
    def down(to: str, data: bytes) -> bytes:
        raise ChainError("no endpoint answers")

    with pytest.raises(ChainError):
        siwe.signed_by(WALLET, b"\x01" * 32, b"\x02" * 65, down)


def test_signed_by__empty_or_huge_signature__no_call() -> None:
    def never(to: str, data: bytes) -> bytes:
        raise AssertionError

    for signature in (b"", bytes(siwe.MAX_SIGNATURE_BYTES + 1)):
        assert not siwe.signed_by(WALLET, b"\x01" * 32, signature, never)


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://a.example", "a.example"),
        ("https://a.example:443/", "a.example"),
        ("http://a.example:443", "a.example:443"),
        ("http://127.0.0.1:8080", "127.0.0.1:8080"),
        ("http://[::1]:8080/", "[::1]:8080"),
    ],
)
def test_authority__url__origin(url: str, host: str) -> None:
    assert siwe.authority(url) == host


@pytest.mark.parametrize(
    "url",
    [
        *("", "a.example", "ftp://a", "http://", "http://u@a", "http://a:x"),
        *("http://a/x", "http://a//", "http://a?", "http://a/?q", "http://a#", "http://a/#f"),
    ],
)
def test_authority__no_web_url__refused(url: str) -> None:
    with pytest.raises(AuthError):
        siwe.authority(url)


@pytest.mark.parametrize("v", [0, 1, 27, 28])
def test_signed_by__last_byte_as_wallets_write_it(v: int) -> None:
    """Hardware wallets end a signature with 0 or 1, others with 27 or 28."""

    def no_contract(to: str, data: bytes) -> bytes:
        return b""

    account = Account.from_key("0x" + "42" * 32)
    for number in range(64):
        digest = number.to_bytes(32, "big")
        signature = bytes(account.unsafe_sign_hash(digest).signature)
        if signature[64] % 27 == v % 27:
            break
    made = signature[:64] + bytes([v])
    assert siwe.signed_by(account.address, digest, made, no_contract)
    other = signature[:64] + bytes([v ^ 1 if v < 2 else 55 - v])
    assert not siwe.signed_by(account.address, digest, other, no_contract)
