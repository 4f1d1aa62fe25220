"""Pictures on their way into the training.

Owns: the training set at the network's input size, datasets in the MVTec layout, augmentation, cleaning.
Threads: files are decoded by a pool, in order.
Never: a network: cleaning is given features.
"""
