"""The operator's page after as many updates as a day brings: its heap, its nodes, and what an update costs it.

    python tests/benchmarks/page_memory.py [--updates 864000] [--path /camera/top]

A day of ten updates a second. The page is the real one, served by the real server; only its WebSocket is replaced by one that
hands it the next update as soon as the last was answered, each tenth with a picture and its map. Printed, at each tenth of
the way: JavaScript's heap after a collection, DOM nodes, listeners, milliseconds an update.
"""

from __future__ import annotations

import argparse
import base64
import json
import struct
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from chromium import chromium
from daemon_process import DaemonProcess
from hmi_process import HmiProcess
from said_verdicts import said

from inspectd.wire.messages import MaskMessage

CAMERAS = 4
FEED = """
(() => {
  const templates = %s.map((text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0)));
  window.updates = 0;
  window.most = 0;
  window.WebSocket = class {
    constructor() { this.readyState = 1; window.feed = this; setTimeout(() => this.next(), 0); }
    send() { window.updates += 1; window.waiting = true; if (window.updates < window.most) { this.next(); } }
    next() {
      window.waiting = false;
      const n = window.updates + 1, template = templates[n %% 10 === 0 ? 1 : 0];
      const length = new DataView(template.buffer).getUint32(0, true);
      const text = new TextDecoder().decode(template.subarray(4, 4 + length)).replace(/987654321/g, String(n));
      const json = new TextEncoder().encode(text), rest = template.subarray(4 + length);
      const out = new Uint8Array(4 + json.length + rest.length);
      new DataView(out.buffer).setUint32(0, json.length, true);
      out.set(json, 4); out.set(rest, 4 + json.length);
      const deliver = () => this.onmessage({ data: out.buffer });
      n %% 50 === 0 ? setTimeout(deliver, 0) : Promise.resolve().then(deliver);
    }
    close() {}
  };
})();
"""


def template(*, with_picture: bool) -> bytes:
    """Return an update of four cameras; 987654321 stands for its number."""
    mask = MaskMessage(32, 24, (0, 0, 640, 480), 128)
    rng = np.random.default_rng(0)
    _, jpeg = cv2.imencode(".jpg", rng.integers(0, 255, (240, 320, 3), np.uint8))
    cameras: dict[str, Any] = {}
    rest = b""
    for i in range(CAMERAS):
        name = "top" if i == 0 else f"cam-{i}"
        header = msgspec.to_builtins(said(987654321, camera=name, mask=mask))
        one: dict[str, Any] = {"age_ms": 1.0, "verdict": header, "epoch": "e1"}
        one["scores"] = [[987654321, "2026-11-29T07:30:00.000000Z", 1.0, 2.0, "ok"]]
        if with_picture:
            one["pictures"] = [{"header": header, "bytes": len(jpeg), "masks": [msgspec.to_builtins(mask)]}]
            rest += bytes(jpeg) + bytes(32 * 24)
        cameras[name] = one
    update = json.dumps({"n": 987654321, "held_ms": 1.0, "cameras": cameras, "daemon_age_ms": 1.0}).encode()
    return struct.pack("<I", len(update)) + update + rest


def main() -> None:
    """Run, and print."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--updates", type=int, default=864_000)
    arguments.add_argument("--path", default="/")
    asked = arguments.parse_args()
    fed = FEED % json.dumps([base64.b64encode(template(with_picture=one)).decode() for one in (False, True)])
    with tempfile.TemporaryDirectory() as name, chromium("--js-flags=--expose-gc") as browser:
        folder = Path(name)
        source = "sim://line?fps=5&width=64&height=64"
        with (
            DaemonProcess(folder / "d", f'{{name: top, source: "{source}", model: /none}}') as daemon,
            HmiProcess(folder / "h", daemon.endpoint, daemon.control) as server,
        ):
            page = browser.new_context(bypass_csp=True).new_page()
            time.sleep(8)  # it has heard of the camera
            page.add_init_script(fed)
            page.goto(f"{server.origin}{asked.path}")
            session = page.context.new_cdp_session(page)
            session.send("Performance.enable")
            for tenth in range(1, 11):
                began_s, before = time.monotonic(), page.evaluate("window.updates")
                page.evaluate(f"window.most = {asked.updates * tenth // 10}; if (window.waiting) window.feed.next()")
                page.wait_for_function("window.updates >= window.most", timeout=0)
                took_ms = (time.monotonic() - began_s) * 1000 / (asked.updates * tenth // 10 - before)
                session.send("HeapProfiler.collectGarbage")
                found = {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}
                print(
                    f"{asked.updates * tenth // 10:8d} updates: heap {found['JSHeapUsedSize'] / 1e6:.2f} MB, "
                    f"{found['Nodes']:.0f} nodes, {found['JSEventListeners']:.0f} listeners, {took_ms:.2f} ms an update",
                    flush=True,
                )


if __name__ == "__main__":
    main()
