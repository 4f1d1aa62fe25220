"""Coded pictures, packet by packet: which of them show what the camera saw, and how old they are.

Owns: connections and files that FFmpeg (packets) or we (mjpeg) read, and their decoders.
Threads: reader has one of its own, so that the arrival of a packet is known however long decoding takes.
Never: a picture that is patched up without saying so (damage, nal), or one without its age (clock).
"""
