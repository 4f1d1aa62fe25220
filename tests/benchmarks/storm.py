"""A million triggers with everything that goes wrong, in simulated time: what became of them.

python tests/benchmarks/storm.py --triggers 1000000
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from storm import Storm


def main() -> None:
    """Run, and say what came."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--triggers", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    storm, began_s = Storm(asked.seed), time.monotonic()
    storm.run(asked.triggers)
    storm.check_end()
    hours = (storm.now_ns - storm.began_ns) / 3.6e12
    print(
        f"{storm.asked} triggers, {storm.taken} pictures, {hours:.1f} simulated hours, {time.monotonic() - began_s:.0f} s"
    )
    print(
        f"{storm.judged_pictures} pictures read beside their verdict, 0 of another part; verdicts missing 0, doubled 0"
    )
    for name, count in storm.outcomes.most_common():
        print(f"  {name:14} {count}")


if __name__ == "__main__":
    main()
