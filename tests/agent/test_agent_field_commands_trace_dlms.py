"""`trace` on DLMS lines: frames, packets, mode E and noise, APDUs deciphered, no secret shown."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from commands_bench import (
    AUTHENTICATION_KEY,
    BAUD,
    ENCRYPTION_KEY,
    Bench,
    Recording,
    ciphered_line,
    dlms_line,
    give_keys,
    prepare,
)

from agent.commands.passed import Passed
from agent.commands.trace_dlms import DlmsTrace
from agent.dlms.link.frame import frame
from hil.line.faults import Faulty, before, well
from hil.line.mode_e import ModeE
from hil.line.pty import PtyLine, served
from hil.meters.dlms.bus import DlmsBus
from hil.meters.dlms.meter import DlmsMeter
from wire.clock import SystemClock


def traced(
    bench: Bench, capsys: pytest.CaptureFixture[str], *words: str
) -> tuple[list[dict[str, Any]], dict[str, Any], str]:
    bench.say("trace", *words, "--json", "--seconds", "0.4")
    said = capsys.readouterr()
    *passed, summary = [json.loads(line) for line in said.out.splitlines()]
    return passed, summary, said.out + said.err


def test_frames_and_apdus_are_told_in_words_and_the_password_is_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = prepare(tmp_path)
    with served(dlms_line(tmp_path)):
        assert bench.say("trace", "d17", "--seconds", "0.3") == 0
        said = capsys.readouterr().out
        passed, summary, _ = traced(bench, capsys, "d17")
    assert re.search(r"^ +\d+\.\d -> 1/17 client 1 SNRM P, info 2030/2030, window 7/7 ", said, re.M)
    assert re.search(
        r"^ +\d+\.\d <- 1/17 client 1 I N\(S\)=0 N\(R\)=1 F +frame +7E A0 ", said, re.M
    )
    assert re.search(r"^ +-> aarq LN, password, 9 bytes not shown", said, re.M)
    assert "D0000017" in said
    assert b"loadscape".hex(" ").upper() not in said
    assert b"loadscape".hex() not in json.dumps(passed)
    assert {one["verdict"] for one in passed} == {"frame", "apdu"}
    assert summary["meters"]["d17"]["failed"] == 0


def test_a_password_cut_into_several_frames_is_not_shown_either() -> None:
    shown: list[Passed] = []
    trace = DlmsTrace(shown.append, SystemClock(), wrapper=False, mode_e=False)
    aarq = b"\xe6\xe6\x00\x60\x1a" + b"x" * 10 + b"loadscape" + b"y" * 5
    cuts = [aarq[at : at + 8] for at in range(0, len(aarq), 8)]
    for number, part in enumerate(cuts):
        more = number < len(cuts) - 1
        trace.passed("sent", frame(b"\x02\x23", b"\x03", 0x10 | number << 1, part, segmented=more))
    trace.passed("sent", frame(b"\x02\x23", b"\x03", 0x18, b"\xe6\xe6\x00\xc0\x01"))
    *opening, after = [passed.hex() for passed in shown]
    assert len(opening) == len(cuts)
    for part, text in zip(cuts, opening, strict=True):
        assert "**" * len(part) in text
    assert "*" not in after


def test_what_is_ciphered_is_shown_deciphered_and_no_key_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = prepare(tmp_path)
    give_keys(bench, "d17")
    with served(ciphered_line(tmp_path)):
        passed, summary, said = traced(bench, capsys, "d17")
    assert summary["meters"]["d17"] == {"read": 1, "failed": 0}
    read = [one for one in passed if "serial number" in one.get("apdu", "")]
    assert read[0]["carried"].startswith("glo-get-request, security control 30, counter ")
    assert any("D0000017" in one.get("apdu", "") for one in passed)
    assert b"D0000017".hex() not in "".join(one["hex"] for one in passed)
    for key in (ENCRYPTION_KEY, AUTHENTICATION_KEY):
        assert key.hex() not in said


def test_an_answer_under_another_key_is_shown_as_not_deciphered() -> None:
    shown: list[Passed] = []
    trace = DlmsTrace(shown.append, SystemClock(), wrapper=False, mode_e=False)
    trace.apdu("heard", bytes.fromhex("cc0730000000050102"), b"")
    assert shown[0].words == (
        "NOT DECIPHERED glo-get-response, security control 30, counter 5, 2 bytes"
    )


def test_bytes_that_are_no_frame_are_noise(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = prepare(tmp_path)
    bus = DlmsBus({"1/17": DlmsMeter(Recording("D0000017"))}, SystemClock())
    noisy = Faulty(bus, iter([before(b"\x00\xff\x55"), *[well] * 99]))
    with served(PtyLine(tmp_path / "dlms", noisy, baud=BAUD)):
        passed, _, _ = traced(bench, capsys, "d17")
    noise = [one["hex"] for one in passed if one["verdict"] == "noise"]
    assert noise == ["00ff55"]


def test_a_piece_of_a_frame_that_looks_like_an_opening_is_none() -> None:
    shown: list[Passed] = []
    trace = DlmsTrace(shown.append, SystemClock(), wrapper=False, mode_e=True)
    whole = frame(b"\x03", b"\x02\x23", 0x30, b"\xe6\xe7\x00\xc4\x01\xc1\x00\x06\x00\x00\x00\x2f")
    for piece in (whole[: whole.index(b"\x06")], whole[whole.index(b"\x06") :]):
        trace.passed("heard", piece)
    trace.flush()
    assert [(one.verdict, one.data) for one in shown] == [("frame", whole)]


def test_an_opening_in_mode_e_is_shown_as_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = prepare(tmp_path)
    bench.edit('protocol = "dlms"', 'protocol = "dlms"\nopening = "mode-e"')
    head = ModeE(DlmsBus({"1/17": DlmsMeter(Recording("D0000017"))}, SystemClock()), fastest=6)
    line = PtyLine(tmp_path / "dlms", head, baud=300)
    head.attach(line)
    with served(line):
        passed, summary, _ = traced(bench, capsys, "d17")
    texts = [one["text"] for one in passed if one["verdict"] == "mode_e"]
    assert texts[:4] == ["/?!", "/LSC6\\2METER", "ACK 262", "ACK 262"]
    assert summary["meters"]["d17"]["read"] >= 1
    assert not [one for one in passed if one["verdict"] == "noise"]
