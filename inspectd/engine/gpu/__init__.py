"""One NVIDIA GPU: uploads, networks and downloads of several batches overlap on three streams.

Owns: the device's streams, graphs and memory: backend (batches), networks (graphs and heads), preprocess, streams.
Threads: any may score; what changes the device's work is queued under one lock.
Never: an allocation after the largest picture has been seen, or more than one wait of the host for a batch.
"""
