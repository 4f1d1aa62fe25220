"""Training: from pictures of good parts to a model that the daemon can trust (README.md beside this file).

Owns: the commands `calibrate --camera` and the published one, and everything between pictures and a run folder.
Threads: the caller's; pictures come from a supervisor's thread.
Never: the daemon. inspectd imports this package only in the command that starts it and in `SimpleNet.fit`.

cli  camera, published  published_runs  results  evaluation  training  acquire  data  paths, progress
"""
