"""Training: from pictures of good parts to a model that the daemon can trust.

The command
  cli         its two forms: `--camera SOURCE`, and the published chain `net … dataset … mvtec PATH`
  camera      the first: take, train, report          take, capture, borrow, session, checks: the pictures of it
  published   the second: only the options            runs: every class with every backbone, trained or tested

From pictures to a model
  options     everything that decides a training, and what is refused
  pictures    good parts in memory, as the network takes them
  dataset     the MVTec layout                         augment: what varies a picture each time
  fit         pictures in, model out: hold out, clean, train, score, set the threshold
  features    pooled patches, computed once or anew    train, loss: the SimpleNet training loop
  clean       pictures that look unlike the rest       threshold: from held-out good parts, with a bound
  keep        the paper's choice of a checkpoint

What it is worth
  evaluate    AUROC and PRO                            testing, defects: a model on pictures with known truth
  folder      the run folder, whole or not at all      report, plots, figures: what an engineer looks at
"""
