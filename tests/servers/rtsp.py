"""A real RTSP server: python3 rtsp.py PORT VIDEO CODEC [--multicast GROUP] [--login basic|digest USER PASSWORD].

Serves VIDEO (Matroska) on /line, from its beginning; with --multicast to one group, on the loopback too. Runs in
Debian's own Python, which has GStreamer's bindings. Loopback only; end it by its process id.
"""

import argparse

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtsp, GstRtspServer  # noqa: E402

PAYLOADS = {
    "h264": "h264parse config-interval=-1 ! rtph264pay name=pay0 pt=96",
    "hevc": "h265parse config-interval=-1 ! rtph265pay name=pay0 pt=96",
    "mjpeg": "jpegparse ! rtpjpegpay name=pay0 pt=26",
}
ROLE = "viewer"


def main():
    ask = argparse.ArgumentParser()
    ask.add_argument("port")
    ask.add_argument("video")
    ask.add_argument("codec", choices=PAYLOADS)
    ask.add_argument("--multicast")
    ask.add_argument("--login", nargs=3)
    given = ask.parse_args()

    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(given.port)
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(f"( filesrc location={given.video} ! matroskademux ! {PAYLOADS[given.codec]} )")
    if given.multicast:
        send_to_group(factory, given.multicast)
    if given.login:
        ask_for_login(server, factory, *given.login)
    server.get_mount_points().add_factory("/line", factory)
    server.attach(None)
    print("ready", flush=True)
    GLib.MainLoop().run()


def send_to_group(factory, group):
    pool = GstRtspServer.RTSPAddressPool()
    pool.add_range(group, group, 15000, 15020, 1)
    factory.set_shared(True)
    factory.set_protocols(GstRtsp.RTSPLowerTrans.UDP_MCAST)
    factory.set_address_pool(pool)
    factory.set_multicast_iface("lo")


def ask_for_login(server, factory, kind, user, password):
    auth = GstRtspServer.RTSPAuth()
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", ROLE)
    if kind == "digest":
        auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
        auth.add_digest(user, password, token)
    else:
        auth.add_basic(GstRtspServer.RTSPAuth.make_basic(user, password), token)
    server.set_auth(auth)
    permissions = GstRtspServer.RTSPPermissions()
    permissions.add_role(ROLE)
    permissions.add_permission_for_role(ROLE, "media.factory.access", True)
    permissions.add_permission_for_role(ROLE, "media.factory.construct", True)
    factory.set_permissions(permissions)


main()
