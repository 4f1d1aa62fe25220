"""The simulated line of the demo and the tests: parts with known defects.

Owns: nothing outside itself; a line is a pure function of its seed.
Threads: any.
Never: anything of the rest of inspectd but its errors.
"""
