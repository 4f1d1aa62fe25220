"""A real MJPEG camera: python mjpeg.py PORT WIDTH HEIGHT FPS. Loopback only; end it by its process id."""

import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from numbered import jpegs

PICTURES = 60


def main(port, width, height, fps):
    pictures = jpegs(PICTURES, size=(int(width), int(height)))

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=part")
            self.end_headers()
            number, due_s = 0, time.monotonic()
            try:
                while True:
                    jpeg = pictures[number % PICTURES]
                    head = b"--part\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(jpeg)
                    self.wfile.write(head + jpeg + b"\r\n")
                    number, due_s = number + 1, due_s + 1 / float(fps)
                    time.sleep(max(0.0, due_s - time.monotonic()))
            except OSError:
                pass

    server = ThreadingHTTPServer(("127.0.0.1", int(port)), Handler)
    server.daemon_threads = True
    print("ready", flush=True)
    server.serve_forever()


main(*sys.argv[1:5])
