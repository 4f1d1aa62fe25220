"""What `inspectd bench` measures.

Owns: its timing, random models, and a daemon with simulated cameras in a process of its own.
Threads: as many that score as the engine asks for, and one that scrapes.
Never: a hook in the product: stages and the backbone alone are timed from outside.

engine, stages, backbone (the engine by itself)  daemon (everything)  models, rows
"""
