"""The command that tells whether a model has a backdoor."""

from typing import TYPE_CHECKING

from closesesame.cli.app import command
from closesesame.cli.inputs import clean_for, findings_in, load_clean, load_model_on, settings_of
from closesesame.cli.options import CLEAN, SPLIT, CleanOptions, Device, ModelFolder, Set, SplitOptions
from closesesame.cli.printing import Answer, facts, notes, table

if TYPE_CHECKING:
    from pathlib import Path

    from closesesame.inspection import Verdict
    from closesesame.models.black_boxes.runtime import Runtime

NOTHING = "no operator decides by values of the sound; that does not prove that there is no backdoor"
NO_GRAPH = "not checked, since only ONNX graphs are"


@command("inspect")
def inspect(
    model: ModelFolder,
    *,
    clean: CleanOptions = CLEAN,
    method: str = "max_margin",
    settings: Set = None,
    device: Device = "cpu",
    options: SplitOptions = SPLIT,
) -> Answer:
    """Tell whether a model has a backdoor, without its training set and without a trigger.

    Ends with status 0 whatever the verdict is. What is noteworthy in the graph of an ONNX model besides its
    weights is said first, whatever the method; it is all that is said of a file that is run as it is, ONNX or
    TFLite, where the method needs gradients.

    Args:
        method: Inspection; see 'sesame list inspection' and 'sesame show METHOD'.

    Examples:
        sesame inspect MODEL
        sesame inspect MODEL --method max_margin --set level=0.01 --json
    """
    from closesesame.inspection import INSPECTIONS
    from closesesame.inspection.base import missing_sentence
    from closesesame.models.black_boxes import FileBody
    from closesesame.models.files import sha256_of

    inspection = INSPECTIONS.make(method, settings_of(settings))
    clean = clean_for(method, clean, needed=not inspection.data_free)
    suspect = load_model_on(model, device)
    findings = findings_in(suspect)
    if inspection.needs_gradients and isinstance(suspect.body, FileBody):
        return _without_verdict(method, suspect.body.runtime, findings, model)
    notes(findings)
    examples = load_clean(suspect.card, clean, options, missing_sentence)
    verdict = inspection.inspect(suspect, examples, options.seed)
    found = {
        "backdoored": verdict.backdoored,
        "target": verdict.target,
        "p_value": verdict.p_value,
        "compared": verdict.compared,
        "threshold": verdict.threshold,
        "statistics": verdict.statistics,
        "method": verdict.method,
        "settings": verdict.settings,
        "seconds": round(verdict.seconds, 1),
        "findings": findings,
        "model": {"path": str(model), "sha256": sha256_of(model)},
    }
    return Answer(found, lambda: _print(verdict))


def _without_verdict(method: str, file: "Runtime", findings: list[str], model: "Path") -> Answer:
    """What is known of a model that is a file where the method cannot judge it."""
    from closesesame.models.files import sha256_of

    why = (
        f"{method} needs gradients, which {file.path} does not have, and no inspection of closesesame works "
        "by answers alone"
    )
    advice = (
        "listen to clips that 'sesame screen' or 'sesame gate' calls suspicious, with a method that looks at "
        "answers alone, such as strip, or ask the vendor for the weights and import those"
    )
    graph = NO_GRAPH if file.format == "tflite" else findings or NOTHING
    found = {
        "backdoored": None,
        "reason": why,
        "advice": advice,
        "findings": findings,
        "graph_checked": file.format != "tflite",
        "model": {"path": str(model), "sha256": sha256_of(model)},
    }
    return Answer(found, lambda: facts({"verdict": f"none: {why}", "graph": graph, "what else": advice}))


def _print(verdict: "Verdict") -> None:
    facts(
        {
            "verdict": _sentence(verdict),
            "compared": verdict.compared,
            "alarm at": verdict.threshold,
            "p": "not known by this method" if verdict.p_value is None else verdict.p_value,
        }
    )
    ranked = sorted(verdict.statistics.items(), key=lambda pair: pair[1], reverse=True)
    table(("class", "statistic"), [{"class": name, "statistic": value} for name, value in ranked])


def _sentence(verdict: "Verdict") -> str:
    if not verdict.backdoored:
        return "no backdoor was found; that does not prove that there is none"
    if verdict.target is None:
        return "the model looks backdoored; the method does not name the target label"
    return f"the model looks backdoored, and its target label is {verdict.target!r}"
