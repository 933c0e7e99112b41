"""The command line: every command is one call of the library. torch is imported when it is needed."""

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, CycloptsError, Parameter

from ._version import __version__
from .core.errors import ClosesesameError

if TYPE_CHECKING:
    from .data import Splits
    from .evaluation import Scores
    from .models import Classifier

app = App(
    name="sesame",
    version=__version__,
    help="Finds backdoors in speech models and shuts them.",
    help_format="plaintext",
    help_formatter="plain",
)


def command(function: Callable[..., None], *, of: App = app, name: str | None = None) -> Callable[..., None]:
    """Registers a command, with what stands above the parameters of its docstring as its help.

    The docstring is then not parsed until the command's own help is asked for.
    """
    text = (function.__doc__ or "").partition("Parameters\n")[0]
    of.command(function, name=name, help="\n".join(line.strip() for line in text.splitlines()).strip())
    return function


# What commands share.
Json = Annotated[bool, Parameter(name="--json", negative="", help="Print JSON on standard output.")]
Set = Annotated[
    list[str] | None,
    Parameter(name="--set", negative="", help="A setting of the method, FIELD=VALUE; may be repeated."),
]
Data = Annotated[str, Parameter(help="Folder with one folder of recordings a class; or 'synthetic'.")]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Parts:
    """How a data set is split, and what its labels are."""

    task: Annotated[Literal["word", "speaker"], Parameter(help="What the label is.")] = "word"
    split: Annotated[
        Literal["auto", "lists", "speakers", "takes", "random"],
        Parameter(help="How training, validation and test part are told apart."),
    ] = "auto"
    seed: Annotated[int, Parameter(help="Of everything that is drawn at random.")] = 0


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Reading(Parts):
    """How recordings are read where no model says it."""

    rate: Annotated[int, Parameter(help="Sample rate recordings are read at, Hz.")] = 16_000
    duration: Annotated[float, Parameter(help="Length of every clip, s.")] = 1.0


NONE = "\N{EN DASH}"
CLEAN_DATA_WARNING = (
    "Clean data alone cannot show that a backdoor is gone: clean accuracy says nothing about a trigger "
    "nobody has played."
)


def main() -> None:
    """Runs a command; an error is one sentence on standard error and exit status 2."""
    try:
        app(sys.argv[1:], exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        _fail(" ".join(str(error).split()))
    except ClosesesameError as error:
        _fail(str(error))
    except OSError as error:
        _fail(f"{error.filename or 'a file'}: {error.strerror or error}")
    except KeyboardInterrupt:
        sys.exit(130)


def _fail(sentence: str) -> None:
    sys.stderr.write(f"sesame: {_plain(sentence)}\n")
    sys.exit(2)


def _plain(text: str) -> str:
    """One line without control characters: names of files are hostile text."""
    return "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text
    )


@partial(command, name="list")
def list_methods(family: str | None = None, *, json: Json = False) -> None:
    """List the methods: attacks, removals, models; of one family also what it says of itself.

    Parameters
    ----------
    family
        Only this family: attack, removal or model.
    """
    from .registries import describe_methods, tabulate

    rows = describe_methods(family)
    columns, lines = (("family", "name", "cite", "what"), rows) if family is None else tabulate(rows)
    _answer(json, rows, lambda: _listing(columns, lines))


@command
def data(
    source: Data,
    *,
    out: Path | None = None,
    how: Reading | None = None,
    json: Json = False,
) -> None:
    """Read a data set and say what is in it; refuse what cannot be used.

    Parameters
    ----------
    out
        Also write it as a folder of recordings: resampled, cut or padded, with the lists of its parts.
    """
    from .core.progress import shown
    from .data.export import export, new_folder

    how = how or Reading()
    with shown():
        splits = _load(source, how)
        if out is not None:
            with new_folder(out) as made:
                export(splits, made)
    found: dict[str, Any] = {
        "classes": list(splits.train.classes),
        "clip_s": how.duration,
        "sample_rate": how.rate,
        "parts": {
            name: {
                "clips": len(part),
                "speakers": len(set(part.speakers)) if part.speakers else None,
                "clips_a_class": part.counts(),
            }
            for name, part in splits._asdict().items()
        },
    }
    rows = [
        {"part": name, "clips": part["clips"], "speakers": part["speakers"] or "unknown"}
        | dict(zip(found["classes"], part["clips_a_class"], strict=True))
        for name, part in found["parts"].items()
    ]
    _answer(json, found, lambda: _table(("part", "clips", "speakers", *found["classes"]), rows))


@command
def poison(
    source: Data,
    out: Path,
    *,
    attack: str = "badnets",
    settings: Set = None,
    also: Annotated[list[str] | None, Parameter(negative="")] = None,
    how: Reading | None = None,
    json: Json = False,
) -> None:
    """Poison the training part of a data set, for any tool to train on.

    Written are the recordings, the lists of the parts, a manifest with what was poisoned, and the trigger.

    Parameters
    ----------
    out
        New folder for all of it; the trigger goes to its folder '_trigger'.
    attack
        See 'sesame list attack'.
    also
        A further backdoor in the same set, 'NAME FIELD=VALUE ...'; may be repeated. Its trigger goes to
        '_trigger2' and so on.
    """
    from .attacks import ATTACKS, poison_several
    from .core.progress import shown

    methods = [ATTACKS.make(attack, _settings(settings))]
    for words in also or []:
        name, *given = words.split()
        methods.append(ATTACKS.make(name, _settings(given)))
    how = how or Reading()
    with shown():
        splits = _load(source, how)
        poisoned = poison_several(methods, splits.train, how.seed)
        poisoned.save(out, splits)
    found = {
        "attack": methods[0].name,
        "settings": methods[0].settings(),
        "also": [{"attack": method.name, "settings": method.settings()} for method in methods[1:]],
        "target": splits.train.classes[poisoned.trigger.target],
        "training_clips": len(splits.train),
        "poisoned_clips": int(poisoned.mask.sum()),
        "poisoned_share_of_target": poisoned.share_of_target,
        "folder": str(out),
        "trigger": str(out / "_trigger"),
    }
    _answer(json, found, lambda: _facts(found))


@command
def train(
    source: Data,
    out: Path,
    *,
    model: str = "resnet",
    settings: Set = None,
    how: Reading | None = None,
    json: Json = False,
) -> None:
    """Train a model on the training part of a data set, and measure it on the test part.

    Parameters
    ----------
    out
        Folder for the model: config.json and model.safetensors.
    model
        See 'sesame list model'. '--set' takes settings of the model and of the training.
    """
    from .core.progress import shown
    from .evaluation import Exam
    from .models import ARCHITECTURES, save_model
    from .training import Training
    from .training import train as train_model

    given = _settings(settings)
    of_training = {field: given.pop(field) for field in list(given) if field in Training.model_fields}
    architecture, training = ARCHITECTURES.make(model, given), Training.parse(of_training)
    how = how or Reading()
    with shown():
        splits = _load(source, how)
        trained = train_model(
            architecture, splits.train, training, seed=how.seed, validation=splits.validation
        )
        scores = Exam(splits.test).score(trained)
        save_model(trained, out)
    found = {"model": str(out), "parameters": sum(p.numel() for p in trained.parameters())}
    _answer(json, found | scores.as_json(), lambda: _facts(found | {"ACC": scores.acc}))


@command
def evaluate(
    model: Path,
    source: Data,
    *,
    trigger: Path | None = None,
    twin: Path | None = None,
    before: Path | None = None,
    how: Parts | None = None,
    json: Json = False,
) -> None:
    """Measure ACC, ASR and RA of a model on the test part of a data set.

    With a trigger also how much it changes the clips: SNR, log-spectral distance and, if the extra 'quality'
    is installed, PESQ and STOI.

    Parameters
    ----------
    model
        A model folder.
    trigger
        A trigger folder, as 'sesame poison' writes it.
    twin
        A model that was never poisoned, for the ceiling of RA.
    before
        The model before its repair, for DER.
    """
    from .core.progress import shown
    from .evaluation import stealth_of
    from .models import load_model

    how = how or Parts()
    with shown():
        judged = load_model(model)
        splits = _load_for(judged, source, how)
        exam = _exam(splits, trigger, twin)
        scores = exam.score(judged)
        der = None if before is None else scores.der(exam.score(load_model(before)))
        changes = stealth_of(exam)
    found = scores.as_json() | {"der": der, "stealth": None if changes is None else changes.as_json()}
    facts = {} if changes is None else {"change by the trigger": changes}
    _answer(json, found, lambda: _scores([(model.name, scores, der)], **facts))


@command
def remove(
    model: Path,
    out: Path,
    *,
    clean: Data,
    method: str = "ft_augmented",
    settings: Set = None,
    part: Literal["train", "validation", "test", "all"] = "train",
    fraction: float = 1.0,
    how: Parts | None = None,
    json: Json = False,
) -> None:
    """Take a backdoor out of a model with a little clean data.

    Parameters
    ----------
    model
        The suspect, a model folder.
    out
        Folder for the repaired model.
    clean
        Recordings known to be clean, as a data set.
    method
        See 'sesame list removal'.
    part
        Which part of the clean data to use; 'train' leaves the test part for 'sesame evaluate'.
    fraction
        Share of that part to use, drawn at random.
    """
    from .core.progress import shown
    from .data import load_folder
    from .models import load_model, save_model
    from .removal import REMOVALS

    removal = REMOVALS.make(method, _settings(settings))
    how = how or Parts()
    with shown():
        suspect = load_model(model)
        card = suspect.card
        if part == "all":
            duration = card.input_shape[0] / (card.sample_rate or 1)
            known = load_folder(clean, sample_rate=card.sample_rate or 1, duration_s=duration, task=how.task)
            examples = known.with_classes(card.classes)
        else:
            examples = getattr(_load_for(suspect, clean, how), part)
        repair = removal.remove(suspect, examples.sample(fraction, how.seed), how.seed)
        save_model(repair.model, out)
    found = {
        "model": str(out),
        "method": removal.name,
        "settings": removal.settings(),
        "tuned_on": repair.tuned_on,
        "held_out": repair.held_out,
        "acc_before": repair.acc_before,
        "acc_after": repair.acc_after,
        "seconds": round(repair.seconds, 1),
        "chosen": repair.chosen,
        "warning": CLEAN_DATA_WARNING,
    }
    if repair.lost > 1:  # one may be chance
        found["harm"] = (
            f"The repair turned {repair.lost} of {repair.held_out} held-out clips wrong: do not use this "
            "model; try milder settings, another method or more clean clips."
        )
    _answer(json, found, lambda: _facts(found))


@command
def report(
    source: Data,
    out: Path,
    *,
    before: Path,
    after: Annotated[list[Path], Parameter(negative="")],
    trigger: Path,
    twin: Path | None = None,
    neurons: bool = False,
    synthetic: bool = False,
    how: Parts | None = None,
    json: Json = False,
) -> None:
    """Write one HTML page: figures, plots, spectrograms and players, before and after the repair.

    Parameters
    ----------
    out
        The page, a new file.
    before
        The model before its repair.
    after
        A repaired model; may be repeated.
    trigger
        A trigger folder.
    twin
        A model that was never poisoned, for the ceiling of RA.
    neurons
        Also silence channels one by one, a thousand at most, and show how steep the clean loss is in
        backdoored and clean ones.
    synthetic
        Also show what 'dbrpu' makes of the model without data, and which channels it suspects.
    """
    from .core.progress import shown
    from .models import load_model
    from .report import write
    from .report.build import compare
    from .report.evidence import neuron_section, synthetic_section

    how = how or Parts()
    with shown():
        victim = load_model(before)
        splits = _load_for(victim, source, how)
        repaired = {path.name: load_model(path) for path in after}
        exam = _exam(splits, trigger, twin)
        sections = [neuron_section(victim, exam)] if neurons else []
        sections += [synthetic_section(victim, how.seed)] if synthetic else []
        page = compare(
            exam=exam,
            victim=victim,
            repaired=repaired,
            title=f"{before.name} before and after",
            warnings=(CLEAN_DATA_WARNING,),
            sections=tuple(sections),
        )
        write(page, out)
    rows = [(entry.name, entry.scores, entry.der) for entry in page.entries]
    found = {"page": str(out), "entries": {n: s.as_json() | {"der": d} for n, s, d in rows}}
    _answer(json, found, lambda: _scores(rows, page=out))


@command
def catalogue(
    out: Path,
    *,
    data: Data = "synthetic",
    attack: Annotated[list[str] | None, Parameter(negative="")] = None,
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
    from .core.progress import shown
    from .report.catalogue import INDEX, publish

    how = how or Reading()
    with shown():
        splits = _load(data, how)
        clips = "synthetic speech" if data == "synthetic" else f"recordings of {Path(data).name}"
        exhibits = publish(splits, out, clips, attack or (), how.seed)
    rows = [
        {
            "attack": exhibit.method.name,
            "page": str(out / exhibit.file),
            "stealth": None if exhibit.stealth is None else exhibit.stealth.as_json(),
            "problem": exhibit.problem or None,
        }
        for exhibit in exhibits
    ]
    silent = {exhibit.method.name: exhibit.problem for exhibit in exhibits if exhibit.problem}
    index = str(out / INDEX)
    _answer(json, {"index": index, "attacks": rows}, lambda: _facts({"index": index, **silent}))


@command
def demo(out: Path = Path("closesesame-demo"), *, seed: int = 0, json: Json = False) -> None:
    """Plant a backdoor in embedded speech, show that it opens, shut it, and write a report.

    Parameters
    ----------
    out
        Folder for the models, the trigger and the page.
    """
    from .core.progress import shown
    from .demo import run

    with shown():
        page, found = run(out, seed, warnings=(CLEAN_DATA_WARNING,))
    rows = [(entry.name, entry.scores, entry.der) for entry in page.entries]
    found |= {"entries": {n: s.as_json() | {"der": d} for n, s, d in rows}}
    _answer(json, found, lambda: _scores(rows, page=found["page"]))


bench = App(name="bench", help="Measure a grid: one recipe in, evidence out, nothing lost.")
app.command(bench)
StoreFolder = Annotated[Path, Parameter(help="Folder of the grid's store.")]


@partial(command, of=bench, name="run")
def bench_run(
    recipe: Path,
    *,
    store: StoreFolder = Path("runs/grid"),
    data: Path = Path(),
    workers: int = 2,
    ray: str | None = None,
    timeout: float = 3600.0,
    tries: int = 3,
    retry: bool = False,
    json: Json = False,
) -> None:
    """Measure all that is missing of a grid; it may be stopped, and killed, at any time.

    Parameters
    ----------
    recipe
        A TOML file; see benchmarks/recipes.
    data
        Where the recipe's data sets and recordings lie.
    workers
        Processes, of one thread each.
    ray
        'local' or the address of a Ray cluster, to run there.
    timeout
        Seconds after which a job is taken from its worker, and tried again.
    tries
        How often a job is begun, if its worker dies or hangs each time.
    retry
        Do failed jobs again.
    """
    from .bench.grid import run_grid
    from .bench.watch import watching

    with watching(workers) as watch:
        counts = run_grid(
            recipe,
            store,
            data,
            workers=workers,
            ray=ray,
            timeout_s=timeout,
            tries=tries,
            retry=retry,
            watch=watch,
        )
    found = counts | {"store": str(store)}
    _answer(json, found, lambda: _facts(found))


@partial(command, of=bench, name="status")
def bench_status(*, store: StoreFolder = Path("runs/grid"), json: Json = False) -> None:
    """Say how far a grid is, what is in work, and what failed."""
    from .bench.grid import open_store

    opened = open_store(store)
    failed = [{"job": r.job.label, "error": r.error or ""} for r in opened.rows() if r.state == "failed"]
    in_work = [{"worker": owner, "job": label} for owner, label, _ in opened.leased()]
    found = {"jobs": opened.counts(), "in_work": in_work, "failed": failed}

    def show() -> None:
        _facts(opened.counts())
        _table(("job", "error"), failed)

    _answer(json, found, show)


@partial(command, of=bench, name="show")
def bench_show(*, store: StoreFolder = Path("runs/grid"), csv: bool = False, json: Json = False) -> None:
    """Print what a grid found, one row a cell.

    Parameters
    ----------
    csv
        Print CSV.
    """
    from .bench.grid import read_grid
    from .bench.table import as_csv

    _, rows = read_grid(store)
    if csv:
        sys.stdout.write(as_csv(rows))
        return
    columns = ("data", "model", "attack", "poisoning_rate", "defence", "seed", "acc", "asr", "ra", "error")
    short = [
        {name: f"{row[name]:.3f}" if isinstance(row[name], float) else row[name] or "" for name in columns}
        for row in rows
    ]
    _answer(json, rows, lambda: _table(columns, short))


@partial(command, of=bench, name="report")
def bench_report(out: Path, *, store: StoreFolder = Path("runs/grid"), json: Json = False) -> None:
    """Write one HTML page for a grid: heat map, plane, times, and every cell to open.

    Parameters
    ----------
    out
        The page.
    """
    from .report.from_store import grid_of
    from .report.grid import write

    grid = grid_of(store)
    write(grid, out)
    found = {"page": str(out), "cells": len(grid.cells)}
    _answer(json, found, lambda: _facts(found))


@partial(command, of=bench, name="export")
def bench_export(out: Path, *, store: StoreFolder = Path("runs/grid"), json: Json = False) -> None:
    """Write what a grid found as a result file, as benchmarks/results holds them.

    Parameters
    ----------
    out
        The JSON file.
    """
    from .bench.grid import export

    content = export(store, out)
    found = {"file": str(out), "rows": len(content["rows"])}
    _answer(json, found, lambda: _facts(found))


def _load(source: str, how: Reading) -> "Splits":
    from .data import load_splits
    from .data.speech import synthetic_speech

    if source == "synthetic":
        return synthetic_speech(sample_rate=how.rate, duration_s=how.duration)
    return load_splits(
        source,
        sample_rate=how.rate,
        duration_s=how.duration,
        task=how.task,
        split=how.split,
        seed=how.seed,
    )


def _load_for(model: "Classifier", source: str, parts: Parts) -> "Splits":
    """Reads a data set the way a model wants it, with the model's labels."""
    from .core.errors import ModelError

    card = model.card
    if card.sample_rate is None:
        raise ModelError("the model takes no sound; this command reads recordings")
    duration = card.input_shape[0] / card.sample_rate
    splits = _load(source, Reading(**asdict(parts), rate=card.sample_rate, duration=duration))
    return type(splits)(*(part.with_classes(card.classes) for part in splits))


def _exam(splits: "Splits", trigger: Path | None, twin: Path | None) -> Any:
    from .attacks import load_trigger
    from .evaluation import Exam
    from .models import load_model

    loaded = None if trigger is None else load_trigger(trigger)
    return Exam(splits.test, loaded, None if twin is None else load_model(twin))


def _settings(pairs: list[str] | None) -> dict[str, object]:
    from .core.errors import SettingError

    found: dict[str, object] = {}
    for pair in pairs or []:
        field, equals, value = pair.partition("=")
        if not equals or not field:
            raise SettingError(f"--set takes FIELD=VALUE, got {pair!r}")
        found[field.strip()] = value.strip()
    return found


def _answer(as_json: bool, content: Any, show: Callable[[], object]) -> None:
    if as_json:
        sys.stdout.write(json.dumps(content, indent=2, default=str) + "\n")
    else:
        show()


def _table(columns: tuple[str, ...], rows: list[dict[str, Any]], whole: tuple[str, ...] = ()) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table()
    for column in columns:
        table.add_column(Text(_plain(column)), overflow="fold", no_wrap=column in whole)
    for row in rows:
        table.add_row(*(Text(_plain(str(row.get(column, "")))) for column in columns))
    Console().print(table)


def _listing(columns: tuple[str, ...], rows: list[dict[str, Any]]) -> None:
    """A table that keeps short columns whole; one below the other where the terminal is too narrow for it."""
    from rich.console import Console
    from rich.padding import Padding
    from rich.text import Text

    widest = {column: max(len(column), *(len(row[column]) for row in rows)) for column in columns}
    whole = tuple(column for column in columns if widest[column] <= 20)
    needed = sum(widest[column] if column in whole else 12 for column in columns) + 3 * len(columns) + 1
    if needed <= Console().width:
        _table(columns, rows, whole)
        return
    for row in rows:
        Console().print(Text(_plain(row[columns[0]]), style="bold"))
        for column in columns[1:]:
            Console().print(Padding(Text(f"{column}: {_plain(row[column])}"), (0, 0, 0, 2)))


def _facts(found: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.text import Text

    for name, value in found.items():
        Console().print(Text(f"{name}: {_plain(str(value))}"), soft_wrap=True)


def _scores(rows: "list[tuple[str, Scores, float | None]]", **facts: object) -> None:
    columns = ("model", "ACC", "ASR", "RA", "RA ceiling", "DER")
    _table(
        columns,
        [
            {
                "model": name,
                "ACC": s.acc,
                "ASR": s.asr or NONE,
                "RA": s.ra or NONE,
                "RA ceiling": s.ra_ceiling or NONE,
                "DER": NONE if der is None else f"{der:.3f}",
            }
            for name, s, der in rows
        ],
    )
    _facts(facts)
