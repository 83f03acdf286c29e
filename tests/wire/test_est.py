"""What device and centre exchange at enrolment, beside the request: token, companion, bodies."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from wire import est
from wire.est import Companion, EstError, Token

TOKEN = Token("demo-t01", "centre.example:8443", bytes(range(16)), b"a" * 16, b"r" * 16)
COMPANION = Companion(b"r" * 32, b"keyset", "broker.example", 8883)


@given(st.builds(Token, *[st.text(max_size=64)] * 2, *[st.binary(min_size=16, max_size=16)] * 3))
def test_a_token_is_one_printable_word_and_is_read_as_it_was_printed(token: Token) -> None:
    word = str(token)
    assert word.isascii()
    assert len(word.split()) == 1
    assert est.read_token(f" {word}\n") == token


@given(st.data())
def test_a_damaged_token_is_refused_and_not_shown(data: st.DataObject) -> None:
    word = str(TOKEN)
    cut = data.draw(st.integers(0, len(word) - 1))
    for text in (word[:cut], word[:cut] + "*" + word[cut + 1 :], word + "é"):
        with pytest.raises(EstError) as refused:
            est.read_token(text)
        assert word[20:60] not in str(refused.value)
    assert TOKEN.secret.hex() not in repr(TOKEN)


def test_a_token_of_another_version_says_what_to_do() -> None:
    from wire import cbor

    other = cbor.encode([2, "demo-t01", "c:1", bytes(16), bytes(16), bytes(16)])
    with pytest.raises(EstError, match="version 2, expected 1; update the agent"):
        est.read_token("loadscape1." + base64.urlsafe_b64encode(other).decode())


def test_the_basic_header_names_the_device_and_holds_the_secret() -> None:
    kind, pair = TOKEN.basic.split()
    assert kind == "Basic"
    assert base64.b64decode(pair) == b"demo-t01:" + TOKEN.secret.hex().encode()


def test_a_companion_comes_out_as_it_went_in() -> None:
    assert est.read_companion(COMPANION.encode()) == COMPANION


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "expected root, keyset and broker"),
        (b"[1]", "expected root, keyset and broker"),
        (b"[" * 50_000, "expected root, keyset and broker"),
        (COMPANION.encode().replace(b"8883", b"70000"), "the broker's host and port"),
        (COMPANION.encode().replace(b"8883", b"true"), "the broker's host and port"),
        (COMPANION.encode().replace(b"72" * 32, b"72" * 31), "32 bytes, came 31"),
        (b"x" * (est.LARGEST_BODY + 1), "at most 65536"),
    ],
)
def test_another_companion_is_refused(body: bytes, said: str) -> None:
    with pytest.raises(EstError, match=said):
        est.read_companion(body)


def test_certificates_travel_as_base64_of_pkcs7() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "demo authority")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 7, now, now + timedelta(days=1))
    ).sign(key, SHA256())
    body = est.certificates_body([certificate])
    assert est.read_certificates(body) == [certificate]
    assert max(map(len, body.splitlines())) <= 76
    version_2 = est.from_body(body).replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x01")
    assert version_2 != est.from_body(body)
    for damaged in (
        est.to_body(version_2),
        b"?",
        body[: len(body) // 2],
        est.to_body(b"\x30\x00"),
        b"A" * 70_000,
    ):
        with pytest.raises(EstError):
            est.read_certificates(damaged)


def test_a_tokens_header_reads_back_as_name_and_secret() -> None:
    token = Token("demo-t01", "centre.example:8884", bytes(range(16)), b"a" * 16, b"r" * 16)
    assert est.read_basic(token.basic) == ("demo-t01", bytes(range(16)))
    for wrong in ("", "Basic", "Bearer eA==", "Basic !", "Basic " + "A" * 600, "Basic eDp6eg=="):
        with pytest.raises(EstError, match="expected the token") as refused:
            est.read_basic(wrong)
        assert refused.value.__cause__ is None
