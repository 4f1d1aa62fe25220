"""A real MJPEG camera: python mjpeg.py PORT WIDTH HEIGHT FPS [SCRIPT]. Loopback only; end it by its process id.

The file SCRIPT holds one word, which is read anew for each picture:

    well        a picture when it is due
    flaps       the connection is closed after three pictures
    floods      pictures without a pause between them
    torn        every picture lacks its second half
    half        the connection is closed in the middle of a part
    endless     a part of no said length begins, and goes on for ever
"""

import sys
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from numbered import jpegs

PICTURES = 60
AT_ONCE = 20
FLAPS_AFTER = 3


def main(port, width, height, fps, script=None):
    pictures = jpegs(PICTURES, size=(int(width), int(height)))

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=part")
            self.end_headers()
            with suppress(OSError):
                self.send_pictures()

        def send_pictures(self):
            number, due_s, word = 0, time.monotonic(), ""
            while True:
                last, word = word, (Path(script).read_text() if script else "well")
                jpeg = pictures[number % PICTURES]
                number, due_s = number + 1, due_s + 1 / float(fps)
                if word == "floods":
                    self.wfile.write(b"".join(map(part, pictures[:AT_ONCE])))
                    due_s = time.monotonic()
                    continue
                if word == "endless":
                    self.wfile.write(jpeg_begun(jpeg) if last != "endless" else b"\x55" * 1000)
                elif word == "half":
                    self.wfile.write(part(jpeg)[: len(jpeg) // 2])
                    return
                elif word == "torn":
                    self.wfile.write(part(jpeg[: len(jpeg) // 2]))
                else:
                    self.wfile.write(part(jpeg))
                    if word == "flaps" and number >= FLAPS_AFTER:
                        return
                time.sleep(max(0.0, due_s - time.monotonic()))

    server = ThreadingHTTPServer(("127.0.0.1", int(port)), Handler)
    server.daemon_threads = True
    print("ready", flush=True)
    server.serve_forever()


def jpeg_begun(jpeg):
    return b"--part\r\nContent-Type: image/jpeg\r\n\r\n" + jpeg[: len(jpeg) // 2]


def part(jpeg):
    return b"--part\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(jpeg) + jpeg + b"\r\n"


main(*sys.argv[1:])
