"""A calibrated model as data.

Owns: the files of a model folder (artefact, atomic store with rollback, locate) and what they say: calibration,
geometry, framing, optics, presence; glance: what is seen of a picture at once.
Threads: any; everything here is immutable once read.
Never: torch. What the tensors mean is known to `inspectd.simplenet`.
"""
