"""What Prometheus is told: every metric is declared here, in base units, and never by frame.

Counters and gauges are read at the moment of the scrape, so that the ledger's laws can be checked there; histograms are
observed as verdicts leave. The process itself (memory, processor, descriptors, start) is `process_…`, as everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, get_args

from prometheus_client import CollectorRegistry, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from inspectd.alarms import OF_CAMERA, OF_DAEMON, Alarm, Priority
from inspectd.daemon.rules import METRIC
from inspectd.daemon.status import Status
from inspectd.records import Counts, Verdict
from inspectd.version import VERSION
from inspectd.wire.messages import ArchiveMessage, CameraState, DaemonMessage

BUCKETS_S = (0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0)
"""A deadline is 0.2 by itself."""
SCORE_BUCKETS = (-1.0, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0)
BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
STATES = get_args(CameraState)

_COUNTERS = {
    "frames_captured": ("Frames taken from the camera.", "captured"),
    "frames_judged": ("Frames that got a verdict.", "judged"),
    "frames_displaced": ("Frames given up for a newer one.", "displaced"),
    "frames_unmatched": ("Frames that no trigger asked for.", "unmatched"),
    "triggers": ("Triggers accepted.", "triggers"),
    "triggers_closed": ("Triggers that got their verdict.", "triggers_closed"),
    "triggers_overtaken": ("Triggers without a picture before the next one came.", "triggers_overtaken"),
    "triggers_repeated": ("Triggers for a part that had been triggered shortly before.", "triggers_repeated"),
    "late_results": ("Results that came after their verdict was given.", "late"),
}
_GAUGES = {
    "frames_in_flight": ("Frames that wait for their verdict.", "in_flight"),
    "triggers_pending": ("Triggers that wait for their verdict.", "triggers_pending"),
    "last_seq": ("Number of the last verdict.", "last_seq"),
}


class Metrics:
    """One registry; `inspectd.daemon.exporter` serves it. Any thread may observe."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._latency = Histogram(
            "inspectd_latency_seconds",
            "From capture (or trigger) to the published verdict.",
            ["camera"],
            buckets=BUCKETS_S,
            registry=self.registry,
        )
        self._stage = Histogram(
            "inspectd_stage_seconds",
            "Time in a stage: wait (for the engine), score, publish.",
            ["camera", "stage"],
            buckets=BUCKETS_S,
            registry=self.registry,
        )
        self._score = Histogram(
            "inspectd_score",
            "Scores of ok and ng: 0 is the median good score of the calibration, 1 the threshold.",
            ["camera"],
            buckets=SCORE_BUCKETS,
            registry=self.registry,
        )
        self._batch = Histogram(
            "inspectd_batch_pictures",
            "Pictures (areas of pictures) that were scored together.",
            buckets=BATCH_BUCKETS,
            registry=self.registry,
        )

    def follow(self, status: Status) -> None:
        """Read counters and gauges from here; called once."""
        self.registry.register(_Collector(status))

    def on_batch(self, pictures: int) -> None:
        """Observe a batch that was scored."""
        self._batch.observe(pictures)

    def on_published(self, verdict: Verdict, published_ns: int) -> None:
        """Observe the times and the score of one verdict."""
        latency_ns, finding = verdict.latency_ns(published_ns), verdict.finding
        if latency_ns is not None:
            self._latency.labels(verdict.camera).observe(latency_ns / 1e9)
        if finding.excess is not None:
            self._score.labels(verdict.camera).observe(1 + finding.excess)
        if verdict.queued_ns and finding.started_ns and finding.scored_ns:
            for stage, ns in (
                ("wait", finding.started_ns - verdict.queued_ns),
                ("score", finding.scored_ns - finding.started_ns),
                ("publish", published_ns - finding.scored_ns),
            ):
                self._stage.labels(verdict.camera, stage).observe(ns / 1e9)


class _Collector(Collector):
    def __init__(self, status: Status) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        status, names = self._status, list(self._status.cameras())
        accounts = {name: status.counts(name) for name in names}
        yield from _plain(accounts)
        yield from _verdicts(accounts)
        yield from _cameras(status, names)
        yield from _criteria(status, names)
        yield from _drift(status, names)
        yield from _challenges(status, names)
        yield from _shadows(status, names)
        yield from _alarms(status, names)
        daemon = status.daemon()
        yield from _daemon(status, daemon)
        yield from _journal(daemon, names)
        if daemon.archive is not None:
            yield from _archive(daemon.archive, names)

    def describe(self) -> list[Any]:
        return []


def _plain(accounts: dict[str, Counts]) -> Iterator[Metric]:
    for kind, names in ((CounterMetricFamily, _COUNTERS), (GaugeMetricFamily, _GAUGES)):
        for metric, (text, attribute) in names.items():
            family = kind(f"inspectd_{metric}", text, labels=["camera"])
            for name, counts in accounts.items():
                family.add_metric([name], getattr(counts, attribute))
            yield family


def _verdicts(accounts: dict[str, Counts]) -> Iterator[Metric]:
    verdicts = CounterMetricFamily("inspectd_verdicts", "Verdicts published.", labels=["camera", "verdict"])
    faults = CounterMetricFamily("inspectd_faults", "Faults by reason.", labels=["camera", "reason"])
    for name, counts in accounts.items():
        for outcome, number in counts.outcomes.items():
            verdicts.add_metric([name, outcome], number)
        for reason, number in counts.faults.items():
            faults.add_metric([name, reason], number)
    yield verdicts
    yield faults


def _cameras(status: Status, names: Iterable[str]) -> Iterator[Metric]:
    states = GaugeMetricFamily("inspectd_camera_state", "1 for the camera's state.", labels=["camera", "state"])
    inspecting = GaugeMetricFamily(
        "inspectd_camera_inspecting", "1 while a part that passes it would be inspected.", labels=["camera"]
    )
    openings = CounterMetricFamily("inspectd_camera_openings", "How often it was opened.", labels=["camera"])
    returns = CounterMetricFamily("inspectd_camera_returns", "How often it was lost and came back.", labels=["camera"])
    damaged = CounterMetricFamily(
        "inspectd_pictures_damaged", "Pictures that came damaged, or could not be read.", labels=["camera"]
    )
    age = GaugeMetricFamily("inspectd_last_frame_age_seconds", "Since its last picture was taken.", labels=["camera"])
    for name in names:
        now = status.state(name)
        for state in STATES:
            states.add_metric([name, state], float(state == now))
        inspecting.add_metric([name], float(status.is_inspecting(name)))
        if (health := status.camera_health(name)) is None:
            continue
        openings.add_metric([name], health.openings)
        returns.add_metric([name], health.returns)
        damaged.add_metric([name], health.unreadable)
        if (age_s := health.last_frame_age_s) is not None:
            age.add_metric([name], age_s)
    yield from (states, inspecting, openings, returns, damaged, age)


def _drift(status: Status, names: Iterable[str]) -> Iterator[Metric]:
    """How far pictures and accepted parts are from the calibration's."""
    pictures = GaugeMetricFamily(
        "inspectd_picture_drift_ratio",
        "What pictures have (light, noise, sharpness, edges) over what was usual at calibration.",
        labels=["camera", "area", "what"],
    )
    scores = GaugeMetricFamily(
        "inspectd_score_drift",
        "Median of accepted parts: 0 is the median good score of the calibration, 1 the threshold.",
        labels=["camera", "area"],
    )
    for name in names:
        if (drift := status.drift(name)) is None:
            continue
        for (area, what), ratio in {(one.area, one.what): one.ratio for one in drift.pictures}.items():
            pictures.add_metric([name, area, what], ratio)
        for area, by in {one.area: one.moved for one in drift.scores}.items():
            scores.add_metric([name, area], by)
    yield pictures
    yield scores


def _criteria(status: Status, names: Iterable[str]) -> Iterator[Metric]:
    """What judges: models and thresholds, by product and area."""
    place = ["camera", "recipe", "area"]
    models = GaugeMetricFamily("inspectd_model_info", "1: the model that judges.", labels=[*place, "model", "digest"])
    thresholds = GaugeMetricFamily(
        "inspectd_threshold", "The threshold in force, in units of the model's scores.", labels=place
    )
    for name in names:
        for recipe in status.recipes(name):
            for area in recipe.areas:
                here = [name, recipe.name or "", area.name or ""]
                models.add_metric([*here, area.model.name, area.model.digest], 1.0)
                if area.criterion is not None:
                    thresholds.add_metric(here, area.criterion.threshold)
    yield models
    yield thresholds


def _challenges(status: Status, names: Iterable[str]) -> Iterator[Metric]:
    """Known parts: when they were told, and whether nothing is passed because of them."""
    told = GaugeMetricFamily(
        "inspectd_challenge_told_timestamp_seconds",
        "When a known part was shown last and told, since 1970.",
        labels=["camera", "known"],
    )
    untold = GaugeMetricFamily(
        "inspectd_challenge_untold", "Known parts that were not told when they were shown last.", labels=["camera"]
    )
    for name in names:
        if (challenges := status.challenges(name)) is None:
            continue
        for known, at_s in challenges.told_at_s.items():
            told.add_metric([name, known], at_s)
        untold.add_metric([name], len(challenges.failed))
    yield told
    yield untold


def _shadows(status: Status, names: Iterable[str]) -> Iterator[Metric]:
    shadows = {name: shadow for name in names if (shadow := status.shadow(name)) is not None}
    if not shadows:
        return
    verdicts = CounterMetricFamily(
        "inspectd_shadow_verdicts",
        "What a camera's second model would have said of pictures that got ok or ng.",
        labels=["camera", "agreement"],
    )
    for name, shadow in shadows.items():
        for agreement in ("agreed", "rejected", "passed", "faults"):
            verdicts.add_metric([name, agreement], getattr(shadow, agreement))
    yield verdicts


def _alarms(status: Status, names: Iterable[str]) -> Iterator[Metric]:
    family = GaugeMetricFamily(
        METRIC, "1 while the alarm is raised; of no camera: the daemon's own.", labels=["camera", "alarm", "priority"]
    )

    def add(name: str | None, alarms: Iterable[Alarm]) -> None:
        raised = {one.alarm.name for one in status.alarms(name)}
        for alarm in alarms:
            if alarm.priority is not Priority.EVENT and not alarm.expression:
                family.add_metric([name or "", str(alarm.name), str(alarm.priority)], float(alarm.name in raised))

    for name in names:
        add(name, OF_CAMERA)
    add(None, OF_DAEMON)
    yield family


def _daemon(status: Status, daemon: DaemonMessage) -> Iterator[Metric]:
    yield GaugeMetricFamily("inspectd_uptime_seconds", "Since the daemon started.", daemon.uptime_s)
    facts = {"version": VERSION, "device": daemon.device, "precision": daemon.precision}
    yield InfoMetricFamily("inspectd", "This daemon.", facts)
    yield InfoMetricFamily("inspectd_config", "The configuration in force.", {"digest": status.config_digest})
    band = GaugeMetricFamily(
        "inspectd_parity_band",
        "Largest difference of a patch score from the textbook form in float32, in units of the scores.",
        labels=["model", "device", "precision"],
    )
    for label, model in daemon.models.items():
        band.add_metric([label, model.device, model.precision], model.band)
    yield band
    free = GaugeMetricFamily(
        "inspectd_device_memory_free_bytes", "What the engine may still take of the device's memory.", labels=["device"]
    )
    if (left := status.free_memory()) is not None:
        free.add_metric([daemon.device], left)
    yield free
    clients = GaugeMetricFamily("inspectd_clients", "Connections to a socket now.", labels=["socket"])
    for socket, count in status.connections().items():
        clients.add_metric([socket], count)
    yield clients
    yield CounterMetricFamily(
        "inspectd_clients_refused", "Connections that had no key on the list.", status.refused_clients()
    )


def _journal(daemon: DaemonMessage, names: Iterable[str]) -> Iterator[Metric]:
    journal = daemon.journal
    yield GaugeMetricFamily("inspectd_journal_ok", "1 while the journal can be written.", float(journal.ok))
    yield CounterMetricFamily("inspectd_journal_written", "Verdicts written to the journal.", journal.written)
    yield GaugeMetricFamily("inspectd_journal_waiting", "Verdicts that wait for the journal.", journal.waiting)
    yield _lost("inspectd_journal_lost", "Verdicts that could not be kept.", journal.lost, names)


def _archive(archive: ArchiveMessage, names: Iterable[str]) -> Iterator[Metric]:
    yield GaugeMetricFamily("inspectd_archive_ok", "1 while pictures can be kept.", float(archive.ok))
    yield CounterMetricFamily("inspectd_archive_kept", "Pictures written to the archive.", archive.kept)
    yield GaugeMetricFamily("inspectd_archive_waiting", "Pictures that wait for the archive.", archive.waiting)
    yield GaugeMetricFamily("inspectd_archive_bytes", "What all pictures of the archive take.", archive.bytes)
    yield _lost("inspectd_archive_lost", "Pictures that could not be kept.", archive.lost, names)


def _lost(metric: str, text: str, lost: dict[str, int], names: Iterable[str]) -> Metric:
    family = CounterMetricFamily(metric, text, labels=["camera"])
    for name in names:
        family.add_metric([name], lost.get(name, 0))
    return family
