"""The backend of a GPU: uploads, networks and downloads of several batches overlap.

What happens to a batch, on three streams:

    upload     each picture's rows go from the camera's page-locked memory to the slot's staging memory
    compute    waits for the uploads; resize, crop and normalise into the graph's input; replay the graph
    download   waits for the graph; scores go to the slot's page-locked memory

A slot's memory belongs to one batch until the host has waited for the batch's download: everything before it
on all three streams has ended then, so that the slot, and the pictures, are free. The graph's scores are the
only memory that batches share across streams: the next replay waits for the download of the last.
Nothing is allocated once a picture of the largest size has been seen.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import cast

import numpy as np
import torch
from torch import Tensor

from inspectd.engine.backend import Floats, Parity, Request, Score
from inspectd.engine.gpu.networks import BatchLimit, CudaHead, CudaRuntime, CudaTrunk, Graph
from inspectd.engine.gpu.preprocess import Preparation, preparing
from inspectd.engine.gpu.streams import Device, Event
from inspectd.engine.prepared import Prepared, PreparedModels
from inspectd.model.artefact import Artefact
from inspectd.simplenet.bundle import Bundle

SLOTS = 3
"""Batches under way: one is uploaded, one computed, one downloaded."""
MOST_PREPARATIONS = 32
"""Kinds of pictures whose scratch memory is kept; a folder of pictures of all sizes must not fill the device."""
ALIGNMENT = 512
"""Bytes; each picture begins at a multiple, which any type of value and any copy engine likes."""

Work = Callable[[], object]


class GpuBackend:
    """Scores pictures on one GPU, for any number of threads: their batches are queued one after the other."""

    depth = SLOTS

    def __init__(self, device: Device, precisions: Sequence[str], why: str = "", max_batch: int = 16) -> None:
        """`precisions`: in the order in which they are tried for a model."""
        self.max_batch = max_batch
        self.why = why
        self._device = device
        self._upload, self._compute, self._download = device.stream(), device.stream(), device.stream()
        self._limit = BatchLimit(max_batch)
        runtimes = [CudaRuntime(device, one, self._limit, self._compute) for one in precisions]
        self.variant = runtimes[0].variant
        self._models = PreparedModels(runtimes)
        self._preparations: dict[Preparation, Callable[[Tensor, Tensor], None]] = {}
        self._slots = [_Slot(device, max_batch) for _ in range(SLOTS)]
        self._free = deque(self._slots)
        self._pending: deque[_Part] = deque()
        self._queueing = threading.RLock()
        """Held by whoever changes what the device shall do."""
        self._collecting = threading.Lock()

    def prepare(self, model: Bundle, *, is_draft: bool = False) -> Parity:
        """Make a model ready to judge: pass the gate, and capture a graph for each batch size.

        Batches of other models go on between its steps.
        """
        reference = None if self._models.has(model) else self._models.reference(model)
        with self._queueing:
            prepared = self._models.prepare(model, reference, is_draft=is_draft)
        head = cast("CudaHead", prepared.head)
        for size in self._limit.sizes:
            with self._queueing:
                if size <= self._limit.largest:  # it may shrink on the way
                    cast("CudaTrunk", prepared.trunk).graph(head.bank, size)
        return prepared.parity

    def forget(self, model: Artefact) -> None:
        """Give up what is held for a model that is not needed any more."""
        with self._queueing:
            for part in tuple(self._pending):
                self._collect(part)
            self._models.forget(model)

    def free_memory(self) -> int:
        """Return how many bytes of the GPU nobody has taken."""
        return self._device.free_memory()

    def pin(self, address: int, size: int) -> Callable[[], None]:
        """Page-lock a camera's memory, so that the device copies from it by itself."""
        return self._device.pin(address, size)

    def seat(self) -> AbstractContextManager[Score]:
        """Return `score`: every thread may score."""
        return nullcontext(self.score)

    def score(self, requests: Sequence[Request]) -> list[Floats]:
        """Return raw patch scores [h, w] for each request, in their order; higher is worse."""
        return self.submit(requests)()

    def submit(self, requests: Sequence[Request]) -> Callable[[], list[Floats]]:
        """Queue pictures; calling the result, once, waits for their scores. They must stay as they are until then."""
        with self._queueing:
            parts = self._queue_all(requests)
        return lambda: [scores for part in parts for scores in self._collect(part)]

    def score_normalised(self, model: Artefact, inputs: Floats) -> Floats:
        """Return raw patch scores [B, h, w] of normalised inputs [B, 3, H, W]."""
        with self._queueing:
            prepared = self._models.find(model)
            return prepared.trunk.score(np.ascontiguousarray(inputs), [prepared.head] * len(inputs))

    def _queue_all(self, requests: Sequence[Request]) -> list[_Part]:
        parts, begin = [], 0
        while begin < len(requests):
            some = requests[begin : begin + self._limit.largest]
            rows = [_Row(one, self._models.find(one.model)) for one in some]
            parts.append(self._queue_part(rows))
            begin += len(parts[-1].order)
        return parts

    def _queue_part(self, rows: list[_Row]) -> _Part:
        """Queue what one slot holds; fewer pictures than were given when memory does not suffice for all."""
        slot = self._acquire_slot()
        try:
            # Captures and allocations come first: while they last, nothing of this batch is under way.
            rows = rows[: self._make_room(slot, rows)]
            order = sorted(range(len(rows)), key=lambda i: rows[i].group)
            rows = [rows[i] for i in order]
            graphs = list(self._graphs(rows))
            self.upload_rows(slot, rows)
            for place, count, graph in graphs:
                self.preprocess_rows(slot, place, rows[place : place + count], graph)
                self.run_network(graph)
                self.download_scores(slot, place, count, graph)
            groups = [(place, (count, *graph.scores.shape[1:])) for place, count, graph in graphs]
            part = _Part(slot, order, rows, groups, self._download.record())
        except BaseException:
            self._device.synchronise()
            self._free.append(slot)
            raise
        self._pending.append(part)
        return part

    # What happens to a batch, in this order.

    def upload_rows(self, slot: _Slot, rows: Sequence[_Row]) -> None:
        """Copy the inspected rows of each picture, and the rows of their heads, to the slot's memory."""
        for place, row in enumerate(rows):
            self._upload.run(slot.uploading(place, row))
        self._upload.run(slot.uploading_indices([row.head.row for row in rows]))
        self._compute.wait(self._upload.record())

    def preprocess_rows(self, slot: _Slot, place: int, rows: Sequence[_Row], graph: Graph) -> None:
        """Resize, crop and normalise into the graph's inputs."""
        for i, row in enumerate(rows):
            prepare = self._preparations[row.how]
            self._compute.run(partial(prepare, slot.band(place + i, row.how), graph.inputs[i]))
        self._compute.run(slot.handing_indices(place, graph.rows[: len(rows)]))

    def run_network(self, graph: Graph) -> None:
        """Replay the graph."""
        graph.run(self._compute)

    def download_scores(self, slot: _Slot, place: int, count: int, graph: Graph) -> None:
        """Copy the scores to the slot's page-locked memory."""
        self._download.wait(self._compute.record())
        self._download.run(slot.downloading(place, graph.scores[:count]))
        graph.downloaded = self._download.record()

    def _graphs(self, rows: Sequence[_Row]) -> Iterator[tuple[int, int, Graph]]:
        """Yield place and number of the rows that a graph scores in one pass."""
        place = 0
        while place < len(rows):
            first = rows[place]
            alike = sum(row.group == first.group for row in rows[place:])
            graph = first.trunk.graph(first.head.bank, alike)
            count = min(alike, len(graph.rows))
            yield place, count, graph
            place += count

    def _make_room(self, slot: _Slot, rows: Sequence[_Row]) -> int:
        """Take what memory these pictures need beyond what is there; return how many of them it holds."""
        largest = max(row.how.band_bytes for row in rows)
        scores = max(math.prod(row.trunk.grid) for row in rows)
        while True:
            count = min(len(rows), self._limit.largest)
            try:
                slot.fit(self._limit.largest, largest, scores)
                self._get_preparations({row.how for row in rows[:count]})
            except torch.cuda.OutOfMemoryError:
                self._limit.halve(f"{count} pictures of {largest / 1e6:.1f} MB do not fit")
            else:
                return count
            slot.give_up()
            torch.cuda.empty_cache()  # outside the handler: the error holds what did not fit

    def _get_preparations(self, wanted: set[Preparation]) -> None:
        missing = wanted - self._preparations.keys()
        if len(self._preparations) + len(missing) > max(MOST_PREPARATIONS, len(wanted)):
            self._device.synchronise()  # what is dropped may be in use
            self._preparations = {how: self._preparations[how] for how in wanted - missing}
        for how in missing:
            self._preparations[how] = preparing(how, self._device.torch_device)
            self._device.synchronise()  # its constants were written on another stream

    def _acquire_slot(self) -> _Slot:
        while True:
            try:
                return self._free.popleft()
            except IndexError:
                for part in tuple(self._pending)[:1]:  # the thread that queued it may have collected it meanwhile
                    self._collect(part)

    def _collect(self, part: _Part) -> list[Floats]:
        """Wait for a part and return its scores in the order of its requests. May be called again, by any thread."""
        part.done.wait()  # the one wait of the host
        with self._collecting:
            if part.scores is None:
                part.scores = part.slot.scores(part)
                self._pending.remove(part)
                self._free.append(part.slot)
            return part.scores


class _Row:
    """One request, and what it needs on the device."""

    def __init__(self, request: Request, prepared: Prepared) -> None:
        model, picture = request.model, request.picture
        deep, white = picture.dtype.itemsize == 2, model.white_level
        self.how = Preparation(picture.shape, deep, request.geometry, white, model.normalisation)
        top, bottom = self.how.band
        self.source = torch.from_numpy(np.ascontiguousarray(picture[top:bottom]))
        self.trunk = cast("CudaTrunk", prepared.trunk)
        self.head = cast("CudaHead", prepared.head)
        self.group = (id(self.trunk), id(self.head.bank))
        """Equal for what one graph can score."""


@dataclass(slots=True, eq=False)
class _Part:
    """As many pictures of a call as a slot holds."""

    slot: _Slot
    order: list[int]
    """Which request lies at which place of the slot."""
    rows: list[_Row]
    """By place; they hold the pictures until the uploads have ended."""
    groups: list[tuple[int, tuple[int, ...]]]
    """First place and shape [n, h, w] of the scores that came from one graph."""
    done: Event
    scores: list[Floats] | None = None


class _Slot:
    """The memory of one batch under way. Methods in -ing return work for a stream."""

    def __init__(self, device: Device, max_batch: int) -> None:
        self._device = device
        self._host_rows = device.pinned((max_batch,), torch.int64)
        self._rows = torch.zeros(max_batch, dtype=torch.int64, device=device.torch_device)
        self._staging = torch.zeros(0, 0, dtype=torch.uint8, device=device.torch_device)
        self._host_scores = device.pinned((max_batch, 0), torch.float32)

    def fit(self, count: int, picture_bytes: int, scores: int) -> None:
        """Have room for `count` pictures; OutOfMemoryError. Only while nothing of this slot is under way."""
        wanted = -(-picture_bytes // ALIGNMENT) * ALIGNMENT
        if len(self._staging) < count or self._staging.shape[1] < wanted:
            wanted = max(wanted, self._staging.shape[1])
            self.give_up()
            self._staging = torch.zeros(count, wanted, dtype=torch.uint8, device=self._device.torch_device)
            self._device.synchronise()  # the zeros were written on another stream
        if self._host_scores.shape[1] < scores:
            self._host_scores = self._device.pinned((len(self._host_scores), scores), torch.float32)

    def give_up(self) -> None:
        """Free the staging memory."""
        self._staging = torch.zeros(0, 0, dtype=torch.uint8, device=self._device.torch_device)

    def band(self, place: int, how: Preparation) -> Tensor:
        """Return the uploaded rows of one picture, as a view of the staging memory."""
        return self._staging[place, : how.band_bytes].view(how.dtype).view(how.band_shape)

    def uploading(self, place: int, row: _Row) -> Work:
        return partial(self.band(place, row.how).copy_, row.source, non_blocking=True)

    def uploading_indices(self, rows: Sequence[int]) -> Work:
        self._host_rows[: len(rows)] = torch.tensor(rows)
        return partial(self._rows[: len(rows)].copy_, self._host_rows[: len(rows)], non_blocking=True)

    def handing_indices(self, place: int, into: Tensor) -> Work:
        return partial(into.copy_, self._rows[place : place + len(into)])

    def downloading(self, place: int, scores: Tensor) -> Work:
        return partial(self._place(place, scores.shape).copy_, scores, non_blocking=True)

    def scores(self, part: _Part) -> list[Floats]:
        """Return copies of the downloaded scores, in the order of the requests."""
        by_place: list[Floats] = []
        for place, shape in part.groups:
            by_place.extend(self._place(place, shape).numpy().copy())
        return [scores for _, scores in sorted(zip(part.order, by_place, strict=True), key=lambda pair: pair[0])]

    def _place(self, place: int, shape: Sequence[int]) -> Tensor:
        """Return where a group's scores go: without gaps, so that one copy brings them."""
        return self._host_scores[place:].flatten()[: math.prod(shape)].view(*shape)
