"""A frame is held: no slot is given back twice, and nobody looks at a picture that is not his any more."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from inspectd.line.sinks import RawFrames, Sinks
from inspectd.records import Frame, Picture, ReleasedError, Stamp, Verdict

PICTURE: Picture = np.zeros((4, 6), np.uint8)


@pytest.fixture
def given_back() -> list[int]:
    return []


@pytest.fixture
def frame(given_back: list[int]) -> Frame:
    return Frame(Stamp("top", 12, 0), PICTURE, lambda: given_back.append(1))


def test_the_last_holder_gives_the_slot_back(frame: Frame, given_back: list[int]) -> None:
    frame.hold()
    frame.release()
    assert given_back == []
    assert frame.picture is PICTURE
    frame.release()
    assert given_back == [1]


@pytest.mark.parametrize(
    ("use", "what"),
    [(Frame.hold, "held"), (Frame.release, "released"), (lambda frame: frame.picture, "looked at")],
)
def test_nothing_is_possible_after_the_last_release(
    frame: Frame, given_back: list[int], use: object, what: str
) -> None:
    frame.release()
    with pytest.raises(ReleasedError, match=f"frame 12 of camera top was {what} after its last holder"):
        use(frame)  # type: ignore[operator]
    assert given_back == [1], "a slot that is given back twice is given to two parts"


def test_holders_in_many_threads_give_back_once(frame: Frame, given_back: list[int]) -> None:
    refused: list[ReleasedError] = []

    def hold_and_release() -> None:
        try:
            for _ in range(500):
                frame.hold()
                frame.release()
        except ReleasedError as error:
            refused.append(error)

    threads = [threading.Thread(target=hold_and_release) for _ in range(8)]
    for thread in threads:
        thread.start()
    frame.release()
    for thread in threads:
        thread.join()
    assert given_back == [1]


class Failing:
    """A sink whose disk is full."""

    def wants(self, _stamp: Stamp, _verdict: Verdict | None) -> bool:
        return True

    def take(self, _stamp: Stamp, _picture: object, _verdict: Verdict | None) -> None:
        raise OSError(28, "No space left on device")


def test_a_sink_that_fails_harms_nobody_and_is_told_once(
    given_back: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    other = RawFrames()
    order = other.order("top", 3, lambda: None)
    sinks = Sinks([Failing(), other])
    for number in (1, 2, 3):
        stamp = Stamp("top", number, 0)
        sinks.finish(Frame(stamp, PICTURE, lambda: given_back.append(1)), None)
    assert len(order.frames) == len(given_back) == 3
    assert [record.getMessage() for record in caplog.records] == ["Failing did not take a picture of camera top"]
