"""A real RTSP server: python3 rtsp.py PORT VIDEO CODEC [loops]. Serves VIDEO (Matroska) on /line, from its beginning.

Runs in Debian's own Python, which has GStreamer's bindings. Loopback only; end it by its process id.
"""

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

PAYLOADS = {
    "h264": "h264parse config-interval=-1 ! rtph264pay name=pay0 pt=96",
    "hevc": "h265parse config-interval=-1 ! rtph265pay name=pay0 pt=96",
    "mjpeg": "jpegparse ! rtpjpegpay name=pay0 pt=26",
}


def main(port, video, codec):
    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(port)
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(f"( filesrc location={video} ! matroskademux ! {PAYLOADS[codec]} )")
    server.get_mount_points().add_factory("/line", factory)
    server.attach(None)
    print("ready", flush=True)
    GLib.MainLoop().run()


main(*sys.argv[1:4])
