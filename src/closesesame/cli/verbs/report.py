"""The command that writes a page on a model and its repairs."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from closesesame.cli.app import command
from closesesame.cli.inputs import exam_on, load_for, load_model_on
from closesesame.cli.options import SPLIT, Data, Device, Force, Reference, SplitOptions, Trigger
from closesesame.cli.outputs import CLEAN_DATA_WARNING, as_typed, now
from closesesame.cli.printing import Answer, facts, scores_table
from closesesame.core.disk import Destination, refuse_nested
from closesesame.core.errors import SettingError
from closesesame.core.json_files import to_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from closesesame.core.evidence import Evidence
    from closesesame.models import Classifier
    from closesesame.report import Report
    from closesesame.report.from_models import Identity


@command("report")
def report(
    source: Data,
    out: Path,
    *,
    before: Path,
    after: list[Path] | None = None,
    trigger: Trigger = None,
    reference: Reference = None,
    neurons: bool = False,
    show: list[str] | None = None,
    sarif: Path | None = None,
    device: Device = "cpu",
    force: Force = False,
    options: SplitOptions = SPLIT,
) -> Answer:
    """Write one HTML page: what was found in words, figures, plots, spectrograms and players.

    Without a trigger the page says what is known and what was not tested.

    Args:
        out: The page, a new file.
        before: The model before its repair, or a model that was not repaired.
        after: A repaired model; may be repeated.
        neurons: Also prune channels one by one, a thousand at most, and show how steep the clean loss is in
            channels that the backdoor uses and in others.
        show: Also show what this method sees in the model before its repair, such as 'max_margin'; may be
            repeated. Detections score the training part of the data set, so name the set that it was trained
            on.
        sarif: Also write the verdicts as SARIF 2.1.0, which security tools read, to this new file.

    Examples:
        sesame report CLIPS page.html --before MODEL
        sesame report CLIPS page.html --before VICTIM --after REPAIRED
        sesame report CLIPS page.html --before VICTIM --trigger POISONED/_trigger
        sesame report CLIPS page.html --before MODEL --show max_margin
        sesame report CLIPS page.html --before MODEL --sarif page.sarif
    """
    from closesesame.evaluation import neurons_of
    from closesesame.evaluation.representations import evidence_of
    from closesesame.listing import method_to_show
    from closesesame.report.from_models import compare
    from closesesame.report.pages.comparison import report_html
    from closesesame.report.sarif import sarif_of

    methods = [method_to_show(name) for name in show or ()]
    paths = [before, *(after or [])]
    names = distinct_names(paths)
    given = [*paths, *(path for path in (trigger, reference) if path)]
    refuse_nested((out, sarif))
    place = Destination(out, kind="file", force=force, inputs=given)
    beside = None if sarif is None else Destination(sarif, kind="file", force=force, inputs=given)
    models = {name: load_model_on(path, device) for name, path in zip(names, paths, strict=True)}
    suspect, *repaired = models.values()
    splits = load_for(suspect.card, source, options)
    exam = exam_on(splits, trigger, reference, device)
    evidence = [neurons_of(suspect, exam).evidence()] if neurons else []
    evidence += [
        method.evidence(suspect, splits.train, splits.validation, options.seed) for method in methods
    ]
    after_repair = dict(zip(names[1:], repaired, strict=True))
    evidence += _canaries(after_repair)
    evidence += [evidence_of(exam, suspect, after_repair, names[0])] if after_repair else []
    page = compare(
        exam=exam,
        before=(names[0], suspect),
        repaired=after_repair,
        title=f"{names[0]} before and after" if repaired else names[0],
        identities={name: _identity(path, models[name]) for name, path in zip(names, paths, strict=True)},
        reference=None if reference is None else _identity(reference, load_model_on(reference, device)),
        made=now(),
        command=as_typed(),
        seed=options.seed,
        data=Path(source).name,
        warnings=(CLEAN_DATA_WARNING,),
        evidence=tuple(evidence),
    )
    place.write(lambda made: made.write_text(report_html(page), encoding="utf-8"))
    if beside is None:
        return answer_of(page, page=str(out))
    beside.write(lambda made: made.write_bytes(to_json(sarif_of(page))))
    return answer_of(page, page=str(out), sarif=str(sarif))


def _canaries(repaired: "Mapping[str, Classifier]") -> "list[Evidence]":
    """What the canaries say of each repaired model that was examined with some."""
    from closesesame.evaluation.canaries import read_canaries

    reports = {name: read_canaries(model.card.made.get("canaries")) for name, model in repaired.items()}
    return [report.evidence(name) for name, report in reports.items() if report is not None]


def answer_of(report: "Report", **found: object) -> Answer:
    """What a page says, for the terminal, and where it is."""
    entries = {
        entry.name: entry.scores.as_json()
        | {
            "der": entry.der,
            "path": entry.source,
            "sha256": entry.sha256,
            "verdict": None if entry.verdict is None else asdict(entry.verdict),
        }
        for entry in report.entries
    }

    def show() -> None:
        scores_table([(entry.name, entry.scores, entry.der) for entry in report.entries])
        facts({entry.name: entry.verdict for entry in report.entries} | found)

    return Answer(found | {"entries": entries}, show)


def distinct_names(paths: list[Path]) -> list[str]:
    """A name for each path: its last part, or as many of its last parts as tell it from the others.

    Raises:
        SettingError: if a path is given twice.
    """
    whole = [path.resolve() for path in paths]
    for path, place in zip(paths, whole, strict=True):
        if whole.count(place) > 1:
            raise SettingError(f"{path} is given twice; give each model once")
    names = []
    for place in whole:
        tails = range(1, len(place.parts) + 1)
        names.append(
            next(
                "/".join(place.parts[-n:])
                for n in tails
                if sum(other.parts[-n:] == place.parts[-n:] for other in whole) == 1
            )
        )
    return names


def _identity(path: Path, model: "Classifier") -> "Identity":
    from closesesame.evaluation.canaries import read_canaries
    from closesesame.models.files import sha256_of
    from closesesame.report.from_models import Identity

    canaries = read_canaries(model.card.made.get("canaries"))
    return Identity(
        path=str(path),
        sha256=sha256_of(path),
        architecture=model.card.architecture,
        made=model.card.made | ({} if canaries is None else {"canaries": canaries.sentence}),
    )
