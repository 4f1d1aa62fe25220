"""SimpleNet: the network, with torch only.

Owns: the textbook form (network), the folded one that is run (folded, fusing), backbones and their weights, and
preprocessing; bundle: a model folder with its weights loaded.
Threads: any; modules are not changed once they are loaded.
Never: a device's choice, a camera, a socket.
"""
