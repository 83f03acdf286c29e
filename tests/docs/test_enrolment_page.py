"""docs/enrolment.md: its paths, names, figures and examples are those of the programs."""

from __future__ import annotations

import re
from pathlib import Path

from agent.cli import parser
from agent.enrol import renewal
from agent.keys.folder import CURRENT, NEXT, Generation
from agent.keys.providers import PROVIDERS, KeyProvider
from wire import est

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "enrolment.md").read_text()
WORDS = re.sub(r"\s+", " ", TEXT)
DAY_S = 86_400


def test_every_path_of_the_protocol_is_there() -> None:
    for method, path in (
        ("GET", est.CACERTS),
        ("GET", est.COMPANION),
        ("POST", est.ENROLL),
        ("POST", est.REENROLL),
    ):
        assert f"| `{method} {path}` |" in TEXT
    assert est.REQUEST_TYPE in TEXT
    assert f"the first {est.FINGERPRINT_BYTES} bytes of SHA-256" in WORDS
    token = est.Token("a", "b:1", bytes(16), bytes(16), bytes(16))
    assert f"`{str(token).split('.')[0]}.`" in TEXT


def test_the_figures_of_a_renewal_are_those_of_the_program() -> None:
    assert f"from day {renewal.DUE_SHARE * 30:.0f} of 30" in WORDS
    assert round(renewal.SPREAD_SHARE * 30, 6) == 1
    assert "later by up to a day at random" in WORDS
    assert renewal.WAIT_S == (60, 6 * 3600)
    assert "after a minute, then after waits that double up to six hours" in WORDS
    assert renewal.ALARM_S == 5 * DAY_S
    assert "Five days before its end a certificate is an alarm: the fault `certificate`" in WORDS


def test_the_folder_of_keys_is_as_drawn() -> None:
    drawn = re.search(rf"^keys/{CURRENT} -> .*\nkeys/{NEXT} -> ", TEXT, re.M)
    assert drawn
    for file in ("tls_certificate", "authority_certificate", "root_public", "keyset", "centre"):
        assert getattr(Generation(Path("x")), file).name in drawn[0]


def test_every_provider_is_named_and_what_one_has_to_be() -> None:
    for name in PROVIDERS:
        assert f"`{name}`" in TEXT
    for method in ("make", "open", "destroy"):
        assert hasattr(KeyProvider, method)
        assert f"`{method}`" in TEXT


def test_the_agents_commands_on_the_page_are_ones_that_it_takes() -> None:
    commands = re.findall(r"loadscape-agent ((?:enrol|decommission|check)[^\n`)]*)", TEXT)
    assert len(commands) >= 4
    for command in commands:
        words = command.replace(" with a new token", "").split()
        if words[0] == "enrol" and not any(word.startswith("--token") for word in words):
            words += ["--token", "x"]
        assert parser().parse_args(words)
