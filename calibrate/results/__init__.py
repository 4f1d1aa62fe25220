"""What a run leaves: the run folder, report.html and its plots.

Owns: the layout of a run folder, written beside its place and put there in one step.
Threads: the caller's.
Never: training, or numbers of its own.
"""
