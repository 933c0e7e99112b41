"""Screened: train, drop the clips that a detection finds most suspicious, and train again on the rest. Ours.

Most detections of poisoned training clips were published with such a frame, as by Tran, Li, Madry, "Spectral
Signatures in Backdoor Attacks", NeurIPS 2018, arXiv:1811.00636, algorithm 1; here any detection fits into it.
How many clips to drop is a share of all, or left to the detection if it names a threshold. A detection that
needs clean clips gets those that the training is given.
"""

from contextvars import Context
from functools import partial
from typing import Any, ClassVar

import torch
from pydantic import Field, field_validator

from closesesame.core.errors import SettingError, listed
from closesesame.core.seeding import derive
from closesesame.data import Dataset
from closesesame.detection import DETECTIONS, Detection, Suspicion
from closesesame.models import Architecture, Classifier
from closesesame.training import train

from .base import RobustTraining, Watch


class Screened(RobustTraining):
    """Train plainly, score all clips with a detection, drop the most suspicious, and train again."""

    name: ClassVar[str] = "screened"
    cite: ClassVar[str] = "ours"
    quick: ClassVar[dict[str, Any]] = {
        "training": {"epochs": 1},
        "detection": "training_loss",
        "dropped_share": 0.1,
    }

    detection: str = Field("dynamics", description="detection of training clips or inputs, by name")
    detection_settings: dict[str, Any] = Field({}, description="of the detection, by name")
    dropped_share: float | None = Field(
        None,
        ge=0,
        le=0.95,
        description="share of all clips to drop; none drops those above the detection's threshold",
    )

    @field_validator("detection")
    @classmethod
    def _is_known(cls, name: str) -> str:
        try:
            _detection_of(name, {})
        except SettingError as error:
            raise ValueError(f"must be the name of a detection: {error}") from None
        return name

    @field_validator("detection_settings")
    @classmethod
    def _fit(cls, settings: dict[str, Any], known: Any) -> dict[str, Any]:
        if "detection" in known.data:
            try:
                _detection_of(known.data["detection"], settings)
            except SettingError as error:
                raise ValueError(f"must be settings of {known.data['detection']}: {error}") from None
        return settings

    @field_validator("dropped_share")
    @classmethod
    def _is_decided(cls, share: float | None, known: Any) -> float | None:
        if share is None and {"detection", "detection_settings"} <= known.data.keys():
            name = known.data["detection"]
            if _detection_of(name, known.data["detection_settings"]).flags_above() is None:
                raise ValueError(f"must be a share with {name}, which names no threshold, got none")
        return share

    def wants_clean(self) -> bool:
        """Whether the detection does."""
        return self._detection().needs_clean

    def calls(self) -> tuple[str, ...]:
        """The module of the detection."""
        return (type(self._detection()).__module__,)

    def learn(
        self,
        architecture: Architecture,
        untrusted: Dataset,
        clean: Dataset | None,
        seed: int,
        watch: Watch,
    ) -> tuple[Classifier, dict[str, Any]]:
        """Two trainings, `training` and `again`; returns how many clips were dropped between them."""
        first = train(
            architecture, untrusted, self.training, seed=seed, after_epoch=partial(watch, "training")
        )
        found = self._detection().score(first, untrusted, clean, derive(seed, "detection"))
        kept = untrusted.take(self._kept(found))
        again = train(architecture, kept, self.training, seed=seed, after_epoch=partial(watch, "again"))
        lost = sorted(set(untrusted.labels.unique().tolist()) - set(kept.labels.unique().tolist()))
        names = [untrusted.classes[label] for label in lost]
        return again, {"dropped_clips": len(untrusted) - len(kept), "dropped_classes": names}

    def remarks(self, chosen: dict[str, Any]) -> list[str]:
        """Which classes nothing is left of."""
        if not chosen["dropped_classes"]:
            return []
        named = listed(chosen["dropped_classes"])
        return [f"all clips of these classes were dropped, so the model does not know them: {named}"]

    def _detection(self) -> Detection:
        return _detection_of(self.detection, self.detection_settings)

    def _kept(self, found: Suspicion) -> torch.Tensor:
        """The rows (k,) that are trained on again, in their order."""
        if self.dropped_share is None:
            assert found.flagged is not None
            return (~found.flagged).nonzero()[:, 0]
        count = round((1 - self.dropped_share) * len(found.scores))
        return found.scores.argsort(stable=True)[:count].sort().values


def _detection_of(name: str, settings: dict[str, Any]) -> Detection:
    """The detection; its errors name its own settings, not those of what is being checked around it."""
    return Context().run(DETECTIONS.recall, name, settings)
