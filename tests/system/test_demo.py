"""`inspectd demo`, as a newcomer runs it, only shorter."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest


@pytest.mark.timeout(900)  # a whole calibration: slow where others use the processor too
def test_the_demo_calibrates_inspects_and_tells_what_it_missed() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "inspectd", "demo", "--duration", "8", "--seed", "3"],
        capture_output=True,
        text=True,
        check=False,
        timeout=800,
    )
    assert ended.returncode == 0, ended.stderr
    lines = [line for line in ended.stdout.splitlines() if re.match(r"part-\d{6} ", line)]
    assert [line[:11] for line in lines] == [f"part-{i:06d}" for i in range(40)]
    for line in lines:
        assert re.search(r"(ok|ng) +score +-?\d+\.\d\d +threshold \d+\.\d\d +\d+ ms +truth: \w+", line), line
    result = re.search(
        r"40 of 40 parts have a verdict: (\d+) correct, (\d+) missed, "
        r"(\d+) false rejects of (\d+) good parts, 0 faults",
        ended.stdout,
    )
    assert result, ended.stdout
    correct, missed, rejected, good = map(int, result.groups())
    assert correct + missed + rejected == 40
    assert good == sum("truth: good" in line for line in lines)
    # It shows honestly what is missed: the lines say the same as the sum.
    assert missed == sum("missed" in line for line in lines)
    assert rejected == sum("false reject" in line for line in lines)
    gross = [line for line in lines if "truth: gross" in line]
    assert gross, "the demo shows nobody a gross defect"
    assert sum("ng" in line.split() for line in gross) >= len(gross) - 1
    assert "median" in ended.stdout
    assert "p99" in ended.stdout
