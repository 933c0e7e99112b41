"""Commands that write pages."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from closesesame.core.disk import Destination
from closesesame.core.errors import SettingError

from .app import command
from .inputs import (
    Data,
    Device,
    Force,
    Json,
    Parts,
    Reading,
    Seed,
    device_of,
    distinct_names,
    exam_on,
    load,
    load_for,
    load_on,
    source_of,
)
from .models import CLEAN_DATA_WARNING
from .outputs import answer, as_typed, facts, now, scores_table

if TYPE_CHECKING:
    from closesesame.core.evidence import Evidence
    from closesesame.data import Dataset
    from closesesame.models import Classifier
    from closesesame.removal import Removal
    from closesesame.report import Report
    from closesesame.report.from_models import Identity


@command
def report(
    source: Data,
    out: Path,
    *,
    before: Path,
    after: Annotated[list[Path] | None, Parameter(negative="")] = None,
    trigger: Path | None = None,
    reference: Path | None = None,
    neurons: bool = False,
    show: Annotated[list[str] | None, Parameter(negative="")] = None,
    device: Device = "cpu",
    force: Force = False,
    how: Parts | None = None,
    json: Json = False,
) -> None:
    """Write one HTML page: what was found in words, figures, plots, spectrograms and players.

    Parameters
    ----------
    out
        The page, a new file.
    before
        The model before removal, or a model that was not repaired.
    after
        A repaired model; may be repeated.
    trigger
        A trigger folder; without one the page says what is known and what was not tested.
    reference
        A clean reference model, of the same kind and trained without poison: its RA is shown beside the
        model's.
    neurons
        Also prune channels one by one, a thousand at most, and show how steep the loss on clean clips is in
        backdoored and clean ones.
    show
        Also show what this removal sees in the model, such as 'dbrpu'; may be repeated.
    """
    from closesesame.core.progress import shown
    from closesesame.evaluation import neurons_of
    from closesesame.removal import REMOVALS
    from closesesame.report.from_models import compare
    from closesesame.report.pages.comparison import report_html

    how, device = how or Parts(), device_of(device)
    paths = [before, *(after or [])]
    names = distinct_names(paths)
    given = [*paths, *(path for path in (trigger, reference) if path)]
    place = Destination(out, kind="file", force=force, inputs=given)
    removals = [REMOVALS.make(name) for name in show or ()]
    with shown():
        models = {name: load_on(path, device) for name, path in zip(names, paths, strict=True)}
        suspect = models.pop(names[0])
        splits = load_for(suspect.card, source, how)
        exam = exam_on(splits, trigger, reference, device)
        evidence = [neurons_of(suspect, exam).evidence()] if neurons else []
        evidence += [_evidence(removal, suspect, splits.validation, how.seed) for removal in removals]
        page = compare(
            exam=exam,
            before=(names[0], suspect),
            repaired=models,
            title=f"{names[0]} before and after" if models else names[0],
            identities={
                name: _identity(path, model)
                for name, path, model in zip(names, paths, [suspect, *models.values()], strict=True)
            },
            reference=None if reference is None else _identity(reference, load_on(reference, device)),
            made=now(),
            command=as_typed(),
            seed=how.seed,
            data=Path(source).name,
            warnings=(CLEAN_DATA_WARNING,),
            evidence=tuple(evidence),
        )
        place.write(lambda made: made.write_text(report_html(page), encoding="utf-8"))
    _answer(page, json=json, page=str(out))


def _evidence(removal: "Removal", suspect: "Classifier", clean: "Dataset", seed: int) -> "Evidence":
    found = removal.evidence(suspect, clean, seed)
    if found is None:
        raise SettingError(f"removal {removal.name!r} has nothing to show")
    return found


def _identity(path: Path, model: "Classifier") -> "Identity":
    from closesesame.models.files import sha256_of
    from closesesame.report.from_models import Identity

    return Identity(
        path=str(path),
        sha256=sha256_of(path),
        architecture=model.card.architecture,
        made=model.card.made,
    )


def _answer(made: "Report", *, json: bool, **found: object) -> None:
    rows = [(entry.name, entry.scores, entry.der) for entry in made.entries]
    entries = {
        entry.name: entry.scores.as_json()
        | {
            "der": entry.der,
            "path": entry.source,
            "sha256": entry.sha256,
            "verdict": None if entry.verdict is None else asdict(entry.verdict),
        }
        for entry in made.entries
    }

    def show() -> None:
        scores_table(rows)
        facts({entry.name: entry.verdict for entry in made.entries} | found)

    answer(json, found | {"entries": entries}, show)


@command
def catalogue(
    out: Path,
    *,
    data: Data = "synthetic",
    attack: Annotated[list[str] | None, Parameter(negative="")] = None,
    force: Force = False,
    how: Reading | None = None,
    json: Json = False,
) -> None:
    """Write pages on all attacks: what each does, how it sounds and looks, its settings, how to use it.

    Attacks that train a model of their own take a minute each.

    Parameters
    ----------
    out
        New folder for the pages; begin with its index.html.
    data
        What the attacks are played on, as a data set.
    attack
        Only this one; may be repeated.
    """
    from closesesame.core.progress import shown
    from closesesame.report.pages.catalogue import INDEX, asked_for, is_catalogue, survey, write_catalogue

    how = how or Reading()
    read_from = source_of(data, how)
    place = Destination(out, force=force, replaces=is_catalogue, inputs=read_from.inputs)
    with shown():
        asked = asked_for(attack or ())
        splits = load(read_from)
        clips = "synthetic speech" if data == "synthetic" else f"recordings of {Path(data).name}"
        entries = survey(splits, asked, how.seed)
        place.write(lambda made: write_catalogue(entries, made, clips))
    rows = [
        {
            "attack": entry.method.name,
            "page": str(out / entry.file),
            "stealth": None if entry.stealth is None else entry.stealth.as_json(),
            "problem": entry.problem or None,
        }
        for entry in entries
    ]
    silent = {entry.method.name: entry.problem for entry in entries if entry.problem}
    index = str(out / INDEX)
    answer(json, {"index": index, "attacks": rows}, lambda: facts({"index": index, **silent}))


@command
def demo(
    out: Path = Path("closesesame-demo"), *, seed: Seed = 0, force: Force = False, json: Json = False
) -> None:
    """Plant a backdoor in embedded speech, show that it opens, shut it, and write a report.

    Parameters
    ----------
    out
        Folder for the models, the trigger and the page.
    """
    from closesesame.core.progress import shown
    from closesesame.demo import is_demo, run, save

    place = Destination(out, force=force, replaces=is_demo)
    with shown():
        made = run(seed, (CLEAN_DATA_WARNING,), made=now(), command=as_typed())
        place.write(lambda folder: save(made, folder))
    folder = out.resolve()
    _answer(made.page, json=json, page=str(folder / "report.html"), folder=str(folder))
