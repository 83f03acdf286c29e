"""Simulated serial lines: PTY pairs whose far end is served by one loop for many lines.

A line takes as long for a byte as its baud rate says, or no time at all when
it is not paced; an answer's own delay is kept either way. A reader that is
not there loses bytes, as on a real line. A line can be pulled out and plugged
in again, and can have serial settings of its own. All other faults
belong into a responder, not in here.
"""

from __future__ import annotations

import errno
import heapq
import itertools
import math
import os
import selectors
import termios
import threading
import time
import tty
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from hil.line.responder import Answer, Responder
from hil.line.uart import Uart, misread

_CHUNK_S = 0.008
"""A paced answer is handed over in pieces that last this long, as a UART's FIFO does."""
_UNPACED_CHUNK_BYTES = 1024
_FULL_RETRY_S = 0.002
_FULL_GIVE_UP_S = 1.0
"""A reader that leaves the PTY's buffer full for so long loses what was on its way."""
_LOOK_AT_STOP_S = 0.2
_OUTPUT_SPEED = 5
"""Where `termios.tcgetattr` has the baud rate of the writing side."""
_BAUDS = {
    getattr(termios, name): int(name[1:])
    for name in dir(termios)
    if name[0] == "B" and name[1:].isdecimal()
}


class LinkTaken(OSError):
    """The path for the line's link holds something that is not a link."""


class Stop(Protocol):
    """What `threading.Event` offers to end a loop."""

    def is_set(self) -> bool: ...


class PtyLine:
    """One simulated serial line: a raw PTY, reachable under `link`, answered by `responder`.

    The line exists from construction until `close`; a link left over by an
    earlier run is replaced. With `singly` each byte is handed over by itself;
    with `uart`, the meters' own settings, a reader that has set others sends
    and hears what the UARTs make of it. With `echoes` the reader hears what it
    sends, byte by byte. Raises LinkTaken, or OSError when the machine has no
    PTY left.
    """

    def __init__(
        self,
        link: Path,
        responder: Responder,
        *,
        baud: int,
        char_bits: int = 10,
        paced: bool = True,
        singly: bool = False,
        uart: Uart | None = None,
        echoes: bool = False,
    ) -> None:
        self.link = link
        self.responder = responder
        self._char_bits, self._paced, self._singly = char_bits, paced, singly
        self._own = uart
        self.echoes = echoes
        self.heard_baud = 0
        """Rate, in Bd, that the reader had set when the last of its bytes were taken."""
        self.go_at(baud)
        self._heard_until_s = 0.0
        self._busy_until_s = 0.0
        self._outgoing: deque[tuple[float, bytes]] = deque()
        self._full_since_s: float | None = None
        self._master = self._slave = -1
        self.plug_in()

    def go_at(self, baud: int) -> None:
        """From the next byte on, take as long for a byte as `baud` (Bd, above 0) says."""
        self.char_s = self._char_bits / baud if self._paced else 0.0
        if self._singly:
            self._chunk_bytes = 1
        elif self._paced:
            self._chunk_bytes = max(1, math.floor(_CHUNK_S / self.char_s))
        else:
            self._chunk_bytes = _UNPACED_CHUNK_BYTES

    def plug_in(self) -> None:
        """Be there under the link, as a new device."""
        self._master, self._slave = os.openpty()
        try:
            # The slave stays open here: the master would hang up between two readers otherwise.
            tty.setraw(self._slave)
            os.set_blocking(self._master, False)
            self._device = os.ttyname(self._slave)
            _point(self.link, self._device)
        except OSError:
            os.close(self._master)
            os.close(self._slave)
            self._master = self._slave = -1
            raise

    def fileno(self) -> int:
        """The master's descriptor."""
        return self._master

    def close(self) -> None:
        """Hang up and remove the link if it still is this line's. May be called twice."""
        if self._master < 0:
            return
        self._outgoing.clear()
        self._busy_until_s = 0.0
        os.close(self._master)
        os.close(self._slave)
        self._master = self._slave = -1
        if self.link.is_symlink() and os.readlink(self.link) == self._device:
            self.link.unlink()

    def take(self, now_s: float) -> tuple[bytes, float]:
        """Bytes that the reader's side has written, and when the last of them arrives."""
        try:
            data = os.read(self._master, 65536)
        except BlockingIOError:
            data = b""
        if data:
            self.heard_baud = self._reader().baud
        if self._own is not None:
            data = misread(data, self._reader(), self._own)
        began_s = max(now_s, self._heard_until_s)
        self._heard_until_s = began_s + len(data) * self.char_s
        if self.echoes:
            for place in range(len(data)):
                due_s = began_s + (place + 1) * self.char_s
                self._outgoing.append((due_s, data[place : place + 1]))
        return data, self._heard_until_s

    def hear(self, data: bytes, now_s: float) -> None:
        """Let the meters hear `data`, whose last byte arrives at `now_s`; queue their answers."""
        for answer in self.responder.receive(data):
            self._queue(answer, now_s)

    def speak(self, said: Answer, now_s: float) -> float:
        """Queue what nobody asked for; when its first byte is due (monotonic s)."""
        self._queue(said, now_s)
        return now_s + said.delay_s

    def _reader(self) -> Uart:
        """What the reader has set: a PTY keeps a baud rate (0: hung up, or odd), no parity."""
        return Uart(_BAUDS.get(termios.tcgetattr(self._slave)[_OUTPUT_SPEED], 0))

    def _queue(self, answer: Answer, now_s: float) -> None:
        at_s = max(now_s + answer.delay_s, self._busy_until_s)
        data = answer.data
        if self._own is not None and self._master >= 0:
            data = misread(data, self._own, self._reader())
        for start in range(0, len(data), self._chunk_bytes):
            chunk = data[start : start + self._chunk_bytes]
            at_s += len(chunk) * self.char_s
            self._outgoing.append((at_s, chunk))
        self._busy_until_s = at_s
        if answer.then_baud is not None:
            self.go_at(answer.then_baud)
        if answer.then_baud is not None:
            self.go_at(answer.then_baud)

    def send_due(self, now_s: float) -> float | None:
        """Hand over what is due; return when to come again (monotonic s), None when all is sent."""
        if self._master < 0:
            self._outgoing.clear()
        while self._outgoing:
            due_s, chunk = self._outgoing[0]
            if due_s > now_s:
                return due_s
            sent = self._write(chunk)
            if sent == len(chunk):
                self._outgoing.popleft()
                self._full_since_s = None
                continue
            self._outgoing[0] = (due_s, chunk[sent:])
            if self._full_since_s is None:
                self._full_since_s = now_s
            elif now_s - self._full_since_s > _FULL_GIVE_UP_S:
                self._outgoing.clear()
                self._full_since_s = None
                return None
            return now_s + _FULL_RETRY_S
        return None

    def _write(self, chunk: bytes) -> int:
        try:
            return os.write(self._master, chunk)
        except BlockingIOError:
            return 0


def _point(link: Path, device: str) -> None:
    """Make `link` a link to `device`, in place of an older link; raises LinkTaken."""
    if link.exists() and not link.is_symlink():
        raise LinkTaken(
            errno.EEXIST,
            "expected nothing or an old link here, found a file; remove it or choose another path",
            str(link),
        )
    link.parent.mkdir(parents=True, exist_ok=True)
    beside = link.with_name(f"{link.name}.{os.getpid()}.new")
    beside.unlink(missing_ok=True)
    beside.symlink_to(device)
    beside.replace(link)


class LineLoop:
    """Serves many lines in one thread; asleep whenever no line has anything to do."""

    def __init__(self, lines: Iterable[PtyLine]) -> None:
        self._lines = tuple(lines)
        self._count = itertools.count()
        self._due: list[tuple[float, int, PtyLine, bytes | None]] = []
        """Heap of instants at which a line hears a request's end, or (None) has bytes to send."""
        self._said: deque[tuple[PtyLine, Answer]] = deque()
        self._pulls: deque[tuple[PtyLine, float]] = deque()
        self._plugs: list[tuple[float, int, PtyLine]] = []
        """Heap of instants at which a line that was pulled out comes back."""

    def say(self, line: PtyLine, said: Answer) -> None:
        """Let a meter say something that nobody asked for, within a fifth of a second.

        From any thread.
        """
        self._said.append((line, said))

    def pull_out(self, line: PtyLine, for_s: float) -> None:
        """Pull the line's adapter; after `for_s` real s it is plugged in again, as a new device.

        From any thread. From the loop's own (a responder) it happens before
        the next byte is sent, from another within a fifth of a second.
        """
        self._pulls.append((line, for_s))

    def run(self, stop: Stop) -> None:
        """Serve until `stop` is set, looked at five times a second; then close the lines."""
        with selectors.DefaultSelector() as selector:
            try:
                for line in self._lines:
                    selector.register(line, selectors.EVENT_READ, line)
                while not stop.is_set():
                    for key, _ in selector.select(self._sleep_s()):
                        self._take(key.data)
                    self._say_unasked()
                    self._serve_due(selector)
                    self._pull_and_plug(selector)
            finally:
                for line in self._lines:
                    line.close()

    def _say_unasked(self) -> None:
        while self._said:
            line, said = self._said.popleft()
            self._later(line.speak(said, time.monotonic()), line, None)

    def _sleep_s(self) -> float:
        next_s = min((heap[0][0] for heap in (self._due, self._plugs) if heap), default=math.inf)
        return min(_LOOK_AT_STOP_S, max(0.0, next_s - time.monotonic()))

    def _pull_and_plug(self, selector: selectors.BaseSelector) -> None:
        while self._pulls:
            line, for_s = self._pulls.popleft()
            if line.fileno() >= 0:
                selector.unregister(line)
                line.close()
                back_s = time.monotonic() + for_s
                heapq.heappush(self._plugs, (back_s, next(self._count), line))
        while self._plugs and self._plugs[0][0] <= time.monotonic():
            line = heapq.heappop(self._plugs)[2]
            line.plug_in()
            selector.register(line, selectors.EVENT_READ, line)

    def _take(self, line: PtyLine) -> None:
        data, arrives_s = line.take(time.monotonic())
        if data:
            self._later(arrives_s, line, data)
        if data and line.echoes:
            again_s = line.send_due(time.monotonic())
            if again_s is not None:
                self._later(again_s, line, None)

    def _serve_due(self, selector: selectors.BaseSelector) -> None:
        while self._due and self._due[0][0] <= time.monotonic():
            due_s, _, line, heard = heapq.heappop(self._due)
            if heard is not None:
                line.hear(heard, due_s)
                if self._pulls:
                    self._pull_and_plug(selector)
            again_s = line.send_due(time.monotonic())
            if again_s is not None:
                self._later(again_s, line, None)

    def _later(self, due_s: float, line: PtyLine, heard: bytes | None) -> None:
        heapq.heappush(self._due, (due_s, next(self._count), line, heard))


@contextmanager
def served(*lines: PtyLine) -> Iterator[LineLoop]:
    """Serve `lines` from a thread of their own for as long as the block runs; then close them."""
    stop = threading.Event()
    loop = LineLoop(lines)
    thread = threading.Thread(target=loop.run, args=(stop,), daemon=True)
    thread.start()
    try:
        yield loop
    finally:
        stop.set()
        thread.join()
