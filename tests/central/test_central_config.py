"""central.toml: checked completely, refused with file, line, key and remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from central.config import Config, ConfigError, load_config
from wire.clock import SharedClock, SystemClock, set_shared_clock

GOOD = """\
tenant = "demo"
data_dir = "data"
[broker]
host = "127.0.0.1"
port = 8883
ca_file = "ca.crt"
cert_file = "c.crt"
key_file = "c.key"
[keys]
dir = "keys"
"""


def load(directory: Path, text: str) -> Config:
    path = directory / "central.toml"
    path.write_text(text)
    return load_config(path)


def test_a_short_file_is_enough_and_paths_are_relative_to_it(tmp_path: Path) -> None:
    config = load(tmp_path, GOOD)
    assert config.journal_dir == tmp_path / "data" / "journal"
    assert config.lake_dir == tmp_path / "data" / "lake"
    assert config.broker.ca_file == tmp_path / "ca.crt"
    assert config.keys_dir == tmp_path / "keys"
    assert (config.api.host, config.api.port, config.api.open) == ("127.0.0.1", 8080, False)
    assert isinstance(config.clock(), SystemClock)


def test_stores_may_lie_elsewhere(tmp_path: Path) -> None:
    text = GOOD + '[store]\njournal = "sqlite:/var/j"\nlake = "file:///var/l"\nengine = "duckdb:"\n'
    config = load(tmp_path, text)
    assert config.journal_dir == Path("/var/j")
    assert config.lake_dir == Path("/var/l")


def test_a_demo_shares_a_clock(tmp_path: Path) -> None:
    set_shared_clock(tmp_path / "clock", 1_000.0, 1.0)
    config = load(tmp_path, 'clock_file = "clock"\n' + GOOD)
    assert isinstance(config.clock(), SharedClock)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (GOOD.replace("port = 8883", "port = 99999"), "line 5, [broker] port: expected a whole"),
        (GOOD.replace("port = 8883", "prot = 8883"), "line 5, [broker] prot: unknown key"),
        (GOOD.replace('tenant = "demo"', "tenant = 3"), "line 1, tenant: expected a text"),
        (GOOD.replace('dir = "keys"', ""), "[keys] dir: expected a text, came nothing"),
        (GOOD + "[api]\nopen = 1\n", "line 12, [api] open: expected true or false"),
        (GOOD + '[store]\nlake = "s3:x"\n', "line 12, [store] lake: expected"),
        (GOOD + '[store]\nengine = "spark:"\n', "line 12, [store] engine: expected"),
        (GOOD + "[surprise]\nx = 1\n", "line 11, surprise: unknown key"),
        ('tenant = "demo', "not valid TOML"),
    ],
)
def test_a_mistake_is_named_with_its_place(tmp_path: Path, wrong: str, said: str) -> None:
    with pytest.raises(ConfigError) as error:
        load(tmp_path, wrong)
    assert said in str(error.value)
    assert str(tmp_path / "central.toml") in str(error.value)
