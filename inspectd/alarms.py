"""What may trouble a line, as data: how urgent it is, what follows, what to do, what hides it, how long it must last.

State details, log lines, `inspectd_alarm`, Prometheus' alert rules and the table in `systemd/README.md` are made from
it. Terms are those of ISA-18.2 and IEC 62682 (alarm management): an alarm asks somebody to do something; what asks
nobody is an event.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from inspectd.records import Reason


class Priority(StrEnum):
    """How soon somebody must act."""

    CRITICAL = "critical"
    """Nothing that passes is inspected."""
    HIGH = "high"
    """Parts are rejected, or not kept, that need not be."""
    MEDIUM = "medium"
    """It gets worse, or nobody would notice if something else went wrong."""
    LOW = "low"
    """When there is time."""
    EVENT = "event"
    """Nobody need do anything: it is never raised."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """One row. What raises it: that something happens `least` times within `within_s`, or lasts for `on_delay_s`."""

    name: str
    """A fault's reason where there is one."""
    priority: Priority
    meaning: str
    """What is the case, as the end of a sentence about the camera, or the daemon."""
    consequence: str
    action: str
    """What an operator does first."""
    least: int = 0
    """0: it does not happen; it lasts."""
    within_s: float = 60.0
    on_delay_s: float | None = None
    """None: it only happens; but on a slow line it lasts while the last `least` verdicts were all this fault."""
    off_delay_s: float = 0.0
    """It is over when it was not the case for so long."""
    suppressed_by: tuple[str, ...] = ()
    """While one of these is the case, this one follows from it, or cannot be known."""
    expression: str = ""
    """In PromQL, of what the daemon cannot say itself, because it is not there."""


UNSEEN = ("camera_lost", "camera_frozen")
UNTOLD = ("challenge_failed", "challenge_due")
UNJUDGED = (*UNSEEN, "bypass", *UNTOLD, "no_model")

OF_CAMERA = (
    Alarm(
        Reason.CAMERA_LOST,
        Priority.CRITICAL,
        "gives no pictures",
        "No part that passes it is inspected. Each trigger is a fault.",
        "See that it has power and its cable sits, then look at its address; it is opened again by itself.",
        on_delay_s=5.0,
    ),
    Alarm(
        Reason.CAMERA_FROZEN,
        Priority.CRITICAL,
        "gives the same picture again and again",
        "No part that passes it is inspected. Each trigger is a fault.",
        "Switch its power off and on.",
        on_delay_s=5.0,
        suppressed_by=("camera_lost",),
    ),
    Alarm(
        Reason.BYPASS,
        Priority.MEDIUM,
        "is bypassed",
        "No part that passes it is inspected; each is a fault.",
        "Nothing, if it is meant; else have the bypass ended (command bypass, seconds 0).",
        on_delay_s=0.0,
    ),
    Alarm(
        "challenge_failed",
        Priority.CRITICAL,
        "did not tell a known part",
        "No part that passes it is inspected; each is a fault.",
        "Show the part again. If it is not told either, its detail in the log says whether the picture has changed or "
        "the model: look at camera and lamp, or calibrate again.",
        on_delay_s=0.0,
        suppressed_by=("bypass",),
    ),
    Alarm(
        "challenge_due",
        Priority.CRITICAL,
        "was not shown a known part in time",
        "No part that passes it is inspected; each is a fault.",
        "Show it a known part (`inspectd challenge`).",
        on_delay_s=0.0,
        suppressed_by=("bypass", "challenge_failed"),
    ),
    Alarm(
        Reason.NO_MODEL,
        Priority.CRITICAL,
        "has no model that can be used",
        "No part that passes it is inspected; each is a fault.",
        "Install a model (`inspectd calibrate`, `inspectd install`), or return to the last one (`inspectd install "
        "--rollback`).",
        least=1,
        off_delay_s=10.0,
        suppressed_by=("bypass",),
        on_delay_s=0.0,
    ),
    Alarm(
        Reason.NO_THRESHOLD,
        Priority.CRITICAL,
        "has a model without a threshold",
        "No part that passes it is inspected; each is a fault.",
        "Calibrate it (`inspectd calibrate`), or set a threshold (command threshold).",
        least=1,
        off_delay_s=10.0,
        suppressed_by=UNJUDGED,
    ),
    Alarm(
        Reason.ENGINE,
        Priority.CRITICAL,
        "got scores that are no numbers",
        "No part that passes it is inspected; each is a fault.",
        "Start the daemon anew; if that does not help, choose another device or precision, and have the machine's "
        "memory tested.",
        least=1,
        off_delay_s=60.0,
        suppressed_by=UNJUDGED,
    ),
    Alarm(
        Reason.IDENTITY,
        Priority.HIGH,
        "shows something that its model was not made for",
        "Each of its parts is a fault: good ones are rejected.",
        "See whether the camera was moved, exchanged or set anew; put it back as it was, or calibrate again.",
        least=3,
        off_delay_s=10.0,
        suppressed_by=UNJUDGED,
        on_delay_s=0.0,
    ),
    Alarm(
        Reason.PICTURE,
        Priority.HIGH,
        "gives pictures that cannot be judged",
        "Those parts are faults: good ones are rejected.",
        "Look at lamp, lens and cable before you touch the threshold.",
        least=3,
        off_delay_s=60.0,
        suppressed_by=UNJUDGED,
    ),
    Alarm(
        Reason.OVERLOAD,
        Priority.HIGH,
        "gets parts faster than they can be judged",
        "Those parts are faults: good ones are rejected.",
        "See what else this machine computes; then lower the rate of parts or the model's input size, or use a faster "
        "device (`inspectd bench`).",
        least=3,
        off_delay_s=60.0,
        suppressed_by=UNJUDGED,
    ),
    Alarm(
        Reason.DEADLINE,
        Priority.HIGH,
        "gets its verdicts too late",
        "Those parts are faults: good ones are rejected.",
        "See what else this machine computes; then raise deadline_ms, lower the frame rate or the model's input size, "
        "or use a faster device (`inspectd bench`).",
        least=3,
        off_delay_s=60.0,
        suppressed_by=UNJUDGED,
    ),
    Alarm(
        "parts_unseen",
        Priority.HIGH,
        "does not notice parts",
        "Parts pass without any verdict.",
        "Do what its detail says: light, lens and place of the camera must be as at the calibration.",
        on_delay_s=5.0,
        off_delay_s=2.0,
        suppressed_by=UNJUDGED,
    ),
    Alarm(
        "unsteady",
        Priority.MEDIUM,
        "is lost and comes back, again and again",
        "Parts that pass meanwhile are not inspected.",
        "Exchange its cable, then its port, then its power supply.",
        least=3,
        within_s=600.0,
        off_delay_s=600.0,
    ),
    Alarm(
        "near_deadline",
        Priority.LOW,
        "gets its verdicts hardly in time",
        "With a little more to do they would be too late, and good parts would be rejected.",
        "See what else this machine computes; then raise deadline_ms, or use a faster device (`inspectd bench`).",
        on_delay_s=60.0,
        off_delay_s=60.0,
        suppressed_by=(*UNJUDGED, Reason.DEADLINE, Reason.OVERLOAD),
    ),
    Alarm(
        "picture_drift",
        Priority.LOW,
        "gives pictures that are not as they were at the calibration",
        "They can still be judged; if it goes on they will be faults, or good parts rejected.",
        "Do what its detail says, before you touch the threshold.",
        on_delay_s=60.0,
        off_delay_s=60.0,
        suppressed_by=(*UNJUDGED, Reason.IDENTITY, Reason.PICTURE),
    ),
    Alarm(
        "score_drift",
        Priority.LOW,
        "accepts parts that score higher than good ones did at the calibration",
        "If it goes on, good parts will be rejected.",
        "See whether parts or tools have changed (where it is the picture, picture_drift says so); if the parts are "
        "good, calibrate again with some of them.",
        on_delay_s=60.0,
        off_delay_s=60.0,
        suppressed_by=UNJUDGED,
    ),
    Alarm(
        "challenge_soon",
        Priority.LOW,
        "must be shown a known part soon",
        "If it is not, every part will be a fault.",
        "Show it a known part (`inspectd challenge`) when it suits the line.",
        on_delay_s=0.0,
        suppressed_by=("bypass", *UNTOLD),
    ),
    Alarm(
        "driver_leaks",
        Priority.LOW,
        "has a driver that takes more and more memory",
        "Its capture process is ended when its share is used up, and started again: some parts pass uninspected.",
        "Update the camera's driver or firmware.",
        suppressed_by=("camera_lost",),
        on_delay_s=0.0,
    ),
    Alarm(
        Reason.SHUTDOWN,
        Priority.EVENT,
        "is not inspected because the daemon stops",
        "What was captured and not yet judged is a fault.",
        "Nothing.",
    ),
)

OF_DAEMON = (
    Alarm(
        "stalled",
        Priority.CRITICAL,
        "does not get on",
        "Nothing is inspected. The watchdog ends it within seconds, and systemd starts it again.",
        "Keep its log (`journalctl -u inspectd`): it says where each thread stood.",
        on_delay_s=0.0,
    ),
    Alarm(
        "journal",
        Priority.HIGH,
        "cannot write its journal",
        "Inspection goes on; verdicts are lost, and no command may change a model or a threshold.",
        "Make room on the disk, or exchange it.",
        on_delay_s=5.0,
        off_delay_s=5.0,
    ),
    Alarm(
        "archive",
        Priority.MEDIUM,
        "cannot write its archive",
        "Inspection goes on; pictures of rejected parts are lost.",
        "Make room on the disk, or exchange it.",
        on_delay_s=5.0,
        off_delay_s=5.0,
    ),
    Alarm(
        "clients_refused",
        Priority.LOW,
        "refuses clients again and again",
        "A PLC or HMI that should be heard is not; or somebody tries keys.",
        "Find the address in the log; give that client its key (`inspectd keygen`), or have it stopped.",
        least=5,
        within_s=60.0,
        off_delay_s=300.0,
    ),
    Alarm(
        "down",
        Priority.CRITICAL,
        "does not answer",
        "Nothing is inspected, as far as anybody knows; subscribers hear that after 3 s.",
        "Look at `systemctl status inspectd`, then at the machine and its network.",
        on_delay_s=15.0,
        expression='up{job="inspectd"} == 0',
    ),
    Alarm(
        "restarting",
        Priority.HIGH,
        "is started again and again",
        "Nothing is inspected until it is ready each time.",
        "Look at `journalctl -u inspectd` for what ended it.",
        expression='changes(process_start_time_seconds{job="inspectd"}[15m]) >= 3',
        on_delay_s=0.0,
    ),
)

OF_STATE = {"lost": str(Reason.CAMERA_LOST), "frozen": str(Reason.CAMERA_FROZEN), "bypass": str(Reason.BYPASS)}
"""The alarm that says the same as a camera's state; the other states ask nobody for anything."""
