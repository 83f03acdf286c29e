"""An HDLC frame or a wrapper packet as one line of readable text: for people who look at a trace.

Source: IEC 62056-46, 6.4 (frames) and IEC 62056-47 (wrapper).
"""

from __future__ import annotations

from typing import Final

from agent.dlms.link.frame import SNRM, UA, Frame
from agent.dlms.link.hdlc_states import UNNUMBERED, Heard
from agent.dlms.link.wrapper import Packet

_FINAL: Final = 0x10
_SUPERVISORY: Final = {0x01: "RR", 0x05: "RNR", 0x09: "REJ"}
_COMMANDS: Final = {SNRM: "SNRM", 0x53: "DISC"}
_PARAMETERS: Final = (5, 6, 7, 8)


def frame_text(frame: Frame, *, sent: bool) -> str:
    """Meter, client, kind of frame, its numbers, and what an SNRM or UA proposes."""
    server, client = (
        (frame.destination, frame.source) if sent else (frame.source, frame.destination)
    )
    text = f"{address_text(server)} client {address_text(client)} {_control(frame.control)}"
    if frame.control & _FINAL:
        text += " P" if sent else " F"
    if frame.segmented:
        text += " segment"
    if frame.control | _FINAL in (SNRM, UA) and frame.info:
        text += f", {_sizes(frame.info)}"
    return text


def packet_text(packet: Packet, *, sent: bool) -> str:
    """Meter and client of a wrapper packet."""
    server, client = (
        (packet.destination, packet.source) if sent else (packet.source, packet.destination)
    )
    return f"{server} client {client}, {len(packet.apdu)} bytes"


def address_text(address: bytes) -> str:
    """`logical/physical` as the configuration has it, or one number."""
    numbers = [byte >> 1 for byte in address]
    if len(numbers) == 4:
        numbers = [numbers[0] << 7 | numbers[1], numbers[2] << 7 | numbers[3]]
    return "/".join(map(str, numbers))


def _control(control: int) -> str:
    if control & 0x01 == 0:
        return f"I N(S)={control >> 1 & 7} N(R)={control >> 5}"
    if control & 0x03 == 0x01:
        kind = _SUPERVISORY.get(control & 0x0F, f"control {control:02x}")
        return f"{kind} N(R)={control >> 5}"
    answer = UNNUMBERED.get(control | _FINAL)
    if isinstance(answer, Heard):
        return answer.name
    return _COMMANDS.get(control | _FINAL, f"control {control:02x}")


def _sizes(info: bytes) -> str:
    """The parameters of SNRM and UA as their sender has them: what it sends / what it takes."""
    found, at = dict.fromkeys(_PARAMETERS, "-"), 3
    while at + 2 <= len(info):
        code, size = info[at], info[at + 1]
        found[code] = str(int.from_bytes(info[at + 2 : at + 2 + size], "big"))
        at += 2 + size
    return f"info {found[5]}/{found[6]}, window {found[7]}/{found[8]}"
