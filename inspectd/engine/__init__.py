"""Scoring on a device: jobs in, patch scores out, ledger entries closed.

Owns the device and the threads that use it: one begins batches, one lands them, and helpers on a CPU. Never opens a
camera or a socket.

backend      the interface of all backends, in arrays; station: what a camera is judged by (both without torch)
batcher      which frames go next; engine: its threads
choose       which backend this machine uses; devices: what is known of it without torch
library      models prepared for scoring; parity: the gate that they pass; runtime: what a runtime must do
cpu, torch_runtime, openvino    the CPU; helpers: its threads
flights, cuda, gpu_preprocess, streams    the GPU
"""
