"""The configurations in docs/configuration.md are ones that the programs read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import agent.config
import agent.credentials
import central.config

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"


def example(which: str) -> str:
    found = re.search(rf"```toml {which}\n(.*?)```", PAGE.read_text(), re.S)
    assert found, f"docs/configuration.md has no example for {which}"
    return found[1]


def test_the_agents_example_is_read(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text(example("agent"))
    config = agent.config.load_config(file)
    protocols = ["modbus", "modbus-tcp", "dlms", "dlms-tcp", "dlms-push"]
    assert [line.protocol for line in config.lines] == protocols
    assert config.common_name == "mytown-t01"


def test_the_agents_example_names_every_key_of_its_tables(tmp_path: Path) -> None:
    named = set(re.findall(r"^(?:# )?([a-z0-9_]+) = ", example("agent"), re.M))
    fields = {
        name
        for kind in (
            agent.config.AgentConfig,
            agent.config.BrokerConfig,
            agent.config.KeysConfig,
            agent.credentials.CredentialsConfig,
            agent.config.LineConfig,
            agent.config.MeterConfig,
        )
        for name in kind.__slots__  # type: ignore[attr-defined]
    }
    only_on_the_bench = {"clock_file"}
    of_other_sources = {"systemd", "command", "timeout_s"}
    tables = {"broker", "keys", "lines", "meters", "places"}
    assert fields - tables - only_on_the_bench - of_other_sources == named


@pytest.mark.parametrize("source", ["file", "systemd", "command"])
def test_each_source_of_credentials_is_read(tmp_path: Path, source: str) -> None:
    file = tmp_path / "agent.toml"
    before = re.search(r"\[credentials\].*?\n\n", example("agent"), re.S)
    assert before is not None
    text = example("agent").replace(before[0], example(f"credentials-{source}") + "\n")
    file.write_text(text)
    credentials = agent.config.load_config(file).credentials
    assert credentials is not None
    assert getattr(credentials, source)


def test_the_example_of_credentials_is_read_and_has_the_meters_names(tmp_path: Path) -> None:
    file = tmp_path / "meters.toml"
    file.write_text(example("credentials"))
    file.chmod(0o600)
    source = agent.credentials.CredentialsConfig(file=file)
    credentials = agent.credentials.load_credentials(source)
    assert credentials.of("north").password
    assert len(credentials.of("transformers").encryption_key or b"") == 16


def test_the_centres_example_is_read(tmp_path: Path) -> None:
    file = tmp_path / "central.toml"
    file.write_text(example("central"))
    config = central.config.load_config(file)
    assert config.tenant == "mytown"
    assert not config.api.open
