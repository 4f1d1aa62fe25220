"""Pictures of good parts, from any source.

Owns: a capture with its supervisor, or a connection to the daemon that holds the camera; capture_session: what a
stopped capture leaves on disk.
Threads: pictures come from a supervisor's thread, and are taken on the caller's.
Never: training, or a decision on which pictures are good: checks only say what is wrong.
"""
