"""What lies below the APDUs: frames of HDLC, and the link in each of its states."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from agent.dlms.errors import AnswerMalformed, AnswerTooLarge
from agent.dlms.link.frame import FrameCutter, LinkParameters, agree_parameters
from agent.dlms.link.hdlc import Link
from agent.dlms.link.hdlc_states import Message, Send, State, Unasked
from agent.dlms.link.mode_e import Agreed, Opening
from agent.dlms.link.wrapper import Packet, PacketCutter
from hil.fuzz.decoders import Decoder
from hil.fuzz.seeds import bench_session, captured_with
from hil.meters.dlms.hdlc import Ear, build

_CLIENT: Final = b"\x03"
_METER: Final = b"\x02\x23"
_LONGEST: Final = 4096
_SEGMENTED: Final = 0x80
_LLC: Final = b"\xe6\xe7\x00"


class Overgrown(Exception):
    """A decoder gave or kept more than it was given."""


def cut(data: bytes) -> None:
    """The stream as it comes from a port, in pieces of 16 bytes."""
    cutter = FrameCutter()
    found = 0
    for at in range(0, len(data), 16):
        found += sum(len(frame.raw) for frame in cutter.feed(data[at : at + 16]))
        if cutter.needed < 1:
            raise Overgrown(f"a cutter that waits for {cutter.needed} bytes never wakes")
    if found > len(data):
        raise Overgrown(f"{found} bytes of frames in {len(data)} bytes")


def frames_of(data: bytes) -> bytes:
    """Frames whose checks are right, from records: control, size with a segment bit, information.

    Damage to a frame nearly always ends at its check; these get past it.
    """
    frames, at = b"", 0
    while at + 2 <= len(data) and len(frames) < _LONGEST:
        control, size = data[at], data[at + 1]
        end = at + 2 + (size & 0x7F)
        more = bool(size & _SEGMENTED)
        frames += build(_CLIENT, _METER, control, data[at + 2 : end], more)
        at = end
    return frames


def _record(control: int, info: bytes = b"", *, more: bool = False) -> bytes:
    return bytes([control, len(info) | (_SEGMENTED if more else 0)]) + info


def frame_records(control: int, info: bytes, size: int) -> bytes:
    """Records of frames that carry `info` in segments of at most `size` bytes."""
    starts = range(0, len(info), size)
    return b"".join(
        _record(control, info[at : at + size], more=at + size < len(info)) for at in starts
    )


def link_in(state: State) -> Link:
    """A link that has come as far as `state` by what a meter sent."""
    link = Link(_CLIENT, _METER, LinkParameters(2030, 2030, 1, 7), longest_answer=_LONGEST)
    for step in _WAY[state]:
        step(link)
    if link.state is not state:
        raise ValueError(f"expected the link to be {state}, it is {link.state}")
    return link


def _hear(*records: bytes) -> Callable[[Link], object]:
    frames = frames_of(b"".join(records))
    return lambda link: link.receive(frames)


_ANSWER: Final = _LLC + b"\xc4\x01\x41"
_OPENED: Final = (Link.open, _hear(_record(0x73)))
_ASKED: Final = (*_OPENED, lambda link: link.ask(bytes(200)), _hear(_record(0x31)))
_WAY: Final[dict[State, Sequence[Callable[[Link], object]]]] = {
    State.CLOSED: (),
    State.OPENING: (Link.open,),
    State.READY: _OPENED,
    State.ASKING: _ASKED,
    State.RECEIVING: (*_ASKED, _hear(_record(0x50, _ANSWER, more=True))),
    State.STREAMING: (*_ASKED, _hear(_record(0x40, _ANSWER))),
    State.CLOSING: (*_ASKED, Link.close),
}


def hear_in(state: State) -> Callable[[bytes], None]:
    """Frames that arrive in `state`, with one time-out between them."""

    def run(data: bytes) -> None:
        link = link_in(state)
        frames = frames_of(data)
        half = len(frames) // 2
        for part in (frames[:half], frames[half:]):
            for outcome in link.receive(part):
                if isinstance(outcome, Send) and len(outcome.data) > _LONGEST:
                    raise Overgrown(f"the link sends {len(outcome.data)} bytes at once")
                if isinstance(outcome, Message) and len(outcome.apdu) > _LONGEST:
                    raise Overgrown(f"the link delivers {len(outcome.apdu)} bytes")
                if isinstance(outcome, Unasked) and len(outcome.info) > len(frames):
                    raise Overgrown(f"a notification of {len(outcome.info)} bytes")
            link.again()

    return run


def _records() -> Sequence[bytes]:
    """The bench's and the captured frames as records, and each frame that can matter."""
    seeds = [
        b"".join(
            _record(heard.control, heard.payload[:127], more=heard.more)
            for heard in Ear().hear(data)
        )
        for data in (*bench_session().frames, *captured_with(0x7E))
    ]
    every = [_record(control) for control in range(1, 256, 2)]
    parts = [_record(number << 1 | 0x10, _LLC + b"\xc4\x01\x41", more=True) for number in range(8)]
    ends = [_record(1 << 5 | number << 1 | 0x10, _LLC + bytes(9)) for number in range(8)]
    return [seed for seed in seeds if seed] + every + parts + ends


def _frames() -> Sequence[bytes]:
    return [*bench_session().frames, *captured_with(0x7E)]


def _packets(data: bytes) -> None:
    """Packets of the TCP wrapper, in the pieces in which TCP may bring them."""
    cutter = PacketCutter(_LONGEST)
    for at in range(0, len(data), 16):
        for packet in cutter.feed(data[at : at + 16]):
            if len(packet.apdu) > min(_LONGEST, len(data)):
                raise Overgrown(f"a packet of {len(packet.apdu)} bytes")


def _packet_seeds() -> Sequence[bytes]:
    packets = [Packet(1, 16, apdu).encode() for apdu in bench_session().apdus[:8]]
    return [*packets, b"".join(packets)]


def _open_mode_e(data: bytes) -> None:
    """What a meter says on the way to HDLC, byte by byte as at 300 Bd."""
    opening = Opening()
    for byte in data:
        if isinstance(opening.receive(bytes([byte])), Agreed):
            return


def _opening_seeds() -> Sequence[bytes]:
    identifications = [b"/LGZ5\\2LS0001\r\n", b"/lgz6LS0001\r\n", b"/ISk0\\2MT382\r\n"]
    said = [line + b"\x062%c2\r\n" % line[4] for line in identifications]
    echoed = [b"/?!\r\n" + line for line in said]
    parity = [bytes(byte | 0x80 for byte in line) for line in said]
    return [*said, *echoed, *parity]


def _parameters() -> Sequence[bytes]:
    infos = [heard.payload for data in _frames() for heard in Ear().hear(data)]
    return sorted({info for info in infos if info[:2] == b"\x81\x80"})


def _false_starts(size: int) -> Sequence[bytes]:
    """Flags that each seem to open the longest frame, which then turns out to be none."""
    longest = b"\x7e\xa7\xff"
    return [longest * (size // 3), b"\x7e" * size, b"\x7e\xa0\x07" * (size // 3)]


def _many_frames(size: int) -> Sequence[bytes]:
    return [_record(0x31) * (size // 2), _record(0x10, b"\x00", more=True) * (size // 3)]


DECODERS: Final = (
    Decoder("mode-e", _open_mode_e, (AnswerMalformed,), _opening_seeds),
    Decoder("wrapper-packets", _packets, (AnswerMalformed, AnswerTooLarge), _packet_seeds),
    Decoder("hdlc-frames", cut, (), _frames, _false_starts, 20, 16),
    Decoder(
        "hdlc-parameters",
        lambda data: agree_parameters(LinkParameters(2030, 2030, 1, 7), data),
        (),
        _parameters,
    ),
    *(
        Decoder(
            f"hdlc-link-{state.name.lower()}", hear_in(state), (), _records, _many_frames, 100, 100
        )
        for state in State
    ),
)
