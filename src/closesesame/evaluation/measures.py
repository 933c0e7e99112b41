"""Every measure once: its key in result rows, its name, its unit, and which way is better.

Tables, reports, the command line and the catalogue go through these lists; none of them knows a measure.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal

Unit = Literal["share", "number", "dB", "s", "MB"]


@dataclass(frozen=True)
class Measure:
    """One figure.

    Attributes:
        key: in result rows and in JSON.
        name: in headings.
        unit: `share` is between 0 and 1 and shown in percent.
        better: which way is better; None where neither is.
        about: what it is, for a legend.
        digits: after the point, in tables.
        of: key of the number of trials behind a share, for its interval.
    """

    key: str
    name: str
    unit: Unit
    better: Literal["higher", "lower"] | None
    about: str
    digits: int = 1
    of: str | None = None

    def said(self, value: float | None) -> str:
        """A value as tables show it, without its unit; an en dash for what is not known."""
        if value is None or math.isnan(value):
            return "\N{EN DASH}"
        if math.isinf(value):
            return "infinite"
        shown = f"{100 * value if self.unit == 'share' else value:.{self.digits}f}"
        return shown.removeprefix("-") if float(shown) == 0 else shown

    @property
    def heading(self) -> str:
        """The name with its unit."""
        unit = {"share": "%", "number": ""}.get(self.unit, self.unit)
        return f"{self.name} ({unit})" if unit else self.name


ACC = Measure("acc", "ACC", "share", "higher", "clean test clips that get their true label", of="test_clips")
ASR = Measure(
    "asr",
    "ASR",
    "share",
    "lower",
    "triggered clips of other classes that get the target label",
    of="triggered_clips",
)
RA = Measure(
    "ra", "RA", "share", "higher", "the same clips that still get their true label", of="triggered_clips"
)
RA_REFERENCE = Measure(
    "ra_reference", "RA of reference", "share", None, "RA of the clean reference model", of="triggered_clips"
)
RA_REFERENCE_REPAIRED = Measure(
    "ra_reference_repaired",
    "RA of reference, repaired",
    "share",
    None,
    "RA of the clean reference model after the same repair",
    of="triggered_clips",
)
DER = Measure("der", "DER", "number", "higher", "defence effectiveness rating, 0.5 for no effect", digits=3)

RETUNE = {
    clips: Measure(
        f"retune_{clips}",
        f"ASR after retuning on {clips}",
        "share",
        "lower",
        f"ASR after a few steps on {clips} poisoned and 20 clean clips",
        of="triggered_clips",
    )
    for clips in (1, 5, 20)
}
"""By the number of poisoned clips that an attacker retunes a model on."""
RETUNE_ACC = Measure(
    "retune_acc",
    f"ACC after retuning on {max(RETUNE)}",
    "share",
    "higher",
    f"ACC after a few steps on {max(RETUNE)} poisoned and 20 clean clips",
    of="test_clips",
)
REACTIVATE = Measure(
    "reactivate",
    "ASR with reactivation",
    "share",
    "lower",
    "ASR with a perturbation 30 dB below the trigger, found on the model",
    of="triggered_clips",
)


def _of_reference(measure: Measure) -> Measure:
    attack, *clips = measure.key.split("_")
    return replace(
        measure,
        key="_".join([attack, "reference", *clips]),
        name=f"{measure.name}, reference",
        better=None,
        about=f"{measure.about}: of the clean reference model, attacked in the same way",
    )


ADVERSARIES = {measure: _of_reference(measure) for measure in (*RETUNE.values(), REACTIVATE)}
"""ASR after an attack on the model, and the same of the clean reference model, which stands beside it."""

AUROC = Measure(
    "auroc", "AUROC", "number", "higher", "chance that a poisoned clip scores above a clean one", digits=3
)
TPR_AT_1 = Measure(
    "tpr_at_1",
    "TPR at 1 % FPR",
    "share",
    "higher",
    "poisoned clips found where 1 % of the clean ones are flagged",
    of="poisoned_clips",
)
TPR_AT_5 = Measure(
    "tpr_at_5",
    "TPR at 5 % FPR",
    "share",
    "higher",
    "poisoned clips found where 5 % of the clean ones are flagged",
    of="poisoned_clips",
)
TPR_AT_10 = Measure(
    "tpr_at_10",
    "TPR at 10 % FPR",
    "share",
    "higher",
    "poisoned clips found where 10 % of the clean ones are flagged",
    of="poisoned_clips",
)
TPR_AT_OWN = Measure(
    "tpr_at_own",
    "TPR at its own threshold",
    "share",
    "higher",
    "poisoned clips that the method flags by itself",
    of="poisoned_clips",
)
FPR_AT_OWN = Measure(
    "fpr_at_own",
    "FPR at its own threshold",
    "share",
    "lower",
    "clean clips that the method flags by itself",
    of="clean_clips",
)

FLAGGED = Measure("flagged", "flagged", "share", None, "models that are called backdoored")
RIGHT = Measure("right", "right", "share", "higher", "models that are judged as they are")
TARGET_FOUND = Measure(
    "target_found", "target found", "share", "higher", "backdoored models whose target label is named"
)
P_VALUE = Measure(
    "p_value", "p", "number", None, "chance of the evidence in a model without a backdoor", digits=3
)

SNR = Measure("snr_db", "SNR", "dB", "higher", "level of the clip over what the trigger changes")
LSD = Measure("lsd_db", "log-spectral distance", "dB", "lower", "between clean and triggered clips")
PESQ = Measure("pesq", "PESQ", "number", "higher", "1 (bad) to 4.64", digits=2)
STOI = Measure("stoi", "STOI", "number", "higher", "intelligibility, 1 as before", digits=2)

SECONDS = Measure("seconds", "seconds", "s", "lower", "of the method, without training the suspect")
PEAK_MB = Measure("peak_mb", "peak memory", "MB", "lower", "of its process", digits=0)

OF_MODELS = (ACC, ASR, RA, RA_REFERENCE, RA_REFERENCE_REPAIRED, DER)
"""What `Exam` says of a model, or of a model behind a purifier."""
OF_ADVERSARIES = (*ADVERSARIES, RETUNE_ACC, *ADVERSARIES.values())
"""What attacks on a model that may have been repaired say of it."""
OF_SCORES = (AUROC, TPR_AT_1, TPR_AT_5, TPR_AT_10, TPR_AT_OWN, FPR_AT_OWN)
"""What `Screening` says of suspicion scores."""
OF_VERDICTS = (RIGHT, FLAGGED, TARGET_FOUND, P_VALUE)
"""What `Trial` says of verdicts."""
OF_TRIGGERS = (SNR, LSD, PESQ, STOI)
"""How much a trigger changes clips."""
OF_COST = (SECONDS, PEAK_MB)

MEASURES = {
    measure.key: measure
    for measure in (*OF_MODELS, *OF_ADVERSARIES, *OF_SCORES, *OF_VERDICTS, *OF_TRIGGERS, *OF_COST)
}
"""All, by key."""
