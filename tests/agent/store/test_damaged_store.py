"""No flipped bit passes silently, and all that is sound outlives a damaged database."""

from __future__ import annotations

import random
import shutil
import sqlite3
from pathlib import Path

import pytest
from agent_bench import T0, Central, S
from store_bench import content, fill, flipped

from agent.store.connection import StoreDamaged
from agent.store.database import Store
from agent.store.scrub import EVERY_S

NOW_UTC_S = T0 + 40 * S


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("filled")
    fill(folder, Central())
    return folder / "data"


def noticed(path: Path) -> bool:
    """Whether opening the store, or looking through it, tells of damage."""
    damaged: list[str] = []
    try:
        store = Store(path, 64, damaged.append)
    except StoreDamaged:
        return True
    try:
        while not store.scrub(NOW_UTC_S):
            pass
    except StoreDamaged:
        return True
    finally:
        store.close()
    return bool(damaged)


def silent(filled: Path, folder: Path, count: int, seed: int) -> list[int]:
    """The bits that can be flipped so that the content changes and nothing is told."""
    image = (filled / "agent.db").read_bytes()
    path = folder / "agent.db"
    path.write_bytes(image)
    whole = content(path)
    bits = random.Random(seed).sample(range(len(image) * 8), count)
    passed = []
    for bit, damaged in zip(bits, flipped(image, bits), strict=True):
        for file in folder.iterdir():
            file.unlink()
        path.write_bytes(damaged)
        if noticed(path):
            continue
        try:
            same = content(path) == whole
        except (sqlite3.Error, UnicodeDecodeError):
            continue
        if not same:
            passed.append(bit)
    return passed


def test_a_sound_store_is_looked_through_once_a_week(filled: Path, tmp_path: Path) -> None:
    shutil.copy(filled / "agent.db", tmp_path / "agent.db")
    store = Store(tmp_path / "agent.db", 64)
    assert sum(store.scrub(NOW_UTC_S) for _ in range(40)) == 1
    assert not any(store.scrub(NOW_UTC_S + EVERY_S - 1) for _ in range(40))
    assert sum(store.scrub(NOW_UTC_S + EVERY_S) for _ in range(40)) == 1


def test_of_150_flipped_bits_none_passes_silently(filled: Path, tmp_path: Path) -> None:
    assert silent(filled, tmp_path, 150, seed=1) == []


@pytest.mark.slow
def test_of_1500_flipped_bits_none_passes_silently(filled: Path, tmp_path: Path) -> None:
    assert silent(filled, tmp_path, 1500, seed=2) == []
