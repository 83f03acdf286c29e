"""Unmodified processes see the later date at once; what they wait for takes no longer."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hil.site.ahead import Ahead

DAY_S = 86_400
SAYS = """
import datetime, sys, time
for _ in sys.stdin:
    print(time.time(), datetime.datetime.now().timestamp(), time.monotonic(), flush=True)
"""


@contextmanager
def asking(ahead: Ahead) -> Iterator[subprocess.Popen[str]]:
    environment = {**os.environ, **ahead.environment()}
    words = [sys.executable, "-c", SAYS]
    with subprocess.Popen(words, stdin=-1, stdout=-1, text=True, env=environment) as process:
        yield process


def seen(process: subprocess.Popen[str]) -> list[float]:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    return [float(word) for word in process.stdout.readline().split()]


def test_a_process_sees_the_date_that_is_shown_now_and_its_monotonic_clock_stays(
    tmp_path: Path,
) -> None:
    ahead = Ahead(tmp_path / "ahead")
    with asking(ahead) as process:
        for days in (0, 20, 60, -1):
            ahead.show(days * DAY_S)
            shown, of_datetime, monotonic = seen(process)
            assert abs(shown - days * DAY_S - time.time()) < 5
            assert abs(of_datetime - shown) < 1
            assert abs(monotonic - time.monotonic()) < 5


def test_openssl_sees_it_too(tmp_path: Path) -> None:
    words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    files = ["-nodes", "-keyout", str(tmp_path / "k"), "-out", str(tmp_path / "c")]
    made = [*words, *files, "-subj", "/CN=x", "-days", "30"]
    subprocess.run(made, check=True, capture_output=True)
    ahead = Ahead(tmp_path / "ahead")
    verify = ["openssl", "verify", "-CAfile", str(tmp_path / "c"), str(tmp_path / "c")]
    for days, sound in ((0, True), (29, True), (31, False)):
        ahead.show(days * DAY_S)
        environment = {**os.environ, **ahead.environment()}
        judged = subprocess.run(verify, env=environment, capture_output=True, text=True)
        assert (judged.returncode == 0) is sound, judged.stderr
        assert ("has expired" in judged.stderr) is not sound
