"""Training: from pictures of good parts to a model that the daemon can trust.

cli         the command
capture     pictures from a camera, folder or video, through the daemon's own capture
fit         pictures in, model out: the whole of calibration without files
features    backbone features of a frozen backbone, computed once
train, loss the SimpleNet training loop
threshold   from held-out good parts, with a bound
folder      the run folder, whole or not at all
report      what an engineer looks at
"""
