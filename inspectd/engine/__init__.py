"""Scoring on a device: pictures in, patch scores out.

Owns: the device, the models that are prepared for it, and the memory that pictures and scores pass through.
Threads: those that scoring is called from (`seat`), and a pool for calls that bring many pictures at once.
Never: a camera, a socket, a threshold. `backend` and `devices` load no torch.

backend (the interface)  choose, devices  prepared, parity, runtime  cpu, openvino, torch_cpu, workers  gpu/
"""
