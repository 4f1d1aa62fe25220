"""`inspectd hmi`: the operator's page, a process of its own.

Owns: the web server, the subscription behind it, sessions, shift counters.
Threads: one listens to the daemon and fills the wall; the event loop serves browsers; what waits (control socket,
journal, archive) runs in the server's thread pool.
Never: anything on the way of a frame. It is a subscriber like any other; a browser reaches the daemon only through
the commands in `commands`, with the role that it has.

app (routes, pages)  gallery_pages  calibration_pages  gate (what each request passes)  feed (one browser)
server (what lives as long as the process)  wall (what is known)  listener (fills it)  counts  accounts  commands
"""
