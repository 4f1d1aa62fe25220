"""Who reads which kind of source.

Owns: an open source, in the capture child: v4l2, aravis, network, video, folder, simulated, belt; opening: the one list
of them.
Threads: the child's main thread; a call that never returns is the parent's to notice.
Never: more than one source, and nothing of the parent.

base: what a grabber is, and what it can find.
"""
