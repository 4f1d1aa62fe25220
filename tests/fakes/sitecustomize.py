"""Puts a fake V4L2 camera behind `cv2.VideoCapture` in every Python process that has this folder on its path.

The camera is steered through the file that FAKE_CAMERA names; it holds one word:

    ok          a new picture every 20 ms, with the driver's time
    hang        read() never returns
    stale       read() answers True at once, with the last picture and its old time (the cable is out)
    frozen      new times, and the same picture bit for bit
    leaks       as ok, and 10 MB of memory (or FAKE_LEAKS bytes) are never given back for each picture
    ahead       the driver's time is an hour ahead
    unplugged   read() fails and the device cannot be opened
    triggered   a new picture only when the file beside the script, with the ending .trigger, is there; it is taken away
    stuck       as triggered, with new times and the same picture bit for bit
    cut         a JPEG camera's pictures lack their second half (with FAKE_FORMAT=MJPG)

The file beside it, with the ending .controls, holds its controls (exposure …), which other programs may change.

With FAKE_FORMAT=MJPG it is a JPEG camera, which gives its bytes when CONVERT_RGB is switched off; with FAKE_DECODES
its driver decodes them all the same.
"""

import importlib.abc
import importlib.util
import json
import os
import sys
import time
from pathlib import Path

SCRIPT = os.environ.get("FAKE_CAMERA")
TRIGGERED = ("triggered", "stuck")


class FakeCapture:
    """Behaves like cv2.VideoCapture on a V4L2 device."""

    def __init__(self, address, backend=0, parameters=()):
        self.address = address
        self.count = 0
        self.time_ms = 0.0
        self.picture = None
        self.leaked = []
        self.properties = {}
        self.is_open = mode() != "unplugged"

    def isOpened(self):  # noqa: N802
        return self.is_open

    def set(self, key, value):
        self.properties[key] = value
        if (controls := read_controls()) is not None and str(key) in controls:
            controls[str(key)] = value
            Path(SCRIPT + ".controls").write_text(json.dumps(controls))
        with Path(SCRIPT + ".log").open("a") as log:
            log.write(f"{os.getpid()} {key} {value}\n")
        return not (key == 8 and value == -1)  # CAP_PROP_FORMAT: V4L2 does not know it

    def get(self, key):
        import cv2

        code = cv2.VideoWriter.fourcc(*os.environ.get("FAKE_FORMAT", "YUYV"))
        sizes = {cv2.CAP_PROP_FRAME_WIDTH: 64.0, cv2.CAP_PROP_FRAME_HEIGHT: 48.0}
        values = {**sizes, cv2.CAP_PROP_POS_MSEC: self.time_ms, cv2.CAP_PROP_FPS: 50.0, cv2.CAP_PROP_FOURCC: code}
        return values.get(key, (read_controls() or {}).get(str(key), -1.0))

    def read(self, image=None):
        import numpy as np

        now = mode()
        if now == "hang":
            while True:
                time.sleep(60)
        if now == "unplugged" or (now in TRIGGERED and not self.waits()):
            return False, None
        if now == "stale" and self.picture is not None:
            return True, self.picture
        if now == "leaks":
            self.leaked.append(np.ones(int(os.environ.get("FAKE_LEAKS", "10_000_000")), np.uint8))
        time.sleep(0.02)
        self.time_ms = time.monotonic() * 1000 + (3_600_000 if now == "ahead" else 0)
        if mode() not in ("frozen", "stuck") or self.picture is None:
            self.count += 1
            noise = np.random.default_rng([os.getpid(), self.count]).integers(0, 20, (48, 64, 3), np.uint8)
            # Blue, green and red differ: a reconnect that mixes them up would be seen.
            self.picture = noise + np.array([200, 100, 20], np.uint8)
        gives_bytes = os.environ.get("FAKE_FORMAT") == "MJPG" and "FAKE_DECODES" not in os.environ
        if gives_bytes and self.properties.get(16) == 0:  # CAP_PROP_CONVERT_RGB
            import cv2

            data = cv2.imencode(".jpg", self.picture)[1].reshape(1, -1)
            return True, data[:, : data.size // 2] if now == "cut" else data
        if image is not None and image.shape == self.picture.shape:
            image[...] = self.picture
            return True, image
        return True, self.picture.copy()

    def waits(self):
        """Wait as long as V4L2 may for the camera's input; return whether a picture was taken."""
        give_up = time.monotonic() + float(os.environ["OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT"])
        trigger = Path(SCRIPT + ".trigger")
        while mode() in TRIGGERED and not trigger.exists() and time.monotonic() < give_up:
            time.sleep(0.005)
        is_taken = mode() in TRIGGERED and trigger.exists()
        trigger.unlink(missing_ok=True)
        return is_taken

    def release(self):
        self.is_open = False


def read_controls():
    """Return the controls of a camera that has some, by the numbers of OpenCV's properties; None: it has none."""
    path = Path(SCRIPT + ".controls")
    return json.loads(path.read_text()) if path.exists() else None


def mode():
    return Path(SCRIPT).read_text().strip()


class _Patch(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Lets cv2 load as it is, and then replaces its VideoCapture."""

    def find_spec(self, name, path=None, target=None):
        if name != "cv2":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec("cv2")
        self.real = spec.loader
        spec.loader = self
        return spec

    def create_module(self, spec):
        return self.real.create_module(spec)

    def exec_module(self, module):
        self.real.exec_module(module)
        module.VideoCapture = FakeCapture


if SCRIPT:
    sys.meta_path.insert(0, _Patch())
