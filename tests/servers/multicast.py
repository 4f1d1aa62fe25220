"""A camera that sends to a multicast group: python multicast.py PORT VIDEO GROUP GROUP_PORT. Loopback only.

It sends VIDEO (H.264, Matroska) all the time, from its beginning again and again, whether anybody listens or not, and
answers RTSP's DESCRIBE, SETUP and PLAY with where that is. GStreamer's server does not let another program of the same
machine join its groups. End it by its process id.
"""

import base64
import socketserver
import sys
import threading
import time

import av

FPS = 25


def main(port, video, group, group_port):
    with av.open(video) as source:
        stream = source.streams.video[0]
        packets = [bytes(packet) for packet in source.demux(stream) if packet.size]
        threading.Thread(target=send, args=(packets, stream, group, group_port), daemon=True).start()
        serve(int(port), description(stream.codec_context.extradata, group, group_port), group, int(group_port))


def send(packets, like, group, group_port):
    out = av.open(f"rtp://{group}:{group_port}?ttl=1&localaddr=127.0.0.1", "w", format="rtp")
    stream = out.add_stream_from_template(like)
    out.start_encoding()
    due_s, number = time.monotonic(), 0
    while True:
        packet = av.Packet(packets[number % len(packets)])
        packet.stream = stream
        packet.pts = packet.dts = round(number / FPS / stream.time_base)
        packet.time_base = stream.time_base
        out.mux(packet)
        number, due_s = number + 1, due_s + 1 / FPS
        time.sleep(max(0.0, due_s - time.monotonic()))


def description(extradata, group, group_port):
    sets = ",".join(base64.b64encode(one).decode() for one in parameter_sets(extradata))
    lines = (
        "v=0",
        "o=- 1 1 IN IP4 127.0.0.1",
        "s=line",
        f"c=IN IP4 {group}/1",
        "t=0 0",
        f"m=video {group_port} RTP/AVP 96",
        "a=rtpmap:96 H264/90000",
        f"a=fmtp:96 packetization-mode=1;sprop-parameter-sets={sets}",
        "a=control:track1",
    )
    return "\r\n".join(lines) + "\r\n"


def parameter_sets(extradata):
    """Yield SPS and PPS of an AVCDecoderConfigurationRecord (ISO/IEC 14496-15)."""
    at = 5
    for mask in (0x1F, 0xFF):
        count, at = extradata[at] & mask, at + 1
        for _ in range(count):
            size = int.from_bytes(extradata[at : at + 2], "big")
            yield extradata[at + 2 : at + 2 + size]
            at += 2 + size


def serve(port, sdp, group, group_port):
    where = f"destination={group};port={group_port}-{group_port + 1};ttl=1"

    class Handler(socketserver.StreamRequestHandler):
        def handle(self):
            while head := self.head():
                what, number = head[0].split()[0], next(line for line in head if line.lower().startswith("cseq"))
                more, body = [], ""
                if what == "OPTIONS":
                    more = ["Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN"]
                elif what == "DESCRIBE":
                    more, body = ["Content-Type: application/sdp", f"Content-Length: {len(sdp)}"], sdp
                elif what == "SETUP":
                    more = [f"Transport: RTP/AVP;multicast;{where}", "Session: 1"]
                answer = ["RTSP/1.0 200 OK", number, *more, "", body]
                self.wfile.write("\r\n".join(answer).encode())

        def head(self):
            lines = []
            while line := self.rfile.readline().decode().strip():
                lines.append(line)
            return lines

    socketserver.ThreadingTCPServer.allow_reuse_address = True
    socketserver.ThreadingTCPServer.daemon_threads = True
    with socketserver.ThreadingTCPServer(("127.0.0.1", port), Handler) as server:
        print("ready", flush=True)
        server.serve_forever()


main(*sys.argv[1:5])
