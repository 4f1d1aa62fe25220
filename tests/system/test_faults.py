"""A daemon whose camera misbehaves in every way that the simulator knows: nothing is ok that was not seen."""

from __future__ import annotations

import time
from pathlib import Path

from conftest import write_small_model
from daemon_process import DaemonProcess

from inspectd.model.calibration import CameraRecord
from inspectd.sim.faults import SECOND, Script, Trouble

SEED, EVERY_S, LONGEST_S = 3, 2.5, 2.0
SHOWS = {Trouble.UNPLUGGED, Trouble.HANGS, Trouble.FROZEN, Trouble.STALE, Trouble.TORN}
"""To a model without a fingerprint; what happens to the picture itself is for the fingerprint to notice."""
MEANS = {
    Trouble.UNPLUGGED: {"camera_lost"},
    Trouble.HANGS: {"camera_lost"},
    Trouble.STALE: {"camera_lost"},
    Trouble.FROZEN: {"camera_frozen"},
    Trouble.TORN: {"picture"},
}


def test_whatever_the_camera_does_the_reason_is_true_and_nothing_unseen_is_ok(tmp_path: Path) -> None:
    model = write_small_model(tmp_path / "model", threshold=1e6, camera=CameraRecord("sim", None, 64, 64))
    script = Script(SEED, tuple(Trouble), EVERY_S, LONGEST_S)
    source = f"sim://line?fps=20&width=64&height=64&faults={SEED}&every={EVERY_S}&longest={LONGEST_S}"
    text = f'{{name: top, source: "{source}", model: {model}, deadline_ms: 5000, read_timeout_ms: 300, '
    text += "frozen_ms: 300, open_timeout_ms: 4000}"
    with DaemonProcess(tmp_path / "d", text) as daemon:
        daemon.listen(lambda d: any(v["verdict"] == "ok" for v in d.verdicts))
        began_ns, end_ns = time.monotonic_ns(), time.monotonic_ns() + int(len(Trouble) * EVERY_S * SECOND)
        daemon.listen(lambda _: time.monotonic_ns() > end_ns)
        assert daemon.stop() == 0
    at = [(v, script.now(v["t"]["captured"])) for v in daemon.verdicts if v["t"]["captured"] is not None]
    passed = [one for one in at if one[0]["verdict"] == "ok" and one[1] is not None and one[1].trouble in SHOWS]
    assert passed == []
    for episode in script.between(began_ns, end_ns):
        seconds = (episode.end_ns - episode.start_ns) / SECOND
        if episode.trouble not in SHOWS or seconds < 0.7 or episode.start_ns < began_ns or episode.end_ns > end_ns:
            continue  # too short to be noticed for certain, or not seen whole
        said = {
            v["reason"]
            for v in daemon.verdicts
            if v["reason"] is not None and episode.covers(v["t"]["captured"] or v["t"]["published"])
        }
        assert said & MEANS[episode.trouble], (episode, said)
