"""The field commands on DLMS lines over real sockets: the wrapper, and a gateway with HDLC."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from commands_bench import Bench, Recording, prepare

from hil.meters.dlms.bus import DlmsBus
from hil.meters.dlms.meter import DlmsMeter
from hil.meters.dlms.tcp import GatewaySession, Session, WrapperSession, served
from wire.clock import SystemClock


def wrapper() -> Session:
    return WrapperSession({1: DlmsMeter(Recording("D0000017"))}, SystemClock())


def gateway() -> Session:
    bus = DlmsBus({"1/17": DlmsMeter(Recording("D0000017"))}, SystemClock())
    return GatewaySession(bus, 10 / 115_200)


def over_tcp(bench: Bench, port: int, framing: str, address: str) -> None:
    """dlms-1 becomes a line over TCP, d17 the meter there."""
    text = bench.config.read_text()
    before = text[text.index('name = "dlms-1"') :].split("\n\n")[0]
    after = (
        f'name = "dlms-1"\nport = "127.0.0.1:{port}"\nprotocol = "dlms-tcp"\n'
        f'framing = "{framing}"\n' + ("baud = 115200\n" if framing == "hdlc" else "")
    )
    bench.edit(before, after)
    if framing == "wrapper":
        # One meter owns such a line.
        kept, _, _ = bench.config.read_text().partition('\n[[meter]]\nid = "d20"')
        bench.config.write_text(kept)
    bench.edit('server_address = "1/17"', f'server_address = "{address}"')


@pytest.mark.parametrize(
    ("far_end", "framing", "address", "passes"),
    [(wrapper, "wrapper", "1", "packet"), (gateway, "hdlc", "1/17", "frame")],
)
def test_a_meter_over_tcp_is_scanned_read_traced_and_its_profile_printed(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    far_end: Callable[[], Session],
    framing: str,
    address: str,
    passes: str,
) -> None:
    bench = prepare(tmp_path)
    with served(far_end) as server:
        over_tcp(bench, server.port, framing, address)
        number = address.rpartition("/")[2]
        words = ("--addresses", f"{number}-{int(number) + 1}", "--model", "idis_residential")
        assert bench.say("scan", "dlms-1", *words) == 0
        (found,) = capsys.readouterr().out.splitlines()
        assert found.startswith(address)
        assert "serial D0000017" in found
        assert "configured as d17" in found
        assert bench.say("read", "d17", "--json") == 0
        assert json.loads(capsys.readouterr().out)["sample"]["serial"] == "D0000017"
        assert bench.say("profile", "d17") == 0
        assert len(capsys.readouterr().out.splitlines()) == 97
        assert bench.say("trace", "d17", "--json", "--seconds", "0.3") == 0
        *passed, summary = map(json.loads, capsys.readouterr().out.splitlines())
    assert {one["verdict"] for one in passed} == {passes, "apdu"}
    assert b"loadscape".hex() not in json.dumps(passed)
    assert summary["meters"]["d17"]["failed"] == 0
