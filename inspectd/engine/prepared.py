"""The models that an engine has at hand: each behind its trunk, in the best variant that passed the parity gate."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from inspectd.engine.backend import Parity, Variant
from inspectd.engine.parity import Reference, compare
from inspectd.engine.runtime import CannotRunError, Compiled, Head, Runtime, Trunk, strips_for, trunk_key
from inspectd.engine.strips import Strips, is_small
from inspectd.errors import UsageError
from inspectd.model.artefact import Artefact
from inspectd.simplenet.bundle import Bundle
from inspectd.simplenet.folded import fold_head
from inspectd.simplenet.network import HeadShape

LOG = logging.getLogger(__name__)
MOST_KEPT, LARGEST_KEPT = 4, 32 << 20
"""References that are kept, and the bytes of one's pictures."""


@dataclass(frozen=True, slots=True)
class Key:
    """What models that share a compiled trunk have in common."""

    trunk: Hashable
    variant: Variant
    strips: Strips
    head: HeadShape | None
    """The shape that there was room for, in these strips; None: the input is small, and any head may stand there."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A model that may judge."""

    model: Bundle
    key: Key
    trunk: Compiled
    head: Head
    parity: Parity


class PreparedModels:
    """Prepares each model once; models with the same backbone, weights and input share one trunk."""

    def __init__(self, runtimes: Sequence[Runtime]) -> None:
        """`runtimes`: in the order in which they are tried."""
        self._runtimes = runtimes
        self._trunks: dict[Key, tuple[Trunk, Compiled]] = {}
        self._prepared: dict[str, Prepared] = {}
        self._references: dict[str, Reference] = {}
        """By digest, of the last models: who returns to one of them is not kept waiting."""

    @property
    def tracks(self) -> int:
        """How many pictures are scored at once, of whichever model."""
        return min((prepared.trunk.tracks for prepared in tuple(self._prepared.values())), default=1)

    def has(self, model: Artefact) -> bool:
        """Whether a model is prepared."""
        return model.digest in self._prepared

    def reference(self, model: Bundle) -> Reference:
        """Return what a model's variants are held against."""
        found = self._references.pop(model.digest, None) or Reference.of(model)
        if found.inputs.nbytes <= LARGEST_KEPT:
            self._references[model.digest] = found  # in the order in which they were needed
            for digest in tuple(self._references)[:-MOST_KEPT]:
                del self._references[digest]
        return found

    def prepare(self, model: Bundle, reference: Reference | None = None, *, is_draft: bool = False) -> Prepared:
        """Return the model in the first variant that agrees with the textbook; UsageError when none does.

        The variant that its threshold was set in is tried first. `reference`: what it is held against, where that is
        known already.
        `is_draft`: its threshold is still to be set, from the scores of the variant that it is prepared in.
        """
        if model.digest in self._prepared:
            return self._prepared[model.digest]
        reference = reference or self.reference(model)
        refused: list[str] = []
        for runtime in sorted(self._runtimes, key=lambda runtime: not _is_calibrated_in(model, runtime.variant)):
            key = self._key(model, runtime)
            try:
                trunk, compiled = self._trunk(key, model, runtime)
                head = compiled.add(fold_head(model.head, trunk.channels))
            except CannotRunError as error:
                refused.append(str(error))
                self._drop_unused_trunks()
                continue
            scores = compiled.score(reference.inputs, [head] * len(reference.inputs))
            parity = compare(model, runtime.variant, reference, scores, is_draft=is_draft)
            if parity.is_narrow:
                if refused:
                    LOG.warning("model %s: %s. It is judged in %s.", model.label, refused[-1], runtime.variant)
                self._prepared[model.digest] = Prepared(model, key, compiled, head, parity)
                return self._prepared[model.digest]
            refused.append(str(parity))
            self._drop_unused_trunks()
        raise UsageError(
            f"The model {model.label} may not judge here: {'; '.join(refused)}. Use precision: float32 or another "
            "device, or calibrate again."
        )

    def find(self, model: Artefact) -> Prepared:
        """Return what was prepared of a model; LookupError when nothing was."""
        try:
            return self._prepared[model.digest]
        except KeyError:
            raise LookupError(f"the model {model.label} was scored before it was prepared") from None

    def forget(self, model: Artefact) -> None:
        """Give up what is held for a model that is not needed any more."""
        self._prepared.pop(model.digest, None)
        self._drop_unused_trunks()

    def _key(self, model: Bundle, runtime: Runtime) -> Key:
        """Return the key of a trunk that is there already, or else of one for which there is memory now."""
        trunk = trunk_key(model)
        for key in self._trunks:
            if (key.trunk, key.variant) == (trunk, runtime.variant) and key.head in (None, model.head_shape):
                return key
        strips = strips_for(model, runtime.room())
        return Key(trunk, runtime.variant, strips, None if is_small(model.params.input_shape) else model.head_shape)

    def _trunk(self, key: Key, model: Bundle, runtime: Runtime) -> tuple[Trunk, Compiled]:
        if key not in self._trunks:
            trunk = Trunk(model.backbone, model.head_shape, key.strips)
            self._trunks[key] = (trunk, runtime.compile(trunk))
        return self._trunks[key]

    def _drop_unused_trunks(self) -> None:
        used = {prepared.key for prepared in self._prepared.values()}
        self._trunks = {key: trunk for key, trunk in self._trunks.items() if key in used}


def _is_calibrated_in(model: Bundle, variant: Variant) -> bool:
    calibration = model.calibration
    return calibration is not None and Variant(calibration.device, calibration.precision) == variant
