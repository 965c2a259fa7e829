"""python -m tests.fuzz --seconds 600 [--target NAME]...: fuzz, print a table, and write build/fuzz.json."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys

from tests.fuzz import corpus, engines
from tests.support.collection import BUILD, make_importable
from tests.support.table import format_table

RESULT = BUILD / "fuzz.json"
LEAST_SECONDS = 1.0


def main(arguments: list[str]) -> int:
    make_importable()
    from tests.fuzz.targets import TARGETS

    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Fuzz code that reads a peer's bytes.")
    parser.add_argument("--seconds", type=float, default=16.0, help="total time for all targets (default: %(default)g)")
    parser.add_argument("--target", choices=TARGETS, action="append", help="fuzz only this target; may be repeated")
    parser.add_argument("--again", metavar="NAME", help="run one --target once with this kept input")
    chosen = parser.parse_args(arguments)
    targets = chosen.target or list(TARGETS)
    if chosen.again is not None:
        if len(targets) != 1:
            parser.error("--again needs exactly one --target")
        kept = corpus.inputs(targets[0])
        if chosen.again not in kept:
            parser.error(f"{targets[0]} has no kept input {chosen.again}; kept inputs: {', '.join(kept)}")
        TARGETS[targets[0]](kept[chosen.again])
        return 0

    fuzz = engines.engine()
    results = {target: fuzz(target, max(LEAST_SECONDS, chosen.seconds / len(targets))) for target in targets}
    rows = [
        (
            target,
            done.engine,
            f"{done.executions:,}",
            f"{done.executions / done.seconds:,.0f}",
            str(len(corpus.inputs(target))),
            f"{done.worst_seconds:.3f}",
            "failed" if done.complaint else "",
        )
        for target, done in results.items()
    ]
    print(format_table(("target", "engine", "executions", "per second", "kept", "worst (s)", ""), rows))
    BUILD.mkdir(exist_ok=True)
    report = {
        target: {**dataclasses.asdict(done), "crash": done.crash and repr(done.crash)}
        for target, done in results.items()
    }
    RESULT.write_text(json.dumps(report, indent=2) + "\n")
    for target, done in results.items():
        if not done.complaint:
            continue
        print(f"\n{target} failed:\n{done.complaint}", file=sys.stderr)
        if done.crash is not None:
            name = corpus.keep(target, done.crash)
            print(f"\ninput: {done.crash!r}", file=sys.stderr)
            print(f"Kept. To run it again: python -m tests.fuzz --target {target} --again {name}", file=sys.stderr)
    return int(any(done.complaint for done in results.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
