"""Command-line options that several commands share."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TypeAlias

Parsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

DEFAULT_CONFIG = Path("/etc/loadscape/central.toml")


def add_config(parser: argparse.ArgumentParser) -> None:
    """`--config`, the configuration that every process of the centre reads."""
    parser.add_argument(
        "--config",
        type=Path,
        default=DEFAULT_CONFIG,
        metavar="FILE",
        help=f"central.toml (default {DEFAULT_CONFIG})",
    )


def add_keys(parser: argparse.ArgumentParser) -> None:
    """`--dir`, the key directory."""
    parser.add_argument(
        "--dir", type=Path, required=True, metavar="D", help="key directory of the tenant"
    )
