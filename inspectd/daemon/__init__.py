"""The process: what `inspectd run` starts, keeps alive and ends.

Owns: startup, main loop and shutdown (life), the stages and how they are joined (pipeline: read it first), what is
reported of them (status, metrics, alarms, commands), and systemd (notify, heartbeat).
Threads: the main thread lives here; metrics are served from the exporter's, commands run on the control socket's.
Never: a frame's way. What happens to a picture is the line's.
"""
