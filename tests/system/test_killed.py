"""What a process leaves behind that is killed in the middle of its work."""

from __future__ import annotations

import gc
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from calibrate.acquire.capture_session import CaptureSession
from inspectd.cameras import protocol
from inspectd.cameras.ring import Ring

FACTS = {"source": "0", "size": [64, 48], "format": None}

RING_MAKER = """
import os, socket, sys
from inspectd.cameras.ring import Ring
ring, fd = Ring.create(2, 4096)
ring.view(1, (8, 8), "uint8")[...] = 77
socket.send_fds(socket.socket(fileno=int(sys.argv[1])), [b"ring"], [fd])
os.kill(os.getpid(), 9)
"""


def test_the_memory_outlives_its_maker_and_leaves_nothing_behind() -> None:
    before = set(os.listdir("/dev/shm"))  # noqa: PTH208
    ours, theirs = protocol.pair()
    with ours, theirs:
        ended = subprocess.run(
            [sys.executable, "-c", RING_MAKER, str(theirs.fileno())], pass_fds=[theirs.fileno()], check=False
        )
        _, (fd,), _, _ = socket.recv_fds(ours, 16, 1)
    assert ended.returncode == -9
    picture = Ring.attach(fd, 2, 4096).view(1, (8, 8), "uint8")
    os.close(fd)
    gc.collect()  # of the ring nothing is left but this view
    assert (picture == 77).all()
    assert set(os.listdir("/dev/shm")) <= before  # noqa: PTH208
    assert "inspectd-ring" in Path("/proc/self/maps").read_text(encoding="ascii", errors="replace")
    del picture
    gc.collect()
    assert "inspectd-ring" not in Path("/proc/self/maps").read_text(encoding="ascii", errors="replace")


CAPTURE = """
import sys, numpy as np
from pathlib import Path
from calibrate.acquire.capture_session import CaptureSession
session = CaptureSession.begin(Path(sys.argv[1]), {"source": "0", "size": [64, 48], "format": None})
while True:
    session.add(np.random.default_rng(0).integers(0, 255, (300, 400, 3), np.uint8))
    print("one", flush=True)
"""


def test_a_capture_loses_at_most_the_picture_at_hand(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", CAPTURE, str(tmp_path / "capture")], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        for _ in range(5):
            child.stdout.readline()
        os.kill(child.pid, signal.SIGKILL)
    with CaptureSession.resume(tmp_path / "capture", FACTS) as session:
        assert len(list(session.pictures())) >= 5
