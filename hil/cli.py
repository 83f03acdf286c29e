"""`loadscape-hil`: the bench from the command line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

_Kinds: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command of the bench; returns its exit status."""
    from hil.demo.options import add_demo_options
    from hil.powercut.run import add_powercut_options

    parser = argparse.ArgumentParser(
        prog="loadscape-hil",
        description="The bench: simulated meters on real serial lines, the demo, benches, soak.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    add_demo_options(
        commands.add_parser("demo", help="run the whole chain on this machine, with a map")
    )
    _add_bench_options(commands)
    _add_soak_options(commands)
    add_powercut_options(
        commands.add_parser("powercut", help="cut the power at every write of agent and collector")
    )
    meters = commands.add_parser("meters", help="host simulated meters on serial lines")
    meters.add_argument("--plan", type=Path, required=True, help="what to host (JSON)")
    return _run(parser.parse_args(arguments))


def _add_bench_options(commands: _Kinds) -> None:
    from hil.bench.run import PARTS

    bench = commands.add_parser(
        "bench",
        help="print figures beside their limits and peers",
        description="Measures on this machine, now, and prints each figure beside its limit and "
        "its peer.",
        epilog="Exit codes: 0 every figure keeps its limit, 1 one does not, 2 there is no such "
        "part.",
    )
    bench.add_argument("part", nargs="?", help=f"one of: {', '.join(PARTS)}; none: all")
    bench.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")


def _add_soak_options(commands: _Kinds) -> None:
    soak = commands.add_parser(
        "soak",
        help="run the chain for long, with faults; count the rows",
        description="Runs a small town (2 agents, 32 meters) at a fast clock while agents, "
        "collector, loader and broker are killed or restarted and the clock's speed changes; then "
        "waits until everything has arrived and compares central's readings with the meters' own.",
        epilog="Ctrl-C ends the faults early and proves what there is; a second one leaves at "
        "once. Exit codes: 0 nothing is wrong, 1 something is (logs and data are kept), 2 unusable "
        "options.",
    )
    soak.add_argument(
        "--minutes",
        type=float,
        default=60.0,
        help="real minutes with faults (default 60); recovery and proof come on top",
    )
    soak.add_argument(
        "--speed",
        type=float,
        default=240.0,
        help="fastest clock speed, 1 to 600 (default 240); the faults change it between a tenth "
        "of this and this",
    )
    soak.add_argument(
        "--seed",
        type=int,
        default=1,
        help="which faults come and when (default 1); the same seed, the same faults",
    )
    kinds = soak.add_subparsers(dest="kind", metavar="fuzz | receipts")
    _add_fuzz_options(kinds)
    _add_receipts_options(kinds)


def _add_receipts_options(kinds: _Kinds) -> None:
    receipts = kinds.add_parser(
        "receipts",
        help="run random schedules of the receipt protocol instead, and count what is lost",
        description="Runs the agent's custody, cutter and sender and the collector's reception and "
        "journal with a simulated broker between them: reads, power cuts at both ends, drops, "
        "repetitions, reordering, wipes of the broker, restored cards, destroyed epoch keys. At "
        "the end of each schedule all that was acknowledged must be at the centre, once.",
        epilog="Exit codes: 0 as it should be (with --control: something was seen to be wrong), 1 "
        "not so, 2 unusable options.",
    )
    receipts.add_argument("--schedules", type=int, default=20_000, help="how many (default 20000)")
    receipts.add_argument(
        "--seed",
        type=int,
        default=0,
        help="of the first one (default 0); --schedules 1 --seed N replays one",
    )
    receipts.add_argument(
        "--control",
        metavar="NAME",
        help="leave a rule out, which must be seen: early-receipt, puback, no-hash, no-new-stream",
    )
    receipts.add_argument("--json", action="store_true", help="print the outcome as JSON")


def _add_fuzz_options(kinds: _Kinds) -> None:
    fuzz = kinds.add_parser(
        "fuzz",
        help="give the decoders damaged input instead, guided by coverage",
        description="Fuzzes the decoders of what meters send, one after the other, with atheris. "
        "Interesting inputs are kept in build/fuzz/corpus, inputs that a decoder does not take "
        "properly in build/fuzz/crashes.",
        epilog="Exit codes: 0 nothing is found, 1 something is, 2 unusable options or no atheris "
        "for this machine.",
    )
    fuzz.add_argument("decoder", nargs="*", help="which decoders; none means all")
    fuzz.add_argument(
        "--minutes", type=float, default=1.0, help="minutes for each decoder (default 1)"
    )
    fuzz.add_argument(
        "--mutations",
        type=int,
        metavar="N",
        help="N damaged inputs for each decoder instead, the same on every machine; without "
        "coverage and without atheris, with the peak of memory",
    )
    fuzz.add_argument(
        "--seed", type=int, default=1, help="which inputs --mutations gives (default 1)"
    )
    fuzz.add_argument("--json", action="store_true", help="print the outcome as JSON")
    fuzz.add_argument(
        "--input", type=Path, metavar="FILE", help="only run one decoder on this file, with trace"
    )


def _run(options: argparse.Namespace) -> int:
    if options.command == "demo":
        from hil.demo.run import run_demo

        return run_demo(options)
    if options.command == "powercut":
        from hil.powercut.run import run_powercut

        return run_powercut(options)
    if options.command == "bench":
        from hil.bench.run import run_bench

        return run_bench(options.part, options.json)
    if options.command == "soak" and options.kind == "fuzz" and options.mutations is not None:
        from hil.fuzz.mutated import run_mutated

        return run_mutated(options.decoder, options.mutations, options.seed, as_json=options.json)
    if options.command == "soak" and options.kind == "fuzz":
        from hil.fuzz.run import run_fuzz

        return run_fuzz(
            options.decoder, options.minutes, as_json=options.json, replayed=options.input
        )
    if options.command == "soak" and options.kind == "receipts":
        from hil.receipts.run import run_receipts

        return run_receipts(
            options.schedules, options.seed, control=options.control, as_json=options.json
        )
    if options.command == "soak":
        from hil.soak import run_soak

        return run_soak(options.minutes, options.speed, options.seed)
    from hil.host import host

    host(options.plan)
    return 0


if __name__ == "__main__":
    sys.exit(main())
