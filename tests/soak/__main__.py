"""`python -m tests.soak`: prints as it goes, then a table; ends with 1 if anything was lost, doubled, widened or broken."""

from __future__ import annotations

import argparse
import asyncio
import math
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.soak.conduct import Terms, conduct


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--events", type=int, default=100_000, help="acknowledged ones")
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1, 10 ** 9))
    parser.add_argument("--store", choices=["sqlite", "azurite"], default="sqlite")
    parser.add_argument("--speed", type=float, default=20, help="simulated seconds a second")
    parser.add_argument("--every", type=int, default=2000, help="events between two looks at what was lost")
    parser.add_argument("--minutes", type=float, default=math.inf, help="at most, before its end is looked at")
    given = parser.parse_args()
    print(f"soak: {given.events} events, {given.workers} workers on {given.store}, seed {given.seed}; the clocks of all "
          f"processes run {given.speed:g} times as fast as the wall", flush=True)
    began = time.monotonic()
    folder = tempfile.mkdtemp(prefix="soak-")
    terms = Terms(given.events, given.workers, given.seed, given.store, given.speed, given.every, given.minutes * 60)
    report = asyncio.run(conduct(Path(folder), terms, lambda line: print(
        f"{time.monotonic() - began:6.0f} s {line}", flush=True)))
    print(report.text)
    print(f"{time.monotonic() - began:.0f} s, seed {given.seed}")
    if report.is_good:
        shutil.rmtree(folder)
    else:
        print(f"store and logs: {folder}")
    return 0 if report.is_good else 1


if __name__ == "__main__":
    sys.exit(main())
