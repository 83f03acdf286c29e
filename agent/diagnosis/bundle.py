"""The parts of a support bundle, each redacted, and the archive that holds them."""

from __future__ import annotations

import io
import json
import os
import pwd
import tarfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from agent.config import AgentConfig
from agent.diagnosis import configuration
from agent.diagnosis.machine import clock, machine, versions
from agent.diagnosis.ports import ports
from agent.diagnosis.redaction import Pseudonyms, Redactor
from agent.diagnosis.stored import names_in_store, stored
from agent.line.holders import holders

FOLDER: Final = "loadscape-doctor"
_SHARED_USERS: Final = ("root", "loadscape", "pi")


@dataclass(frozen=True, slots=True)
class Situation:
    """What doctor has to go by; a configuration that cannot be used is a situation too."""

    path: Path
    """The configuration's file."""
    raw: Mapping[str, Any]
    """What it says; empty if it cannot be read."""
    config: AgentConfig | None
    problem: str | None
    """Why there is no `config`."""


@dataclass(frozen=True, slots=True)
class Part:
    """One file of the bundle, redacted."""

    name: str
    says: str
    content: str


def gather(situation: Situation, pseudonyms: Pseudonyms) -> tuple[Part, ...]:
    """All parts; raises SecretFound rather than let one hold a secret."""
    redactor = Redactor(pseudonyms)
    configuration.tell_names(redactor, situation.path, situation.raw)
    _tell_of_machine(redactor, situation)
    parts = list(_parts(situation, redactor))
    for part in parts:
        redactor.refuse_secrets(part.name, part.content)
    parts += _profiles(situation, redactor)
    index = "".join(f"{part.name:32} {part.says}\n" for part in parts)
    readme = (
        "A diagnosis of one Loadscape agent, for a support request.\n\n"
        f"{index}\n"
        "No keys, passwords or readings are in here. Names of tenant, device, meters, lines,\n"
        "hosts and folders, addresses and long hexadecimal numbers are replaced by pseudonyms;\n"
        "the machine that made this keeps the list.\n"
    )
    return Part("README.txt", "what each file is", readme), *parts


def archive(parts: tuple[Part, ...]) -> bytes:
    """The parts as a tar.gz in a folder of their own."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        for part in parts:
            content = part.content.encode()
            member = tarfile.TarInfo(f"{FOLDER}/{part.name}")
            member.size = len(content)
            member.mtime = int(time.time())
            tar.addfile(member, io.BytesIO(content))
    return file.getvalue()


def _parts(situation: Situation, redactor: Redactor) -> Iterator[Part]:
    def as_json(name: str, says: str, value: Any) -> Part:
        text = json.dumps(redactor.value(value), indent=1, ensure_ascii=False)
        return Part(f"{name}.json", says, text + "\n")

    config = situation.config
    yield Part(
        "configuration.toml",
        "the configuration without comments and unknown values",
        configuration.shown(redactor, situation.raw, situation.problem),
    )
    yield as_json("versions", "of the agent, of what it uses, of the interpreter", versions())
    if config is not None:
        yield as_json("check", "the findings of `check`", _findings(config))
        yield as_json("status", "what the agent said last", _status(config))
        yield as_json("store", "counts of intervals and batches", stored(config.data_dir))
    data_dir = None if config is None else config.data_dir
    yield as_json("machine", "system, processor, memory, disk", machine(data_dir))
    names = configuration.ports_of(situation.raw)
    yield as_json("ports", "serial ports, their stable names, drivers and rights", ports(names))
    yield as_json("clock", "the time here, and what keeps it right", clock(_shown_utc_s(config)))


def _profiles(situation: Situation, redactor: Redactor) -> Iterator[Part]:
    """The profiles in use; those that ship with the agent are public and stay as they are."""
    for model, text in configuration.profiles(situation.path.parent, situation.raw):
        name, shown = model, text
        if configuration.is_own_profile(model):
            name = redactor.named(Path(model).stem)
            shown = redactor.named(text)
            redactor.refuse_secrets(model, shown)
        yield Part(f"profiles/{name}.toml", "a meter profile in use", shown)


def _tell_of_machine(redactor: Redactor, situation: Situation) -> None:
    """Names that are the machine's or in its store, not the configuration's."""
    if situation.config is not None:
        for meter, serial in names_in_store(situation.config.data_dir):
            redactor.name("meter", meter)
            redactor.name("serial", serial)
    host = os.uname().nodename
    redactor.name("host", host)
    redactor.name("host", host.partition(".")[0])
    user = pwd.getpwuid(os.getuid()).pw_name if _has_name() else ""
    if user not in _SHARED_USERS:
        redactor.name("user", user)
    for port in configuration.ports_of(situation.raw):
        for holder in holders(port):
            # A command line may hold a password; its first word says enough.
            redactor.replace(holder.command, holder.command.partition(" ")[0])


def _has_name() -> bool:
    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        return False
    return True


def _findings(config: AgentConfig) -> list[dict[str, Any]]:
    from agent.commands.check import check

    findings = []
    try:
        findings += [asdict(finding) for finding in check(config)]
    except (OSError, ValueError) as error:
        # What check stumbles over is a finding as well; the other parts are wanted all the same.
        findings.append({"what": "check", "problem": str(error)})
    return findings


def _status(config: AgentConfig) -> dict[str, Any]:
    from agent.status_file import is_running, read_status

    try:
        status = read_status(config.data_dir)
    except (OSError, ValueError) as error:
        return {"problem": str(error)}
    if status is None:
        return {"ever_ran": False}
    return {**status, "running": is_running(status)}


def _shown_utc_s(config: AgentConfig | None) -> float | None:
    """What the agent's own clock shows, where the configuration gives it one."""
    from agent.run import clock_of

    if config is None or config.clock_file is None:
        return None
    try:
        return clock_of(config).now_utc_s()
    except (OSError, ValueError):
        return None
