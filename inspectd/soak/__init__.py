"""`inspectd soak`: a whole daemon on simulated cameras for a while, with all that may go wrong, held against the truth.

Owns: the daemon that is soaked, what is done to it, the bookkeeping beside it, and what is measured of it.
Threads: the main thread listens; one does what is done to the daemon, one measures.
Never: anything inside the daemon; it is the product, in a process of its own, and knows nothing of this.
"""
