"""What was said and what was changed, kept on disk.

Owns: the journal's file and its schema, the audit's chain, the overrides that commands made, the archive's pictures.
Threads: the journal and the archive write on one of their own each; everything is read on the caller's, by a
connection of its own.
Never: the way of a frame; nothing here is waited for by what judges or publishes.
"""
