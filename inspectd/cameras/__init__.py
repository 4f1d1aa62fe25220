"""Where pictures come from. Never torch, never zmq.

supervisor   keeps one camera's capture child alive; life: one such child, seen from the parent
capture      the child; link: the words between the two; ring: the memory that pictures lie in
grabbers     which of these reads a source: device (V4L2), network, video, folder, simulated
packets      coded pictures through PyAV; mjpeg: JPEGs over HTTP, by ourselves; reader: both, as they come
decoders     from coded pictures to pictures; damage: which of those are patched up
jpeg, nal    as much of the coded formats as tells whether a picture is whole
clock, freshness    how old a picture is, and whether it is a new one
pictures     files: which ones a folder holds, how one is decoded; sources: what a `source` may be
discovery, snapshot    what is plugged in
"""
