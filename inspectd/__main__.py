"""`python -m inspectd` is the same as `inspectd`."""

from inspectd.cli import main

main()
