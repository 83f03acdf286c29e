"""`loadscape-agent enrol` against an enrolment server over real TLS."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from est_bench import NAME, Clock, EstServer, config_of, serving

from agent.cli import main
from agent.config import AgentConfig
from agent.enrol import issue
from agent.enrol.enrolled import broker_of, key_folder_of
from agent.enrol.est import EnrolmentFailed
from agent.keys.at_rest import KeyringError
from agent.keys.folder import KeyFolder
from agent.publish import tls_context
from agent.run import keyring_of
from central.keys.certificates import Authority
from wire import est
from wire.cose import ED25519, ESP256
from wire.envelope import DeviceSigner


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EstServer]:
    (tmp_path / "server").mkdir()
    with serving(tmp_path / "server") as server:
        yield server


@pytest.fixture
def config(tmp_path: Path) -> AgentConfig:
    return config_of(tmp_path)


def say(config: AgentConfig, *words: str) -> int:
    return main(["enrol", *words, "--config", str(config.places.path)])


def enrol(config: AgentConfig, server: EstServer) -> None:
    issue.enrol(config, server.token, server.server, server.clock.now_utc_s)


def test_a_token_brings_a_certificate_for_keys_that_the_device_made(
    server: EstServer, config: AgentConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    assert say(config, "--token", str(server.token)) == 0
    said = capsys.readouterr().out
    [request] = server.requests
    assert f"enrolled    {NAME}" in said
    assert request.sign_key.kid.hex() in said
    assert "broker      broker.example:8883" in said
    keyring = keyring_of(config)
    assert keyring.signer.kid == request.sign_key.kid
    assert keyring.keyset.tenant == "demo"
    certificate = x509.load_pem_x509_certificate(config.broker.cert_file.read_bytes())
    assert certificate.public_key() == request.tls_public
    broker = broker_of(config)
    assert (broker.host, broker.port) == ("broker.example", 8883)
    assert tls_context(broker).get_ca_certs()
    assert server.asked == [est.CACERTS, est.COMPANION, est.ENROLL]


def test_check_finds_an_enrolled_device_sound_but_for_its_line(
    server: EstServer, config: AgentConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["check", "--config", str(config.places.path)]
    main(words)
    assert "nothing is enrolled there; run loadscape-agent enrol" in capsys.readouterr().out
    enrol(config, server)
    main(words)
    said = capsys.readouterr().out
    assert f"{NAME}, holds until" in said
    assert "broker.example:8883" in said
    wrong = [line for line in said.splitlines() if line.startswith("wrong")]
    assert all("[line] port" in line for line in wrong), wrong


@pytest.mark.parametrize(("provider", "alg"), [("ed25519-file", ED25519), ("p256-file", ESP256)])
def test_the_provider_named_in_the_configuration_makes_the_sign_key(
    server: EstServer, tmp_path: Path, provider: str, alg: int
) -> None:
    config = config_of(tmp_path, f'provider = "{provider}"')
    enrol(config, server)
    assert server.requests[0].sign_key.alg == alg
    assert keyring_of(config).signer.alg == alg


def test_keys_are_sealed_under_the_units_credential(
    server: EstServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(tmp_path, 'systemd = "device-key"')
    with pytest.raises(KeyringError, match="LoadCredentialEncrypted=device-key"):
        enrol(config, server)
    assert server.asked == []
    (tmp_path / "credentials").mkdir()
    (tmp_path / "credentials" / "device-key").write_text("a" * 44)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "credentials"))
    enrol(config, server)
    for key in (config.keys.sign_key_file, config.broker.key_file):
        assert b"BEGIN ENCRYPTED PRIVATE KEY" in key.read_bytes()
    assert keyring_of(config).signer.kid == server.kids[0]
    assert tls_context(broker_of(config)).get_ca_certs()
    (tmp_path / "credentials" / "device-key").write_text("b" * 44)
    with pytest.raises(KeyringError, match="secret is another"):
        _ = keyring_of(config).signer


def test_the_token_may_come_from_a_file_or_standard_input(
    server: EstServer, config: AgentConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text(f"{server.token}\n")
    assert say(config, "--token-file", str(tmp_path / "token")) == 0
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{server.token}\n"))
    # Once is enough: the second does not even ask.
    asked = list(server.asked)
    assert say(config, "--token-file", "-") == 0
    assert server.asked == asked


def test_json_reports_the_same(
    server: EstServer, config: AgentConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    for now in (True, False):
        assert say(config, "--token", str(server.token), "--json") == 0
        report = json.loads(capsys.readouterr().out)
        assert report["enrolled_now"] is now
        assert report["kid"] == server.kids[0].hex()
        assert report["device"] == NAME


# --- refused


def test_a_server_of_another_authority_is_shown_no_secret(
    server: EstServer, config: AgentConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    token = server.token
    server.authority = Authority.make("demo")
    assert say(config, "--token", str(token)) == 1
    assert "not the one that the token names: somebody stands between" in capsys.readouterr().err
    assert server.asked == [est.CACERTS]
    assert not config.keys.sign_key_file.exists()


def test_a_server_that_shows_anothers_certificates_is_shown_no_secret(
    server: EstServer, config: AgentConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Somebody between passes on the true authority's certificate, but cannot prove to be it."""
    (tmp_path / "between").mkdir()
    with serving(tmp_path / "between", authority=Authority.make("demo")) as between:
        shown = [x509.load_pem_x509_certificate(server.authority.certificate_pem)]
        between.spoil[est.CACERTS] = est.certificates_body(shown)
        words = ("--token", str(server.token), "--server", between.server)
        assert say(config, *words) == 1
        assert between.asked == [est.CACERTS]
    assert "no secured connection" in capsys.readouterr().err


def test_a_server_under_another_name_is_refused(
    config: AgentConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "elsewhere").mkdir()
    with serving(tmp_path / "elsewhere", names=("elsewhere.example",)) as elsewhere:
        assert say(config, "--token", str(elsewhere.token)) == 1
        assert elsewhere.asked == [est.CACERTS]
    assert "no secured connection" in capsys.readouterr().err


def spoil_root(server: EstServer) -> None:
    server.root = DeviceSigner(os.urandom(32))


def spoil_keyset(server: EstServer) -> None:
    other = replace(server, root=DeviceSigner(os.urandom(32)))
    companion = est.Companion(server.root.public, other.keyset(), "broker.example", 8883)
    server.spoil[est.COMPANION] = companion.encode()


def spoil_certificate(server: EstServer) -> None:
    der = x509.load_pem_x509_certificate(server.authority.issue_client(NAME, 30).certificate)
    server.spoil[est.ENROLL] = est.certificates_body([der])


def spoil_signature(server: EstServer) -> None:
    der = x509.load_pem_x509_certificate(Authority.make("demo").issue_client(NAME, 30).certificate)
    server.spoil[est.ENROLL] = est.certificates_body([der])


def spoil(name: str, value: object) -> Callable[[EstServer], None]:
    return lambda server: setattr(server, name, value)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (spoil_root, "the root's key is not the one that the token names"),
        (spoil_keyset, "its keyset: "),
        (spoil("keyset_tenant", "other"), "its keyset: keyset of tenant 'other'"),
        (spoil_certificate, "for another key than the device asked with"),
        (spoil_signature, "not signed by the centre's authority"),
        (spoil("name_in_certificate", "demo-t02"), "for CN=demo-t02, expected demo-t01"),
        (spoil("days", 0), "the certificate is over since"),
        (lambda s: s.spoil.update({est.CACERTS: b"?"}), "expected base64"),
        (lambda s: s.spoil.update({est.CACERTS: b"A" * 99_999}), "at most 65536"),
        (lambda s: s.spoil.update({est.ENROLL: b""}), "expected certificates as PKCS#7"),
        (lambda s: s.spoil.update({est.COMPANION: b"{}"}), "expected root, keyset and broker"),
        (lambda s: s.refuse.update({est.ENROLL: (401, "token is over")}), "401 Unauthorized: tok"),
        (lambda s: s.refuse.update({est.ENROLL: (503, "later")}), "503 Service Unavailable: later"),
    ],
)
def test_what_is_wrong_is_named_and_no_key_comes_into_use(
    server: EstServer,
    config: AgentConfig,
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[EstServer], None],
    said: str,
) -> None:
    token = server.token
    spoil(server)
    assert say(config, "--token", str(token)) == 1
    error = capsys.readouterr().err
    assert "not enrolled: " in error
    assert said in error
    assert token.secret.hex() not in error
    assert key_folder_of(config.keys).current is None


def test_a_token_of_another_device_or_none_at_all_is_refused_at_once(
    server: EstServer, config: AgentConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    assert say(config, "--token", str(replace(server.token, common_name="demo-t02"))) == 1
    assert "the token is for demo-t02, this is demo-t01" in capsys.readouterr().err
    assert say(config, "--token", "abc") == 2
    assert "copy it anew" in capsys.readouterr().err
    assert server.asked == []


def test_nobody_at_the_servers_address_says_what_to_check(
    server: EstServer, config: AgentConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    for address, said in (("localhost:1", "cannot be reached"), ("centre", "expected host:port")):
        assert say(config, "--token", str(server.token), "--server", address) == 1
        assert said in capsys.readouterr().err


def test_a_bundle_of_the_centre_is_not_enrolled_over(
    server: EstServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = config_of(tmp_path).places.path
    bundle = (
        'sign_key_file = "a"\nroot_public_file = "b"\nkeyset_file = "c"\n\n[broker]\nhost = "h"\n'
        'ca_file = "d"\ncert_file = "e"\nkey_file = "f"\n'
    )
    path.write_text(path.read_text().replace('folder = "keys"\n', bundle))
    assert main(["enrol", "--token", str(server.token), "--config", str(path)]) == 2
    assert "[keys] folder: is missing, the keys are a bundle" in capsys.readouterr().err


# --- cuts


class Cut(BaseException):
    """The power went."""


CALLS = ("fsync", "replace", "symlink", "mkdir")


def test_a_cut_at_any_call_is_made_good_by_enrolling_again_with_the_same_token(
    server: EstServer, tmp_path: Path
) -> None:
    """The server's answer may have been given or not: it gives the same to the same request."""
    reached = 0
    for number in range(100):
        folder = tmp_path / str(number)
        folder.mkdir()
        config = config_of(folder)
        server.spent, server.secret = False, os.urandom(16)
        left = [number]

        def guarded(call: Callable[..., object], left: list[int] = left) -> Callable[..., object]:
            def called(*given: object, **named: object) -> object:
                left[0] -= 1
                if left[0] < 0:
                    raise Cut
                return call(*given, **named)

            return called

        with pytest.MonkeyPatch.context() as monkeypatch:
            for name in CALLS:
                monkeypatch.setattr(os, name, guarded(getattr(os, name)))
            try:
                enrol(config, server)
            except Cut:
                reached = number
            else:
                break
        if key_folder_of(config.keys).current is None:
            enrol(config, server)
        assert keyring_of(config).signer.kid == server.kids[-1]
        assert tls_context(broker_of(config)).get_ca_certs()
    assert 20 < reached < 99


def test_a_certificate_that_was_stored_before_a_cut_is_used_without_asking_again(
    server: EstServer, config: AgentConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(*_: object) -> None:
        raise Cut

    with monkeypatch.context() as patched:
        patched.setattr(KeyFolder, "put_in_use", cut)
        with pytest.raises(Cut):
            enrol(config, server)
    server.refuse[est.ENROLL] = (401, "over meanwhile")
    asked = len(server.asked)
    enrol(config, server)
    assert len(server.asked) == asked
    assert keyring_of(config).signer.kid == server.kids[0]


def test_an_answer_that_is_lost_is_asked_for_again_with_the_same_request(
    server: EstServer, config: AgentConfig
) -> None:
    server.lose.add(est.ENROLL)
    with pytest.raises(EnrolmentFailed, match="cannot be reached"):
        enrol(config, server)
    assert server.spent
    server.lose.clear()
    enrol(config, server)
    assert len(server.requests) == 1
    assert keyring_of(config).signer.kid == server.kids[0]


def test_enrolling_anew_replaces_the_keys_once_the_new_certificate_is_there(
    server: EstServer, config: AgentConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    enrol(config, server)
    old = keyring_of(config).signer.kid
    assert say(config, "--token", str(server.token), "--anew") == 1
    assert "401" in capsys.readouterr().err
    assert keyring_of(config).signer.kid == old
    server.spent = False
    assert say(config, "--token", str(server.token), "--anew") == 0
    assert keyring_of(config).signer.kid == server.kids[1] != old


def test_a_running_agents_keys_are_not_replaced(
    server: EstServer, config: AgentConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    config.data_dir.mkdir()
    status = {"running": True, "pid": os.getpid(), "written_utc_s": Clock().utc_s}
    (config.data_dir / "status.json").write_text(json.dumps(status))
    assert say(config, "--token", str(server.token), "--anew") == 2
    assert "stop it first" in capsys.readouterr().err
    assert server.asked == []
