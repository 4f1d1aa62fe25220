"""Who may connect: real sockets, real handshakes."""

from __future__ import annotations

import itertools
import logging
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from inspectd.client import Control, Keys, NoReplyError, NotAllowedError, Subscription, connected
from inspectd.daemon.commands import Commands, telling
from inspectd.errors import UsageError
from inspectd.records import Finding, Outcome, Verdict
from inspectd.wire import control
from inspectd.wire.keys import KeyPair, write_pair
from inspectd.wire.messages import CountsMessage, DaemonMessage, JournalMessage, StateMessage
from inspectd.wire.publisher import Publisher
from inspectd.wire.requests import StatusRequest
from inspectd.wire.security import Door, Doorkeeper
from inspectd.wire.sockets import Context, rebind

PATIENCE_S = 20.0
SERVER = KeyPair.new()
PEOPLE = {name: KeyPair.new() for name in ("hmi", "plc", "stranger")}


class States:
    def cameras(self) -> tuple[str, ...]:
        return ("top",)

    def camera(self, name: str) -> StateMessage:
        return StateMessage(
            1,
            "e1",
            name,
            "running",
            True,
            None,
            None,
            0,
            None,
            None,
            {},
            CountsMessage(*[0] * 10),
            *[None] * 4,
            [],
            None,
        )

    def daemon(self) -> DaemonMessage:
        return DaemonMessage(
            1,
            "e1",
            "0",
            1.0,
            True,
            "cpu",
            "float32",
            {"top": "running"},
            {},
            JournalMessage(True, None, 0, 0, {}),
            None,
            [],
        )

    def report(self) -> dict[str, Any]:
        return {"inspecting": True}


class Guarded:
    """A publisher and a control socket behind doors: `hmi` may watch, `plc` may do both."""

    def __init__(self, folder: Path, next_: KeyPair | None = None) -> None:
        self.asked_by: list[str | None] = []
        elsewhere = ("tcp://127.0.0.1:0", next_) if next_ is not None else None
        self.lists = {"watch": folder / "watch", "command": folder / "command"}
        for place, names in (("watch", ("hmi", "plc")), ("command", ("plc",))):
            self.lists[place].mkdir()
            for name in names:
                self.allow(place, name)
        self.context: Context = zmq.Context()
        self.doorkeeper = Doorkeeper(self.context, self.lists)
        self.publisher = Publisher(
            self.context, "tcp://127.0.0.1:0", "all", "e1", door=Door(SERVER, "watch", elsewhere)
        )
        self.control = control.Control(self.context, "tcp://127.0.0.1:0", door=Door(SERVER, "command", elsewhere))
        self.sent_away: list[str] = []
        ways = {"watch": self.publisher.send_away, "command": self.control.send_away}
        self.doorkeeper.start({place: self.noting(place, way) for place, way in ways.items()})
        self.publisher.bind()
        self.control.bind()
        self.publisher.start(States())
        commands = Commands(["top"], telling(States()))

        def handle(request: Any, answer: control.Answer) -> None:
            self.asked_by.append(answer.user)
            commands.handle(request, answer)

        self.control.start(handle)

    def noting(self, place: str, way: Callable[[], None]) -> Callable[[], None]:
        def send_away() -> None:
            self.sent_away.append(place)
            way()

        return send_away

    def allow(self, place: str, name: str) -> None:
        public, secret = write_pair(self.lists[place], name, PEOPLE[name])
        assert public.exists()
        secret.unlink()

    def close(self) -> None:
        self.control.stop()
        self.publisher.stop()
        self.doorkeeper.stop()
        self.context.term()

    def watching(self, name: str, server: KeyPair = SERVER) -> Subscription:
        return Subscription(self.publisher.endpoint, "state/", "verdict/", keys=Keys(server.public, PEOPLE[name]))

    def commanding(self, name: str, server: KeyPair = SERVER) -> Control:
        return Control(self.control.endpoint, keys=Keys(server.public, PEOPLE[name]))


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Guarded]:
    made = Guarded(tmp_path)
    yield made
    made.close()


def hears(subscription: Subscription, timeout_s: float = PATIENCE_S) -> bool:
    return subscription.receive(timeout_s) is not None


def comes_to(what: Callable[[], bool]) -> bool:
    """Whether it becomes true. It is not asked again once it was: what it looks at may be gone then."""
    give_up_s = time.monotonic() + PATIENCE_S
    while not (is_so := what()) and time.monotonic() < give_up_s:
        time.sleep(0.05)
    return is_so


def falls_silent(subscription: Subscription, silence_s: float) -> bool:
    """Whether it hears nothing any more for so long, or is refused."""
    give_up_s = time.monotonic() + PATIENCE_S
    try:
        while time.monotonic() < give_up_s:
            if subscription.receive(silence_s) is None:
                return True
    except NotAllowedError:
        return True
    return False


def test_whoever_is_on_a_list_is_heard_and_hears(guarded: Guarded) -> None:
    with guarded.watching("hmi") as hmi, guarded.watching("plc") as plc, guarded.commanding("plc") as command:
        assert hears(hmi)
        assert hears(plc)
        assert command.status(PATIENCE_S) == {"inspecting": True}
    assert guarded.doorkeeper.refused == 0


def test_whoever_is_not_is_told_so_and_named_in_the_log(guarded: Guarded, caplog: pytest.LogCaptureFixture) -> None:
    key = PEOPLE["stranger"].public.decode()
    with guarded.watching("stranger") as stranger:
        with pytest.raises(NotAllowedError, match="this key is not on the list") as refused:
            stranger.receive(PATIENCE_S)
        assert key in str(refused.value)
        with pytest.raises(NotAllowedError):
            stranger.receive(0)
    assert guarded.doorkeeper.refused == 1
    assert f"a client at 127.0.0.1 may not watch: its key {key} is not in {guarded.lists['watch']}" in caplog.text


def test_who_may_watch_may_not_command(guarded: Guarded) -> None:
    with guarded.watching("hmi") as hmi, guarded.commanding("hmi") as command:
        assert hears(hmi)
        with pytest.raises(NotAllowedError, match="not on the list"):
            command.status(PATIENCE_S)


def test_who_has_no_keys_is_told_so(guarded: Guarded) -> None:
    with Subscription(guarded.publisher.endpoint) as bare, pytest.raises(NotAllowedError, match="asks for keys"):
        bare.receive(PATIENCE_S)
    with Control(guarded.control.endpoint) as bare, pytest.raises(NotAllowedError, match="asks for keys"):
        bare.status(PATIENCE_S)


def test_keys_where_none_are_asked_for(guarded: Guarded) -> None:
    with zmq.Context() as context, context.socket(zmq.ROUTER) as open_to_all:
        open_to_all.linger = 0
        port = open_to_all.bind_to_random_port("tcp://127.0.0.1")
        with (
            Control(f"tcp://127.0.0.1:{port}", keys=Keys(SERVER.public, PEOPLE["plc"])) as command,
            pytest.raises(NotAllowedError, match="asks for no keys"),
        ):
            command.status(PATIENCE_S)


def test_another_servers_key_is_said_where_nobody_answers(guarded: Guarded) -> None:
    with guarded.commanding("plc", KeyPair.new()) as command, pytest.raises(NoReplyError, match="server's key"):
        command.ask(StatusRequest(), 2.0)


def test_a_key_that_is_taken_away_hears_nothing_any_more_and_the_others_go_on(guarded: Guarded) -> None:
    with guarded.watching("hmi") as hmi, guarded.watching("plc") as plc, guarded.commanding("plc") as command:
        assert hears(hmi)
        assert hears(plc)
        assert command.status(PATIENCE_S)
        (guarded.lists["watch"] / "hmi.key").unlink()
        assert falls_silent(hmi, 2.5), "states come once a second"
        sent = itertools.count(1)

        def has_a_verdict() -> bool:
            guarded.publisher.put(Verdict("top", next(sent), Finding(Outcome.OK, score=0.5, threshold=1.0), 0))
            found = plc.receive(0.5)
            return found is not None and found.verdict is not None

        assert comes_to(has_a_verdict), "it comes back by itself"
        assert command.status(PATIENCE_S), "the other list is another one"


def test_a_commander_that_is_taken_off_commands_no_more(guarded: Guarded) -> None:
    guarded.allow("command", "hmi")
    give_up_s = time.monotonic() + PATIENCE_S
    while "hmi" not in guarded.doorkeeper._doors["command"].allowed.names.values() and time.monotonic() < give_up_s:
        time.sleep(0.05)
    with guarded.commanding("hmi") as hmi, guarded.commanding("plc") as plc:
        assert hmi.status(PATIENCE_S)
        (guarded.lists["command"] / "hmi.key").unlink()
        assert comes_to(lambda: guarded.sent_away == ["command"])
        with pytest.raises((NotAllowedError, NoReplyError)):
            hmi.status(2.0)
        assert plc.status(PATIENCE_S)


def test_a_key_that_is_added_is_let_in_and_nobody_is_sent_away(guarded: Guarded) -> None:
    with guarded.watching("plc") as plc:
        assert hears(plc)
        guarded.allow("watch", "stranger")
        give_up_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < give_up_s:
            with guarded.watching("stranger") as stranger:
                try:
                    assert hears(stranger)
                    break
                except NotAllowedError:
                    time.sleep(0.1)
        else:
            pytest.fail("it is not let in")
        assert not guarded.sent_away


def test_a_file_that_is_no_key_is_named_and_costs_nobody_else(
    guarded: Guarded, caplog: pytest.LogCaptureFixture
) -> None:
    with guarded.watching("plc") as plc:
        assert hears(plc)
        broken = guarded.lists["watch"] / "new.key"
        broken.write_text("public-key = half")
        give_up_s = time.monotonic() + PATIENCE_S
        while "damaged" not in caplog.text and time.monotonic() < give_up_s:
            time.sleep(0.05)
        assert f"{broken}: its public-key is damaged" in caplog.text
        assert hears(plc)
        assert not guarded.sent_away
    with guarded.watching("hmi") as hmi:
        assert hears(hmi)


def test_where_the_folder_is_gone_nobody_is_let_in_until_it_is_back(
    guarded: Guarded, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    guarded.lists["watch"].rename(guarded.lists["watch"].with_name("elsewhere"))
    give_up_s = time.monotonic() + PATIENCE_S
    while "cannot be read as a folder" not in caplog.text and time.monotonic() < give_up_s:
        time.sleep(0.05)
    with guarded.watching("plc") as plc:
        assert plc.receive(1.0) is None
        guarded.lists["watch"].with_name("elsewhere").rename(guarded.lists["watch"])
        assert hears(plc), "it tries again by itself"


@pytest.mark.parametrize("trouble", ["a link that leads nowhere", "a log that grows", "the same time and size"])
def test_a_removal_is_seen_whatever_else_the_folder_holds(guarded: Guarded, trouble: str) -> None:
    folder = guarded.lists["watch"]
    if trouble == "a link that leads nowhere":
        for name in (".#hmi.key", "a.key", "zzz.key", "link"):
            (folder / name).symlink_to("nowhere")
    if trouble == "the same time and size":
        path = folder / "hmi.key"
        status, text = path.stat(), path.read_text()
        path.write_text(text.replace(PEOPLE["hmi"].public.decode(), KeyPair.new().public.decode()))
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        assert path.stat().st_size == status.st_size
    else:
        (folder / "hmi.key").unlink()
    give_up_s = time.monotonic() + PATIENCE_S
    while not guarded.sent_away and time.monotonic() < give_up_s:
        with (folder / "log.key").open("a") as log:  # a list that never rests is read, too
            log.write("x" if trouble == "a log that grows" else "")
        time.sleep(0.05)
    assert guarded.sent_away == ["watch"]


def test_who_asks_is_known_by_the_name_of_their_key(guarded: Guarded) -> None:
    guarded.allow("command", "hmi")
    with guarded.commanding("plc") as plc:
        plc.status()
    assert comes_to(lambda: "hmi" in guarded.doorkeeper._doors["command"].allowed.names.values())
    with guarded.commanding("hmi") as hmi:
        hmi.status()
    assert guarded.asked_by == ["plc", "hmi"]


def test_while_the_daemons_key_is_changed_both_are_good_each_at_its_address(tmp_path: Path) -> None:
    next_ = KeyPair.new()
    guarded = Guarded(tmp_path, next_)
    try:
        now, later = (place.address for place in guarded.publisher._places)
        _, control_later = (place.address for place in guarded.control._places)
        assert now != later
        old, new = Keys(SERVER.public, PEOPLE["hmi"]), Keys(next_.public, PEOPLE["plc"])
        with (
            Subscription(now, "state/", keys=old) as hmi,
            Subscription(later, "state/", keys=new) as plc,
            Control(control_later, keys=new) as command,
            Subscription(later, "state/", keys=Keys(SERVER.public, PEOPLE["plc"])) as mistaken,
        ):
            assert hears(hmi)
            assert hears(plc)
            assert command.status() == {"inspecting": True}
            assert not hears(mistaken, 2.0)
            (guarded.lists["watch"] / "hmi.key").unlink()
            assert falls_silent(hmi, 2.5)
            while plc.receive(0):
                pass
            assert hears(plc)
    finally:
        guarded.close()


def test_a_watcher_that_takes_memory_by_long_subscriptions_costs_everybody_their_connection(
    guarded: Guarded, caplog: pytest.LogCaptureFixture
) -> None:
    keys = Keys(SERVER.public, PEOPLE["hmi"])
    with guarded.watching("plc") as plc, connected(zmq.XSUB, guarded.publisher.endpoint, keys) as vandal:
        assert hears(plc)
        for number in range(1000):
            vandal.send(b"\x01" + f"{number:0900}".encode())
        assert comes_to(lambda: "subscriptions to topics that do not exist" in caplog.text)
        while plc.receive(0):
            pass
        assert hears(plc), "it comes back by itself"


@pytest.mark.skipif(not socket.has_ipv6, reason="this machine has no IPv6")
def test_two_addresses_of_two_kinds_are_bound_again(tmp_path: Path) -> None:
    context: Context = zmq.Context()
    six = Door(SERVER, "watch", ("tcp://127.0.0.1:0", KeyPair.new()))
    publisher = Publisher(context, "tcp://[::1]:0", "all", "e1", door=six)
    publisher.bind()
    before = [place.address for place in publisher._places]
    rebind(publisher._socket, publisher._places)
    assert [place.address for place in publisher._places] == before
    publisher.stop()
    context.term()


def test_without_a_doorkeeper_nobody_is_let_in(tmp_path: Path) -> None:
    context: Context = zmq.Context()
    publisher = Publisher(context, "tcp://127.0.0.1:0", "all", "e1", door=Door(SERVER, "watch"))
    publisher.bind()
    publisher.start(States())
    with Subscription(publisher.endpoint, keys=Keys(SERVER.public, PEOPLE["plc"])) as plc:
        assert plc.receive(2.0) is None
    publisher.stop()
    context.term()


@pytest.fixture(scope="module")
def doorkeeper(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doorkeeper]:
    folder = tmp_path_factory.mktemp("watch")
    write_pair(folder, "plc", PEOPLE["plc"])[1].unlink()
    context: Context = zmq.Context()
    made = Doorkeeper(context, {"watch": folder})
    yield made
    made.stop()
    context.term()


@given(
    request=st.lists(st.binary(max_size=40) | st.sampled_from([b"1.0", b"watch", b"CURVE", b"NULL", b""]), max_size=9)
)
def test_every_question_has_one_answer_and_only_the_right_one_is_yes(
    doorkeeper: Doorkeeper, request: list[bytes]
) -> None:
    reply = doorkeeper._answer(request)
    assert len(reply) == 6
    assert reply[0] == b"1.0"
    assert reply[2] == b"400"


def test_the_right_question_names_the_client(doorkeeper: Doorkeeper) -> None:
    key = zmq.utils.z85.decode(PEOPLE["plc"].public)
    asked = [b"1.0", b"7", b"watch", b"127.0.0.1", b"", b"CURVE", key]
    assert doorkeeper._answer(asked) == [b"1.0", b"7", b"200", b"", b"plc", b""]
    for wrong in (
        [b"2.0", *asked[1:]],
        [*asked[:2], b"command", *asked[3:]],
        [*asked[:5], b"NULL", key],
        [*asked, key],
        asked[:6],
        [*asked[:6], key[:31]],
    ):
        assert doorkeeper._answer(wrong)[2] == b"400", wrong


def test_a_list_with_a_file_that_is_no_key_does_not_even_start(tmp_path: Path) -> None:
    write_pair(tmp_path, "plc", PEOPLE["plc"])[1].unlink()
    (tmp_path / "x.key").write_text("")
    context: Context = zmq.Context()
    with pytest.raises(UsageError, match=r"x\.key holds no public key"):
        Doorkeeper(context, {"watch": tmp_path})
    context.term()
