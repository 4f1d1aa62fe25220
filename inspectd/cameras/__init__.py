"""Where pictures come from.

Owns: capture devices, streams and files, each in a child process that may be killed, and the ring that pictures lie in.
Threads: one supervisor per camera in the daemon; in the child, one that grabs, and one that reads a network stream.
Never: torch, zmq, or an opinion on a part.

supervisor, child, protocol   one camera's child is kept alive; one such child, seen from the parent; their messages
capture, ring                 the child's program, and the shared memory that pictures lie in
grabbers, streams, vision     who reads which kind of source; coded pictures; GigE Vision and USB3 Vision
jpeg, freshness               whether a picture is whole, and whether it is a new one
sources, settings, image_files, discovery, snapshot   what a `source` may be; files; what is plugged in
"""
