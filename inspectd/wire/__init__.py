"""The ZeroMQ protocol (README.md beside this file).

Owns: the sockets that the daemon binds: publisher (XPUB) and control (ROUTER), one context for both.
Threads: one for each socket; others reach it through a mailbox and a bell.
Never: what a command does, or what a verdict is. The types and the table load neither torch, cv2 nor zmq.

topics (the table)  messages, requests, results (the types)  schema  publisher, control  sockets
"""
