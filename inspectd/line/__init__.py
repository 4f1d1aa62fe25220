"""What happens to a frame, in order: admitted, found fit, inspected, judged, closed, offered to sinks, released.

Owns: each running camera, the ledger with `seq` and deadlines, the queues in front of the engines, the verdicts.
Threads: a camera's events come from its supervisor's thread; inspection has its own; the ledger takes any.
Never: torch, zmq or a capture device; it hands verdicts to a function, and pictures to sinks.

camera (the unit of start, stop and change)  shadow  admission, fitness, recipe  batcher, inspection, judge  ledger
sinks
"""
