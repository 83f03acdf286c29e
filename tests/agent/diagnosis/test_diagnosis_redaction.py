"""Names become pseudonyms that last, secrets are blanked, and a last gate looks again."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.diagnosis.redaction import (
    BLANK,
    NamesDamaged,
    Pseudonyms,
    Redactor,
    SecretFound,
    secret_forms,
)

NAMES = st.lists(
    st.text("abcdefXYZ-_.019", min_size=6, max_size=12), min_size=1, max_size=5, unique=True
)


@given(NAMES, st.lists(st.text("abc -_.019:/", max_size=6), min_size=6, max_size=6))
def test_no_long_name_survives_whatever_stands_around_it(
    names: list[str], around: list[str]
) -> None:
    redactor = Redactor(Pseudonyms())
    redactor.secret(names)
    text = "".join(part for pair in zip(around, [*names, ""], strict=False) for part in pair)
    shown = redactor.named(text)
    for name in names:
        assert name not in shown.replace(BLANK, "\0")


@given(NAMES)
def test_a_name_has_one_pseudonym_and_no_two_names_share_one(names: list[str]) -> None:
    pseudonyms = Pseudonyms()
    given_out = [pseudonyms.of("meter", name) for name in names]
    assert len(set(given_out)) == len(names)
    assert [pseudonyms.of("meter", name) for name in names] == given_out


def test_a_short_name_is_replaced_as_a_word_only() -> None:
    redactor = Redactor(Pseudonyms())
    redactor.name("meter", "m3")
    assert redactor.text("meter m3: no answer; m3, m30 and am3") == (
        "meter meter-1: no answer; meter-1, m30 and am3"
    )


def test_the_longer_of_two_names_wins() -> None:
    redactor = Redactor(Pseudonyms())
    redactor.name("meter", "house-1")
    redactor.name("meter", "house-12")
    assert redactor.text("house-12, house-1") == "meter-2, meter-1"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("10.1.2.3 refused", "address"),
        ("[2001:db8::17]:8883", "address"),
        ("b8:27:eb:01:02:03", "address"),
        ("/home/vorname/agent.toml", "user"),
        ("stream 0123456789abcdef", "id"),
    ],
)
def test_what_looks_like_an_address_or_a_key_is_replaced(text: str, kind: str) -> None:
    assert f"{kind}-1" in Redactor(Pseudonyms()).text(text)


@pytest.mark.parametrize(
    "text", ["12:30:45", "2026-11-22T19:00:00Z", "127.0.0.1:8883", "1774699260", "deadbeef", "a::b"]
)
def test_times_numbers_and_this_machine_itself_stay(text: str) -> None:
    expected = "address-1" if text == "a::b" else text
    assert Redactor(Pseudonyms()).text(text) == expected


def test_values_are_redacted_throughout_keys_and_numbers_included() -> None:
    redactor = Redactor(Pseudonyms())
    redactor.name("meter", "m3")
    redactor.secret(["8472910"])
    value = {"meter m3": [{"deep": "m3"}, 8472910, 5, None, True]}
    assert redactor.value(value) == {"meter meter-1": [{"deep": "meter-1"}, BLANK, 5, None, True]}


def test_the_gate_refuses_a_secret_in_each_of_its_forms() -> None:
    seed = bytes(range(32))
    redactor = Redactor(Pseudonyms())
    redactor.secret(secret_forms(seed.hex().encode() + b"\n"))
    redactor.refuse_secrets("status.json", "nothing is in here")
    for form in (seed.hex(), seed.hex().upper(), base64.b64encode(seed).decode()):
        with pytest.raises(SecretFound, match=r"status\.json: expected no secret"):
            redactor.refuse_secrets("status.json", f"before {form} after")


def test_pseudonyms_are_kept_for_this_user_only_and_last(tmp_path: Path) -> None:
    file = tmp_path / "names.json"
    first = Pseudonyms.load(file)
    assert first.of("host", "broker.example") == "host-1"
    first.save(file)
    assert file.stat().st_mode & 0o777 == 0o600
    second = Pseudonyms.load(file)
    assert second.of("host", "other.example") == "host-2"
    assert second.of("host", "broker.example") == "host-1"


@pytest.mark.parametrize("content", ["{", json.dumps(["m3"]), json.dumps({"meter-1": 3})])
def test_a_damaged_file_of_pseudonyms_is_named(tmp_path: Path, content: str) -> None:
    file = tmp_path / "names.json"
    file.write_text(content)
    with pytest.raises(NamesDamaged, match=r"names\.json: expected .* move the file away"):
        Pseudonyms.load(file)
