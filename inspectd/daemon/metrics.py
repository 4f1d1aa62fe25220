"""What Prometheus is told. Counters are read from the ledger at the moment of the scrape, so that its laws
can be checked there; histograms are observed as verdicts leave."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from inspectd.daemon.status import Status
from inspectd.records import Counts, Verdict
from inspectd.version import VERSION
from inspectd.wire.messages import ArchiveMessage

BUCKETS_S = (0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0)
STATES = ("starting", "running", "lost", "frozen", "stopped", "bypass")

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
    """One registry; `inspectd.daemon.exporter` serves it."""

    def __init__(self, status: Status) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(_LedgerCollector(status))
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
            ["stage"],
            buckets=BUCKETS_S,
            registry=self.registry,
        )

    def on_published(self, verdict: Verdict, published_ns: int) -> None:
        """Observe the times of one verdict."""
        latency_ns, finding = verdict.latency_ns(published_ns), verdict.finding
        if latency_ns is not None:
            self._latency.labels(verdict.camera).observe(latency_ns / 1e9)
        if verdict.queued_ns and finding.started_ns and finding.scored_ns:
            self._stage.labels("wait").observe((finding.started_ns - verdict.queued_ns) / 1e9)
            self._stage.labels("score").observe((finding.scored_ns - finding.started_ns) / 1e9)
            self._stage.labels("publish").observe((published_ns - finding.scored_ns) / 1e9)


class _LedgerCollector(Collector):
    def __init__(self, status: Status) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        accounts = {name: self._status.counts(name) for name in self._status.cameras()}
        yield from _plain(accounts)
        yield from _verdicts(accounts)
        yield from self._states(accounts)

    def _states(self, accounts: Iterable[str]) -> Iterator[Metric]:
        states = GaugeMetricFamily("inspectd_camera_state", "1 for the camera's state.", labels=["camera", "state"])
        for name in accounts:
            now = self._status.state(name)
            for state in STATES:
                states.add_metric([name, state], float(state == now))
        yield states
        daemon = self._status.daemon()
        yield GaugeMetricFamily("inspectd_uptime_seconds", "Since the daemon started.", daemon.uptime_s)
        band = GaugeMetricFamily(
            "inspectd_parity_band",
            "Largest difference of a patch score from the textbook form in float32, in units of the scores.",
            labels=["model", "device", "precision"],
        )
        for label, model in daemon.models.items():
            band.add_metric([label, model.device, model.precision], model.band)
        yield band
        journal = daemon.journal
        yield GaugeMetricFamily("inspectd_journal_ok", "1 while the journal can be written.", float(journal.ok))
        yield CounterMetricFamily("inspectd_journal_written", "Verdicts written to the journal.", journal.written)
        yield GaugeMetricFamily("inspectd_journal_waiting", "Verdicts that wait for the journal.", journal.waiting)
        lost = CounterMetricFamily("inspectd_journal_lost", "Verdicts that could not be kept.", labels=["camera"])
        for name in self._status.cameras():
            lost.add_metric([name], journal.lost.get(name, 0))
        yield lost
        yield from self._shadows()
        if (archive := daemon.archive) is not None:
            yield from _archive(archive, self._status.cameras())
        yield CounterMetricFamily(
            "inspectd_clients_refused", "Connections that had no key on the list.", self._status.refused_clients()
        )
        facts = {"version": VERSION, "device": daemon.device, "precision": daemon.precision}
        yield InfoMetricFamily("inspectd", "This daemon.", facts)

    def _shadows(self) -> Iterator[Metric]:
        shadows = {name: shadow for name in self._status.cameras() if (shadow := self._status.shadow(name)) is not None}
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

    def describe(self) -> list[Any]:
        return []


def _plain(accounts: dict[str, Counts]) -> Iterator[Metric]:
    for kind, names in ((CounterMetricFamily, _COUNTERS), (GaugeMetricFamily, _GAUGES)):
        for metric, (text, attribute) in names.items():
            family = kind(f"inspectd_{metric}", text, labels=["camera"])
            for name, counts in accounts.items():
                family.add_metric([name], getattr(counts, attribute))
            yield family


def _archive(archive: ArchiveMessage, cameras: Iterable[str]) -> Iterator[Metric]:
    yield GaugeMetricFamily("inspectd_archive_ok", "1 while pictures can be kept.", float(archive.ok))
    yield CounterMetricFamily("inspectd_archive_kept", "Pictures written to the archive.", archive.kept)
    yield GaugeMetricFamily("inspectd_archive_waiting", "Pictures that wait for the archive.", archive.waiting)
    yield GaugeMetricFamily("inspectd_archive_bytes", "What all pictures of the archive take.", archive.bytes)
    lost = CounterMetricFamily("inspectd_archive_lost", "Pictures that could not be kept.", labels=["camera"])
    for name in cameras:
        lost.add_metric([name], archive.lost.get(name, 0))
    yield lost


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
