"""`python -m calibrate …` is the same as `inspectd calibrate …`."""

import sys

from inspectd.cli import main

main(["calibrate", *sys.argv[1:]])
