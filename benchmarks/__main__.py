"""`python -m benchmarks [--quick | --scale SHARE] [--out FILE] [ROW...]`"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Final

from benchmarks import report, rows

RESULTS: Final = Path(__file__).with_name("RESULTS.md")
QUICK_SCALE: Final = 0.05


def main() -> None:
    """Run rows, print the table, and write it to a file; it says NO where a target was missed."""
    options = _parser().parse_args()
    about = report.machine()
    findings: list[report.Finding] = []
    for name in options.rows or rows.ROWS:
        print(f"{name}: {rows.ROWS[name]} ...", file=sys.stderr, flush=True)
        started = time.monotonic()
        findings += rows.run(name, options.scale)
        print(f"{name}: done in {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    print("\n".join(about), report.screen(findings), sep="\n\n")
    out = options.out or (None if options.scale != 1 or options.rows else RESULTS)
    if out is not None:
        out.write_text(report.markdown(findings, about), encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    width = max(len(name) for name in rows.ROWS)
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure Tailrace against its peers, in turn, on this machine.",
        epilog="rows:\n" + "\n".join(f"  {name:{width}}  {rows.ROWS[name]}" for name in rows.ROWS),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("rows", metavar="ROW", nargs="*", help="which rows; all without one")
    size = parser.add_mutually_exclusive_group()
    size.add_argument(
        "--quick",
        dest="scale",
        action="store_const",
        const=QUICK_SCALE,
        help="a twentieth of each size",
    )
    size.add_argument("--scale", type=float, help="this share of each size")
    parser.add_argument(
        "--out",
        type=Path,
        help="where to write the table; a run of all rows in full size writes RESULTS.md",
    )
    parser.set_defaults(scale=1.0)
    return parser


if __name__ == "__main__":
    main()
