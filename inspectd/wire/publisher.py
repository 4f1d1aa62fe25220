"""The publisher: one thread that owns the XPUB socket. Nothing upstream ever waits for it.

A slow subscriber loses messages at its own high-water mark and sees the gap in `seq`; the daemon does not
notice. A new subscription is answered with the matching states.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from typing import Literal, Protocol

import msgspec
import zmq

from inspectd.errors import StartError
from inspectd.records import Outcome, Verdict
from inspectd.wire.messages import DaemonMessage, StateMessage, mask_part, verdict_message
from inspectd.wire.security import LONGEST_HANDSHAKE, Door
from inspectd.wire.sockets import LINGER_MS, Bell, Context, Place, bind, rebind
from inspectd.wire.topics import DAEMON, FRAME, MASK, STATE, STATE_EVERY_S, TOPICS, VERDICT

LOG = logging.getLogger(__name__)

HIGH_WATER = 10_000
LONGEST_SUBSCRIPTION = 64
"""Bytes: the longest topic has 41. libzmq keeps some hundred bytes for each byte of a subscription."""
MOST_USELESS = 10_000
"""Subscriptions to topics that do not exist, before all clients are sent away and must come again; one that is longer
than any topic counts for as many as it is long."""
HEADERS_KEPT = 64
QUEUE_LIMIT = 100_000
"""Verdicts that may wait for this thread before it counts as lost (minutes of sixteen fast cameras)."""
SUBSCRIPTIONS_AT_ONCE = 64
"""A client that subscribes without end must not keep the verdicts waiting."""


class StateSource(Protocol):
    """Who can say how things are. Called from the publisher's thread."""

    def cameras(self) -> Iterable[str]:
        """Names of all cameras."""

    def camera(self, name: str) -> StateMessage:
        """The state of one camera, now."""

    def daemon(self) -> DaemonMessage:
        """The state of the daemon, now."""


class Publisher:
    """Settings: where to bind, which masks to send. Mailboxes: verdicts, pictures for people, changed states."""

    def __init__(
        self,
        context: Context,
        bind: str,
        masks: Literal["all", "ng", "none"],
        epoch: str,
        *,
        door: Door | None = None,
        on_lost: Callable[[str], None] = lambda _: None,
        progress: Callable[[], None] = lambda: None,
    ) -> None:
        """`door`: where others than this machine can reach it."""
        self._door = door
        self._places = door.places(bind, "publish") if door is not None else [Place(bind, "publish.bind")]
        self._masks = masks
        self._epoch = epoch
        self._keep: Callable[[str, int, bytes], None] = lambda _camera, _seq, _header: None
        self._on_published: Callable[[Verdict, int], None] = lambda _verdict, _published_ns: None
        self._on_lost = on_lost
        self._progress = progress
        self._wall_offset_ns = _wall_offset_ns()

        self._verdicts: deque[Verdict] = deque()
        self._pictures: deque[tuple[str, int, bytes]] = deque()
        self._headers: dict[str, deque[tuple[int, bytes]]] = defaultdict(lambda: deque(maxlen=HEADERS_KEPT))
        """By camera, the last headers: a picture that is encoded meanwhile gets its own."""
        self._wanted: frozenset[bytes] = frozenset()
        """What somebody subscribes to, of what is published."""
        self._changed: deque[str] = deque()
        self._bell = Bell()
        self._states: StateSource | None = None

        self._socket = context.socket(zmq.XPUB)
        self._useless: set[bytes] = set()
        self._useless_bytes = 0
        self._is_to_leave = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)

    @property
    def endpoint(self) -> str:
        """The address that clients connect to, once bound."""
        return self._places[0].address

    @property
    def endpoints(self) -> list[str]:
        """All addresses: there is a second one while keys are changed."""
        return [place.address for place in self._places]

    @property
    def is_closed(self) -> bool:
        """Whether the socket is closed, and nobody uses it."""
        return self._socket.closed and not self._thread.is_alive()

    def bind(self) -> None:
        """Bind the socket; StartError when the address cannot be had."""
        self._socket.set_hwm(HIGH_WATER)
        self._socket.setsockopt(zmq.XPUB_VERBOSE, 1)
        self._socket.setsockopt(zmq.MAXMSGSIZE, LONGEST_SUBSCRIPTION if self._door is None else LONGEST_HANDSHAKE)
        if self._door is not None:
            self._door.guard(self._socket)
        try:
            self._places = bind(self._socket, self._places)
        except StartError:
            self._socket.close(0)
            self._bell.close()
            raise

    def start(
        self,
        states: StateSource,
        on_published: Callable[[Verdict, int], None] | None = None,
        keep: Callable[[str, int, bytes], None] | None = None,
    ) -> None:
        """Begin to send; `states` are sent once a second and at every change.

        `keep`: given camera, `seq` and header of each verdict before it is sent, so that whoever asks for what they
        missed finds all that anybody received. `on_published`: after each verdict.
        """
        self._states = states
        self._on_published = on_published or self._on_published
        self._keep = keep or self._keep
        self._thread.start()

    def put(self, verdict: Verdict) -> None:
        """Queue a verdict. Never blocks; a queue that nobody empties means that the publisher is lost."""
        if len(self._verdicts) >= QUEUE_LIMIT:
            self._on_lost(f"the publisher left {QUEUE_LIMIT} verdicts unsent")
            return
        self._verdicts.append(verdict)
        self._bell.ring()

    def wants_pictures(self, camera: str) -> bool:
        """Whether somebody subscribes to a camera's pictures for people. From any thread."""
        topic = FRAME.of(camera)
        return any(topic.startswith(prefix) for prefix in self._wanted)

    def put_picture(self, camera: str, seq: int, jpeg: bytes) -> None:
        """Queue the picture of a verdict that was put before, for people. Never blocks."""
        self._pictures.append((camera, seq, jpeg))
        self._bell.ring()

    def changed(self, camera: str) -> None:
        """Ask for a camera's state, and the daemon's, to be sent soon."""
        self._changed.append(camera)
        self._bell.ring()

    def send_away(self) -> None:
        """Drop all clients soon; those that may come back do so by themselves. May be called from any thread."""
        self._is_to_leave.set()
        self._bell.ring()

    def stop(self) -> None:
        """Send what is queued and the last states, close the socket, wait for it."""
        self._stop.set()
        self._bell.ring()
        if self._thread.ident is not None:
            self._thread.join(LINGER_MS / 1000 * 3)
        else:
            self._socket.close(0)
        if not self._thread.is_alive():
            self._bell.close()

    def _run(self) -> None:
        try:
            self._serve()
        except Exception as error:  # a thread's top: without the publisher nobody is told anything
            LOG.exception("the publisher failed")
            self._on_lost(f"the publisher failed: {type(error).__name__}: {error}")
        finally:
            self._socket.close()

    def _serve(self) -> None:
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._bell.fd, zmq.POLLIN)
        next_states_s = time.monotonic()
        while True:
            is_last = self._stop.is_set()
            self._progress()
            if self._is_to_leave.is_set():  # before anything is sent to whoever may not hear it any more
                self._is_to_leave.clear()
                rebind(self._socket, self._places)
            if (now_s := time.monotonic()) >= next_states_s or is_last:
                self._wall_offset_ns = _wall_offset_ns()
                self._send_states(b"")
                next_states_s = now_s + STATE_EVERY_S
            self._send_verdicts()
            self._send_pictures()
            self._send_changed()
            if is_last:
                return
            ready = dict(poller.poll(max(0, int((next_states_s - time.monotonic()) * 1000) + 1)))
            if self._bell.fd in ready:
                self._bell.hear()
            if self._socket in ready:
                self._answer_subscriptions()

    def _send_verdicts(self) -> None:
        while self._verdicts:
            verdict = self._verdicts.popleft()
            mask = verdict.finding.mask
            is_wanted = self._masks == "all" or (self._masks == "ng" and verdict.finding.outcome is Outcome.NG)
            with_mask = mask is not None and is_wanted
            published_ns = time.monotonic_ns()
            message = verdict_message(verdict, self._epoch, self._wall_offset_ns, with_mask, published_ns)
            header = msgspec.json.encode(message)
            self._keep(verdict.camera, verdict.seq, header)
            self._headers[verdict.camera].append((verdict.seq, header))
            self._socket.send_multipart([VERDICT.of(verdict.camera), header])
            if mask is not None and with_mask:
                self._socket.send_multipart([MASK.of(verdict.camera), header, mask_part(verdict.finding)])
            self._on_published(verdict, published_ns)

    def _send_pictures(self) -> None:
        while self._pictures:
            camera, seq, jpeg = self._pictures.popleft()
            header = next((header for one, header in self._headers[camera] if one == seq), None)
            if header is not None:
                self._socket.send_multipart([FRAME.of(camera), header, jpeg])

    def _send_changed(self) -> None:
        names = set()
        while self._changed:
            names.add(self._changed.popleft())
        for name in names:
            self._send_state(name)
        if names:
            self._send_daemon()

    def _answer_subscriptions(self) -> None:
        for _ in range(SUBSCRIPTIONS_AT_ONCE):
            try:
                event = self._socket.recv(zmq.NOBLOCK)
            except zmq.Again:
                return
            topic, is_wanted = event[1:], event[:1] == b"\x01"
            if not self._is_topic(topic):
                self._note_useless(topic, is_wanted=is_wanted)
                continue
            self._wanted = self._wanted | {topic} if is_wanted else self._wanted - {topic}
            if is_wanted:
                self._send_states(topic)

    def _is_topic(self, prefix: bytes) -> bool:
        """Whether anything that is published begins with `prefix`."""
        cameras = tuple(self._states.cameras()) if self._states is not None else ()
        topics = (topic.of(name) for topic in TOPICS for name in (cameras if topic.is_per_camera else (None,)))
        return any(topic.startswith(prefix) for topic in topics)

    def _note_useless(self, topic: bytes, is_wanted: bool) -> None:
        """Keep the memory that clients can take bounded: nobody may subscribe to nothing without end."""
        if is_wanted == (topic in self._useless):
            return
        weight = max(len(topic), LONGEST_SUBSCRIPTION)
        if not is_wanted:
            self._useless.discard(topic)
            self._useless_bytes -= weight
            return
        self._useless.add(topic)
        self._useless_bytes += weight
        if self._useless_bytes >= MOST_USELESS * LONGEST_SUBSCRIPTION:
            LOG.error(
                "a client has made %d subscriptions to topics that do not exist; all clients are disconnected and must "
                "connect again (ZeroMQ does so by itself)",
                len(self._useless),
            )
            self._useless.clear()
            self._useless_bytes = 0
            rebind(self._socket, self._places)

    def _send_states(self, prefix: bytes) -> None:
        """Send all states whose topic a subscription to `prefix` receives."""
        if self._states is None:
            return
        for name in self._states.cameras():
            if STATE.of(name).startswith(prefix):
                self._send_state(name)
        if DAEMON.of().startswith(prefix):
            self._send_daemon()

    def _send_state(self, name: str) -> None:
        if self._states is not None:
            message = msgspec.json.encode(self._states.camera(name))
            self._send_verdicts()  # all that the state's `last_seq` speaks of were queued before it was read
            self._socket.send_multipart([STATE.of(name), message])

    def _send_daemon(self) -> None:
        if self._states is not None:
            self._socket.send_multipart([DAEMON.of(), msgspec.json.encode(self._states.daemon())])


def _wall_offset_ns() -> int:
    return time.time_ns() - time.monotonic_ns()
