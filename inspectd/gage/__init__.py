"""`inspectd gage`: an attribute study of an inspection, in the quality engineer's words.

Owns: the study's file, its statistics, its report.
Threads: the caller's.
Never: a judgement of its own; each trial's verdict is the daemon's, or that of the daemon's code on a picture.
"""
