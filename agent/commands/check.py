"""`check`: whether configuration, keys, certificates, ports and folders are fit to run.

Reads and opens only; nothing is written and the broker is not contacted.
"""

from __future__ import annotations

import argparse
import os
import ssl
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from agent.commands.findings import Finding, tell
from agent.config import AgentConfig, ConfigError, LineConfig, MeterConfig
from agent.enrol.enrolled import broker_of, provider_of, require_keys
from agent.run import clock_of, keyring_of
from agent.status_file import is_running, read_status
from wire.clock import Clock

_DAY_S = 86_400
_NUMBERED = ("/dev/ttyUSB", "/dev/ttyACM")


def run(config: AgentConfig, chosen: argparse.Namespace) -> int:
    """Print the findings; EXIT_WRONG if one is a problem."""
    return tell(check(config), as_json=chosen.json)


def check(config: AgentConfig) -> Iterator[Finding]:
    """All findings, in the order of the file."""
    yield _folder(config)
    yield _broker(config)
    yield from _certificates(config)
    try:
        clock = clock_of(config)
        now_utc_s = clock.now_utc_s()
    except (OSError, ValueError) as error:
        yield _wrong(config, "clock", "agent", "clock_file", f"{error}; remove the key or the file")
        return
    yield _keys(config, now_utc_s)
    credentials = _credentials(config)
    yield from credentials
    sound = all(finding.problem is None for finding in credentials)
    for index, line in enumerate(config.lines):
        yield from _line(config, index, line, clock, with_credentials=sound)
    counts = Counter(meter.model for meter in config.meters)
    models = ", ".join(f"{count} {model}" for model, count in sorted(counts.items()))
    lines = len(config.lines)
    yield Finding("meters", f"{len(config.meters)} meters on {lines} lines: {models}")


def _wrong(config: AgentConfig, what: str, table: str, key: str | None, problem: str) -> Finding:
    return Finding(what, problem=f"{config.places.name(table, 0, key)}: {problem}")


def _folder(config: AgentConfig) -> Finding:
    folder = config.data_dir
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not os.access(folder, os.W_OK | os.X_OK):
        problem = f"{folder}: cannot be written; chown it to the agent's user"
        return _wrong(config, "data_dir", "agent", "data_dir", problem)
    return Finding("data_dir", f"{config.data_dir}, intervals of {config.interval_min} min")


def _broker(config: AgentConfig) -> Finding:
    from agent.keys.at_rest import KeyringError

    try:
        broker = broker_of(config)
    except KeyringError as error:
        return _wrong(config, "broker", "keys", "folder", str(error))
    return Finding("broker", f"{broker.host}:{broker.port} as {config.common_name} (not contacted)")


def _keys(config: AgentConfig, now_utc_s: float) -> Finding:
    from agent.keys.at_rest import KeyringError, read_hex_key

    keys = config.keys
    looks: tuple[tuple[str, Callable[[], object]], ...] = (
        ("folder", lambda: require_keys(keys)),
        ("sign_key_file", lambda: provider_of(keys).open(keys.sign_key_file)),
        ("root_public_file", lambda: read_hex_key(keys.root_public_file)),
    )
    for key, look in looks:
        try:
            look()
        except KeyringError as error:
            return _wrong(config, "keys", "keys", key, str(error))
    try:
        keyring = keyring_of(config)
        epoch = keyring.epoch_key(now_utc_s)
    except (KeyringError, OSError, ValueError) as error:
        problem = f"{error}; copy this device's bundle anew (loadscape-central keys device)"
        return _wrong(config, "keys", "keys", "keyset_file", problem)
    return Finding(
        "keys",
        f"device {keyring.signer.kid.hex()}, keyset {keyring.version}, sealing until "
        f"{_until(epoch.not_after_utc_s, now_utc_s)}",
    )


def _credentials(config: AgentConfig) -> list[Finding]:
    """Whether the meters' secrets can be had and are all used; none of them is shown."""
    from agent.credentials import CredentialsError, load_credentials

    source = config.credentials
    if source is None:
        return []
    key = "file" if source.file else "systemd" if source.systemd else "command"
    try:
        names = load_credentials(source).names
    except CredentialsError as error:
        return [_wrong(config, "credentials", "credentials", key, str(error))]
    used = {meter.credentials for meter in config.meters}
    findings = [Finding("credentials", f"{source.where}: {len(names)} names")]
    if unused := ", ".join(name for name in names if name not in used):
        place = config.places.name("credentials", 0, key)
        warning = (
            f"{place}: {source.where} has tables that no meter names: {unused}; take out what is "
            "not needed here"
        )
        findings.append(Finding("credentials", warning=warning))
    return findings


def _certificates(config: AgentConfig) -> Iterator[Finding]:
    from agent.keys.at_rest import KeyringError
    from agent.publish import tls_context

    broker = config.broker
    paths = {"ca_file": broker.ca_file, "cert_file": broker.cert_file, "key_file": broker.key_file}
    for key, path in paths.items():
        problem = _unreadable(path, secret=key == "key_file")
        if problem:
            yield _wrong(config, "certificate", "broker", key, problem)
            return
    try:
        tls_context(broker)
    except ssl.SSLError as error:
        problem = (
            f"{broker.cert_file} and {broker.key_file}: expected a certificate and its key "
            f"(and in {broker.ca_file} the broker's authority), TLS says {error.reason}; copy all "
            "three from one bundle"
        )
        yield _wrong(config, "certificate", "broker", "cert_file", problem)
        return
    except KeyringError as error:
        yield _wrong(config, "certificate", "broker", "key_file", str(error))
        return
    yield _certificate(config, broker.cert_file)


def _certificate(config: AgentConfig, path: Path) -> Finding:
    """Whose certificate it is and how long it holds, by the system's clock as TLS sees it."""
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    name = str(names[0].value) if names else ""
    now_s = time.time()
    first_s = certificate.not_valid_before_utc.timestamp()
    last_s = certificate.not_valid_after_utc.timestamp()
    problem = None
    if name != config.common_name:
        problem = (
            f"{path}: is the certificate of {name!r}, this device is {config.common_name!r}; copy "
            "this device's bundle, or correct tenant and device"
        )
    elif now_s >= last_s:
        problem = f"{path}: expired on {_day(last_s)}; enrol the device again"
    elif now_s < first_s:
        problem = f"{path}: holds from {_day(first_s)} only; set the machine's clock right"
    if problem:
        return _wrong(config, "certificate", "broker", "cert_file", problem)
    return Finding("certificate", f"{name}, holds until {_until(last_s, now_s)}")


def _unreadable(path: Path, *, secret: bool) -> str | None:
    try:
        with path.open("rb"):
            mode = path.stat().st_mode & 0o777
    except OSError as error:
        return f"{path}: cannot be read ({error.strerror}); copy the file there"
    if secret and mode & 0o077:
        return f"{path}: mode {mode:o} lets others read the key; run chmod 600 {path}"
    return None


def _line(
    config: AgentConfig, index: int, line: LineConfig, clock: Clock, *, with_credentials: bool
) -> Iterator[Finding]:
    from agent.drivers import build_driver, open_line
    from agent.drivers_push import build_pushed, push_source
    from agent.line.port import PortBusy, PortLost

    meters = config.meters_of(line.name)
    says = (
        f"{line.port}, {line.protocol}, {line.baud} Bd 8{line.parity}{line.stopbits}, "
        f"{len(meters)} meters"
    )
    place = config.places.name("line", index, "port")
    port = push_source(line) if line.is_pushed else open_line(line)
    try:
        port.open()
        yield Finding(f"line {line.name}", says)
    except PortBusy as error:
        if _runs(config):
            yield Finding(f"line {line.name}", f"{says}, in use by the running agent")
        else:
            yield Finding(f"line {line.name}", problem=f"{place}: {error}")
    except PortLost as error:
        yield Finding(f"line {line.name}", problem=f"{place}: {error}")
    finally:
        port.close()
    yield from _name(config, index, line)
    yield from _budget(config, line)
    for meter in meters:
        if meter.credentials is not None and not with_credentials:
            # Said once, of the credentials.
            continue
        problem = _password_problem(config, meter)
        if problem is None:
            try:
                if line.is_pushed:
                    build_pushed(config, meter)
                else:
                    build_driver(config, line, meter, open_line(line), clock)
            except ConfigError as error:
                problem = str(error)
        if problem is not None:
            yield Finding(f"meter {meter.id}", problem=problem)


def _name(config: AgentConfig, index: int, line: LineConfig) -> Iterator[Finding]:
    """A port under a number that the kernel may give to another adapter."""
    from agent.line.names import stable_name

    if not line.port.startswith(_NUMBERED):
        return
    name = stable_name(line.port)
    if name is not None:
        place = config.places.name("line", index, "port")
        warning = (
            f"{place}: {line.port} may be another adapter after the next start; write port = "
            f'"{name}", which stays'
        )
        yield Finding(f"line {line.name}", warning=warning)


def _budget(config: AgentConfig, line: LineConfig) -> Iterator[Finding]:
    if line.is_dlms:
        return
    from agent.modbus import budget_table

    found = budget_table.budget_of(config, line)
    if found is None:
        return
    what = f"budget {line.name}"
    rows = tuple(budget_table.table(found))
    if found.fits:
        says = budget_table.summary(found, config.sample_s)
        yield Finding(what, says, table=rows, budget=found)
    else:
        place = config.places.name("agent", 0, "sample_s")
        said = f"{place}: {budget_table.problem(found, config.sample_s)}"
        yield Finding(what, problem=said, table=rows, budget=found)


def _password_problem(config: AgentConfig, meter: MeterConfig) -> str | None:
    if meter.password_file is None:
        return None
    problem = _unreadable(meter.password_file, secret=True)
    place = config.places.name("meter", config.meters.index(meter), "password_file")
    return None if problem is None else f"{place}: {problem}"


def _runs(config: AgentConfig) -> bool:
    try:
        status = read_status(config.data_dir)
    except (OSError, ValueError):
        return False
    return status is not None and is_running(status)


def _until(utc_s: float, now_utc_s: float) -> str:
    return f"{_day(utc_s)} UTC ({(utc_s - now_utc_s) / _DAY_S:.0f} days)"


def _day(utc_s: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(utc_s))
