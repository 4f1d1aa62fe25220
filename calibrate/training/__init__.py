"""From pictures to a trained head and its threshold.

Owns: features and their cache, loss, schedule, the loop (train), the threshold; fit: all of it in order.
Threads: the caller's.
Never: cameras or files of a run. Nothing that is reported chooses anything here.
"""
