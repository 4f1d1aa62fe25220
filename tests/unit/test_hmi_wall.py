"""What the operator's page knows, and what a browser is sent of it."""

from __future__ import annotations

import asyncio
import json
import struct
import time
from typing import Any

import pytest
from said_verdicts import published, said

from inspectd.hmi import feed
from inspectd.hmi.counts import CameraCount, Shift
from inspectd.hmi.feed import Feed
from inspectd.hmi.listener import Lag
from inspectd.hmi.wall import MOST_MASKS, MOST_SCORES, MOST_THUMBS, Wall
from inspectd.wire import topics
from inspectd.wire.messages import MaskMessage

MASK = MaskMessage(2, 1, (0, 0, 64, 48), 128)


def no_counts() -> tuple[int, Shift]:
    return 1, Shift("2026-11-29T06:00+01:00")


def opened(data: bytes) -> tuple[dict[str, Any], bytes]:
    """What a browser makes of a message."""
    (length,) = struct.unpack_from("<I", data)
    return json.loads(data[4 : 4 + length]), data[4 + length :]


def sent(one: Feed) -> tuple[dict[str, Any], bytes]:
    return opened(one.compose(0.0, None))


def show(wall: Wall, seq: int, verdict: str = "ok") -> None:
    """A verdict with its map and its picture, as a daemon publishes them."""
    header = said(seq, verdict, mask=MASK)
    wall.take(published(header), 1)
    wall.take(published(header, topics.MASK, bytes([seq % 256, 200])), 1)
    wall.take(published(header, topics.FRAME, b"JPEG%d" % seq), 1)


def test_a_browser_gets_what_is_new_and_only_the_newest_of_it() -> None:
    wall = Wall()
    one = Feed(wall, None, no_counts)
    for seq in range(1, 6):
        show(wall, seq)
    first, rest = sent(one)
    (camera,) = first["cameras"]
    assert (camera["name"], first["names"]) == ("top", ["top"])
    assert camera["verdict"]["seq"] == 5
    assert [point[0] for point in camera["scores"]] == [1, 2, 3, 4, 5]
    assert [picture["header"]["seq"] for picture in camera["pictures"]] == [5]
    assert rest == b"JPEG5" + bytes([5, 200])
    assert not one.has_news
    again, rest = sent(one)
    assert (again["n"], again["cameras"], rest) == (2, [], b"")
    show(wall, 6)
    wall.take(published(said(7)), 1)
    third, rest = sent(one)
    assert third["cameras"][0]["verdict"]["seq"] == 7
    assert [point[0] for point in third["cameras"][0]["scores"]] == [6, 7]
    assert rest.startswith(b"JPEG6"), "with the map of its own verdict, not of the newest"


def test_a_picture_never_wears_the_map_of_another_part() -> None:
    wall = Wall()
    one = Feed(wall, None, no_counts)
    wall.take(published(said(1, mask=MASK), topics.MASK, b"\x01\xc8"), 1)
    wall.take(published(said(2, mask=MASK), topics.FRAME, b"JPEG"), 1)
    update, rest = sent(one)
    assert (update["cameras"][0]["pictures"][0].get("masks"), rest) == (None, b"JPEG")
    wall.take(published(said(2, mask=MASK), topics.MASK, b"\x02\xc8"), 1)
    update, rest = sent(one)
    assert update["cameras"][0]["pictures"][0]["masks"][0]["w"] == 2
    assert rest == b"JPEG\x02\xc8", "its map came after it"


def test_a_map_whose_bytes_are_not_as_many_as_it_says_is_left_out() -> None:
    wall = Wall()
    wall.take(published(said(1, mask=MASK), topics.MASK, b"\x01"), 1)
    wall.take(published(said(1, mask=MASK), topics.FRAME, b"JPEG"), 1)
    _, rest = sent(Feed(wall, None, no_counts))
    assert rest == b"JPEG"


def test_a_page_of_one_camera_gets_that_one_with_its_last_pictures() -> None:
    wall = Wall()
    for seq in range(1, 20):
        show(wall, seq)
        wall.take(published(said(seq, camera="side")), 1)
    update, _ = sent(Feed(wall, "top", no_counts))
    assert [one["name"] for one in update["cameras"]] == ["top"]
    assert [one["header"]["seq"] for one in update["cameras"][0]["pictures"]] == list(range(12, 20))
    assert sent(Feed(wall, "nowhere", no_counts))[0]["cameras"] == []


def test_what_is_kept_is_bounded() -> None:
    wall = Wall()
    for seq in range(1, MOST_SCORES + 500):
        wall.take(published(said(seq, mask=MASK)), 1)
        wall.take(published(said(seq, mask=MASK), topics.MASK, b"\x01\x02"), 1)
    for seq in range(1, 50):
        show(wall, seq)
    camera = wall.cameras["top"]
    assert (len(camera.scores), len(camera.masks), len(camera.thumbs)) == (MOST_SCORES, MOST_MASKS, MOST_THUMBS)


def test_what_was_lost_on_the_way_here_is_counted() -> None:
    wall = Wall()
    for seq in (100, 101, 104):
        wall.take(published(said(seq)), 1)
    assert wall.cameras["top"].missed == 2, "what was before the first one is not missed"
    wall.take(published(said(1, epoch="e2")), 1)
    assert wall.cameras["top"].missed == 0, "of this epoch"


def test_after_a_long_absence_a_chart_keeps_its_peaks_and_all_that_was_not_ok() -> None:
    wall = Wall()
    for seq in range(1, 1001):
        is_ng = seq % 400 == 0
        wall.take(published(said(seq, "ng" if is_ng else "ok", score=9.0 if seq == 333 else 1.0)), 1)
    points = sent(Feed(wall, None, no_counts))[0]["cameras"][0]["scores"]
    assert len(points) <= feed.MOST_POINTS + 3
    assert {333, 400, 800} <= {point[0] for point in points}


def test_counts_are_sent_when_they_change() -> None:
    state = [1]
    one = Feed(Wall(), None, lambda: (state[0], Shift("", {"top": CameraCount(ok=state[0])})))
    assert sent(one)[0]["shift"]["cameras"]["top"]["ok"] == 1
    assert "shift" not in sent(one)[0]
    state[0] = 2
    assert sent(one)[0]["shift"]["cameras"]["top"]["ok"] == 2


def test_cameras_that_are_no_longer_there_are_taken_down() -> None:
    wall = Wall()
    one = Feed(wall, None, no_counts)
    show(wall, 1)
    wall.take(published(said(1, camera="side")), 1)
    sent(one)
    del wall.cameras["side"]
    assert sent(one)[0]["names"] == ["top"]
    assert "names" not in sent(one)[0]
    assert sent(Feed(wall, None, no_counts))[0]["names"] == ["top"], "who comes back is told all"


def test_pictures_lie_in_the_order_of_their_cameras_whatever_these_are_called() -> None:
    wall = Wall()
    for name in ("b", "10", "2", "1"):
        wall.take(published(said(1, camera=name), topics.FRAME, f"JPEG-{name}".encode()), 1)
    update, rest = sent(Feed(wall, None, no_counts))
    for one in update["cameras"]:
        size = one["pictures"][0]["bytes"]
        assert rest[:size] == f"JPEG-{one['name']}".encode()
        rest = rest[size:]


def test_of_another_epoch_nothing_is_left() -> None:
    wall = Wall()
    wall.take(published(said(1), topics.FRAME, b"JPEG"), 1)
    for seq in (1, 2, 3):
        wall.take(published(said(seq)), 1)
    wall.take(published(said(1, epoch="e2", mask=MASK), topics.MASK, b"\x01\x02"), 1)
    update, rest = sent(Feed(wall, None, no_counts))
    (camera,) = update["cameras"]
    assert camera["epoch"] == "e2"
    assert camera.keys() & {"verdict", "pictures", "scores", "missed"} == set()
    assert rest == b"", "the picture of another epoch's part 1 does not wear this one's map"


def test_age_is_that_of_the_newest_message() -> None:
    wall = Wall()
    now_ns = time.monotonic_ns()
    wall.take(published(said(1)), now_ns - 5_000_000_000)
    age_ms = sent(Feed(wall, None, no_counts))[0]["cameras"][0]["age_ms"]
    assert 5000 <= age_ms < 6000, "it waited somewhere for five seconds"


def test_a_queue_that_builds_up_is_not_taken_for_new() -> None:
    same = Lag(is_same_clock=True)
    assert same.note("e", 100, 150) == 50
    assert same.note("e", 100, 90) == 0
    tunnel = Lag(is_same_clock=True)
    assert tunnel.note("e", 10**15, 100) == 0, "another machine's clock, whatever its address is"
    assert tunnel.note("e", 10**15 + 10, 1100) == 990
    other = Lag(is_same_clock=False)
    assert other.note("e", 1_000_000, 5_000_000) == 0, "nobody knows the other clock yet"
    assert other.note("e", 2_000_000, 8_000_000) == 2_000_000
    assert other.note("e", 9_000_000, 12_000_000) == 0, "quicker than any before"
    assert other.note("f", 1_000_000, 90_000_000) == 0, "another epoch, another clock"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"ack": 2}', '{"ack": "1"}', '{"ack": 1, "more": 1}', "null"])
def test_only_the_answer_to_the_last_message_counts(text: str) -> None:
    one = Feed(Wall(), None, no_counts)
    one.compose(0.0, None)
    assert not one.is_answer(text)
    assert one.is_answer('{"ack": 1}')


class Browser:
    """One that answers when it is told to."""

    def __init__(self) -> None:
        self.got: list[dict[str, Any]] = []
        self.answers: asyncio.Queue[str] = asyncio.Queue()

    async def send(self, data: bytes) -> None:
        self.got.append(opened(data)[0])

    async def receive(self) -> str:
        return await self.answers.get()


async def _soon(_: float) -> None:
    await asyncio.sleep(0.001)


def test_nothing_is_sent_before_the_last_was_taken_and_then_the_newest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "FASTEST_S", 0.0)
    monkeypatch.setattr(feed, "OF_EACH_S", 0.0)

    async def tried() -> None:
        wall, browser = Wall(), Browser()
        show(wall, 1)
        running = asyncio.create_task(
            feed.run(Feed(wall, None, no_counts), _soon, browser.send, browser.receive, lambda: None, lambda: True)
        )
        await asyncio.sleep(0.05)
        for seq in range(2, 200):
            show(wall, seq)
        await asyncio.sleep(0.05)
        assert len(browser.got) == 1
        browser.answers.put_nowait('{"ack": 1}')
        while len(browser.got) < 2:
            await asyncio.sleep(0.001)
        second = browser.got[1]
        assert second["cameras"][0]["verdict"]["seq"] == 199
        assert [one["header"]["seq"] for one in second["cameras"][0]["pictures"]] == [199], "no backlog"
        assert second["held_ms"] < 50, "how long the answer was here, not the page's absence"
        running.cancel()

    asyncio.run(tried())


def test_a_browser_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "PATIENCE_S", 0.05)

    async def tried() -> None:
        browser = Browser()
        with pytest.raises(TimeoutError):
            await feed.run(
                Feed(Wall(), None, no_counts), _soon, browser.send, browser.receive, lambda: None, lambda: True
            )

    asyncio.run(tried())


def test_who_may_not_look_any_more_is_sent_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "ASK_EVERY_S", 0.0)
    monkeypatch.setattr(feed, "FASTEST_S", 0.0)

    async def tried() -> None:
        browser = Browser()
        for n in (1, 2, 3, 4):
            browser.answers.put_nowait(json.dumps({"ack": n}))
        may = [True, True, False]
        await feed.run(
            Feed(Wall(), None, no_counts), _soon, browser.send, browser.receive, lambda: None, lambda: may.pop(0)
        )
        assert len(browser.got) == 3

    asyncio.run(tried())
