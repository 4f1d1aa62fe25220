"""The SimpleNet of the paper, in torch: what trains, what is folded for scoring, and what reads its tensors.

Runs in whichever thread calls it; owns no device. Knows nothing of cameras, engines or verdicts.

network      the textbook form, one file with only torch; folded: the same function, cheap
backbone     which pretrained network a name means, cut short; fusing: batch norms into convolutions
preprocess   from a camera's picture to the network's input
bundle       a model folder with its tensors (as data: `inspectd.model`)
"""
