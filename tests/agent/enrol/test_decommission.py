"""A decommissioned device holds nothing any more: looked for in the bytes of its whole disk."""

from __future__ import annotations

import io
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from agent_bench import S, SetClock, epoch, start_writer
from commands_bench import Bench, prepare

from agent.config import load_config
from agent.keys.erasure import erase_free_space
from agent.keys.folder import KeyFolder
from agent.keys.providers import Ed25519File
from agent.run import keyring_of
from agent.store.rows import EdgeRows, MeterRows

METER, SERIAL, PASSWORD = "meter-of-the-baker", "SN-31415926", "the meters' password"
WH = 0x1122_3344_5566
"""Stored by SQLite as six bytes, big-endian."""
VALUE = WH.to_bytes(6, "big")


@dataclass
class Disk:
    """A file system of its own where the tests run as root, else a folder."""

    folder: Path
    image: Path | None

    def content(self) -> bytes:
        """All bytes of it: of the block device, else of the files."""
        if self.image is not None:
            subprocess.run(["sync", "-f", str(self.folder)], check=True)
            return self.image.read_bytes()
        return b"\0".join(p.read_bytes() for p in self.folder.rglob("*") if p.is_file())


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    folder = tmp_path / "disk"
    folder.mkdir()
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(24 << 20)
    made = subprocess.run(["mkfs.ext4", "-q", str(image)], capture_output=True, check=False)
    mount = ["mount", "-o", "loop", str(image), str(folder)]
    if made.returncode or subprocess.run(mount, capture_output=True, check=False).returncode:
        yield Disk(folder, None)
        return
    yield Disk(folder, image)
    subprocess.run(["umount", str(folder)], check=True)


def filled(disk: Disk) -> Bench:
    """What a device in use holds, also in files that were damaged or replaced since."""
    bench = prepare(disk.folder)
    (disk.folder / "lls").write_text(PASSWORD)
    config = load_config(bench.config)
    config.data_dir.mkdir()
    now = int(time.time()) // S * S
    for damaged in (True, False):
        writer = start_writer(config.data_dir, keyring_of(config), SetClock(now), batch_intervals=4)
        for end in range(now - 200 * S, now, S):
            rows = [MeterRows(epoch(METER, SERIAL), [(end, (WH, 0, 0, 2300, 100, 2))])]
            writer.hand_over(EdgeRows("l1", end, rows))
        writer.finish(10)
        assert not writer.is_alive()
        if damaged:
            with (config.data_dir / "agent.db").open("r+b") as database:
                database.write(b"garbage of a torn page")
    (config.data_dir / "status.json").write_text(
        json.dumps({"running": False, "outbox": 3, "meters": {METER: {}}})
    )
    (config.data_dir / "status.json.new").write_text(METER)
    (config.data_dir / "keyset.cose").write_bytes((bench.keys / "keyset.cose").read_bytes())
    return bench


def test_no_key_password_or_reading_is_left_in_the_bytes_of_the_disk(disk: Disk) -> None:
    bench = filled(disk)
    tls_key = (bench.keys / "tls.key").read_bytes()[64:128]
    sign_key = (bench.keys / "sign.key").read_bytes().strip()
    keyset = (bench.keys / "keyset.cose").read_bytes()
    secrets = [METER.encode(), SERIAL.encode(), PASSWORD.encode(), VALUE, tls_key, sign_key]
    before = disk.content()
    assert [secret for secret in (*secrets, keyset) if secret not in before] == []
    assert before.count(VALUE) > 200
    for others in ("authority", "other"):
        # The centre's own folder of this bench holds the keyset too; it is no device's.
        subprocess.run(["rm", "-r", str(disk.folder / others)], check=True)

    assert bench.say("decommission", "--yes") == 0

    after = disk.content()
    assert [secret for secret in (*secrets, keyset) if secret in after] == []
    assert sorted(path.name for path in disk.folder.rglob("*") if path.name != "lost+found") == [
        "agent.toml",
        "ca.crt",
        "data",
        "keys",
        "root.pub",
    ]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    bench = prepare(tmp_path)
    (tmp_path / "data").mkdir()
    return bench


def typed(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(words))


@pytest.mark.parametrize("words", ["", "yes\n", "demo-t08\n"])
def test_nothing_is_erased_unless_one_types_the_devices_name(
    bench: Bench,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (bench.folder / "data" / "status.json").write_text('{"running": false, "outbox": 12}')
    typed(words, monkeypatch)
    assert bench.say("decommission") == 2
    said = capsys.readouterr().err
    assert f"will erase  {bench.keys / 'sign.key'}" in said
    assert "12 batches that central has not signed for" in said
    assert "nothing was erased" in said
    assert (bench.keys / "sign.key").exists()
    assert (bench.folder / "data" / "status.json").exists()


def test_typing_the_name_erases_and_says_what_is_left_to_do(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    typed("demo-t07\n", monkeypatch)
    assert bench.say("decommission", "--keep-free-space") == 0
    said = capsys.readouterr().out
    assert f"erased      {bench.keys / 'sign.key'}" in said
    assert "free space  was not overwritten" in said
    assert "keys revoke --device t07" in said
    assert not (bench.keys / "tls.key").exists()
    # Again, as after a cut: there is nothing left to do.
    assert bench.say("decommission", "--yes", "--keep-free-space", "--json") == 0
    assert json.loads(capsys.readouterr().out)["erased"] == []


def test_what_the_agent_did_not_make_is_named_and_kept(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    (bench.folder / "data" / "notes.txt").write_text("ours")
    (bench.folder / "data" / "agent.db").write_text("x")
    assert bench.say("decommission", "--yes", "--keep-free-space", "--json") == 1
    report = json.loads(capsys.readouterr().out)
    assert report["left"] == [str(bench.folder / "data" / "notes.txt")]
    assert str(bench.folder / "data" / "agent.db") in report["erased"]


def test_a_running_agent_is_not_decommissioned(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    status = {"running": True, "pid": os.getpid(), "written_utc_s": time.time()}
    (bench.folder / "data" / "status.json").write_text(json.dumps(status))
    assert bench.say("decommission", "--yes") == 2
    assert "stop it first" in capsys.readouterr().err
    assert (bench.keys / "sign.key").exists()


def test_the_keys_of_an_enrolled_device_go_with_their_folder(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = bench.config.read_text()
    before, _, after = text.partition("[broker]")
    rest = after[after.index("[[line]]") :]
    # Sealed under the unit's credential, which this command neither has nor needs.
    keys = '[keys]\nfolder = "own"\nsystemd = "device-key"\n'
    bench.config.write_text(f"{before}{keys}\n{rest}")
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    folder = KeyFolder(bench.folder / "own", Ed25519File())
    folder.put_in_use(folder.begin("demo-t07", "certificate"))
    folder.begin("demo-t07", "certificate")
    assert bench.say("decommission", "--yes", "--keep-free-space") == 0
    assert not (bench.folder / "own").exists()


def test_a_cut_in_the_middle_is_made_good_by_the_next_try(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    unlink: Callable[..., None] = Path.unlink
    (bench.folder / "data" / "agent.db").write_text("x" * 10_000)

    def cut(path: Path, missing_ok: bool = False) -> None:
        if path.name == "agent.db":
            raise OSError(5, "Input/output error", str(path))
        unlink(path, missing_ok)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", cut)
        assert bench.say("decommission", "--yes") == 1
    assert "agent.db: cannot be erased (Input/output error)" in capsys.readouterr().err
    assert set((bench.folder / "data" / "agent.db").read_bytes()) == {0}
    assert not (bench.keys / "sign.key").exists()
    assert bench.say("decommission", "--yes", "--keep-free-space") == 0
    assert not (bench.folder / "data" / "agent.db").exists()


def test_what_a_removed_file_left_behind_is_overwritten_and_the_disk_is_free_again(
    disk: Disk,
) -> None:
    if disk.image is None:
        pytest.skip("needs root and a loop device: the bytes of removed files")
    file = disk.folder / "old"
    file.write_bytes(b"removed reading " * 200_000)
    assert b"removed reading" in disk.content()
    file.unlink()
    free = os.statvfs(disk.folder)
    assert b"removed reading" in disk.content()
    written, discarded = erase_free_space(disk.folder)
    assert written > free.f_bfree * free.f_frsize * 0.9
    assert discarded
    assert b"removed reading" not in disk.content()
    assert os.statvfs(disk.folder).f_bfree == free.f_bfree
