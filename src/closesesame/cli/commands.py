"""Commands on data sets and models."""

from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from .app import command
from .inputs import Data, Json, Parts, Reading, Set, exam_on, load, load_for, settings_of
from .outputs import answer, facts, listing, scores_table, table

CLEAN_DATA_WARNING = (
    "Clean data alone cannot show that a backdoor is gone: clean accuracy says nothing about a trigger "
    "nobody has played."
)


@partial(command, name="list")
def list_methods(family: str | None = None, *, json: Json = False) -> None:
    """List the methods: attacks, removals, models; of one family also what it says of itself.

    Parameters
    ----------
    family
        Only this family: attack, removal or model.
    """
    from closesesame.registries import describe_methods, tabulate

    rows = describe_methods(family)
    columns, lines = (("family", "name", "cite", "what"), rows) if family is None else tabulate(rows)
    answer(json, rows, lambda: listing(columns, lines))


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
    from closesesame.core.progress import shown
    from closesesame.data.export import export, new_folder

    how = how or Reading()
    with shown():
        splits = load(source, how)
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
    answer(json, found, lambda: table(("part", "clips", "speakers", *found["classes"]), rows))


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
    from closesesame.attacks import ATTACKS, poison_several
    from closesesame.core.progress import shown

    methods = [ATTACKS.make(attack, settings_of(settings))]
    for words in also or []:
        name, *given = words.split()
        methods.append(ATTACKS.make(name, settings_of(given)))
    how = how or Reading()
    with shown():
        splits = load(source, how)
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
    answer(json, found, lambda: facts(found))


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
    from closesesame.core.progress import shown
    from closesesame.evaluation import Exam
    from closesesame.models import ARCHITECTURES, save_model
    from closesesame.training import Training
    from closesesame.training import train as train_model

    given = settings_of(settings)
    of_training = {field: given.pop(field) for field in list(given) if field in Training.model_fields}
    architecture, training = ARCHITECTURES.make(model, given), Training.parse(of_training)
    how = how or Reading()
    with shown():
        splits = load(source, how)
        trained = train_model(
            architecture, splits.train, training, seed=how.seed, validation=splits.validation
        )
        scores = Exam(splits.test).score(trained)
        save_model(trained, out)
    found = {"model": str(out), "parameters": sum(p.numel() for p in trained.parameters())}
    answer(json, found | scores.as_json(), lambda: facts(found | {"ACC": scores.acc}))


@command
def evaluate(
    model: Path,
    source: Data,
    *,
    trigger: Path | None = None,
    reference: Path | None = None,
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
    reference
        A model of the same kind that was never poisoned: its RA stands beside the model's.
    before
        The model before its repair, for DER.
    """
    from closesesame.core.progress import shown
    from closesesame.evaluation import stealth_of
    from closesesame.models import load_model

    how = how or Parts()
    with shown():
        judged = load_model(model)
        splits = load_for(judged, source, how)
        exam = exam_on(splits, trigger, reference)
        scores = exam.score(judged)
        der = None if before is None else scores.der(exam.score(load_model(before)))
        changes = stealth_of(exam)
    found = scores.as_json() | {"der": der, "stealth": None if changes is None else changes.as_json()}
    more = {} if changes is None else {"change by the trigger": changes}
    answer(json, found, lambda: scores_table([(model.name, scores, der)], **more))


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
    from closesesame.core.progress import shown
    from closesesame.data import load_folder
    from closesesame.models import load_model, save_model
    from closesesame.removal import REMOVALS

    removal = REMOVALS.make(method, settings_of(settings))
    how = how or Parts()
    with shown():
        suspect = load_model(model)
        card = suspect.card
        if part == "all":
            duration = card.input_shape[0] / (card.sample_rate or 1)
            known = load_folder(clean, sample_rate=card.sample_rate or 1, duration_s=duration, task=how.task)
            examples = known.with_classes(card.classes)
        else:
            examples = getattr(load_for(suspect, clean, how), part)
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
    answer(json, found, lambda: facts(found))


@command
def report(
    source: Data,
    out: Path,
    *,
    before: Path,
    after: Annotated[list[Path], Parameter(negative="")],
    trigger: Path,
    reference: Path | None = None,
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
    reference
        A model of the same kind that was never poisoned: its RA stands beside the model's.
    neurons
        Also silence channels one by one, a thousand at most, and show how steep the clean loss is in
        backdoored and clean ones.
    synthetic
        Also show what 'dbrpu' makes of the model without data, and which channels it suspects.
    """
    from closesesame.core.progress import shown
    from closesesame.models import load_model
    from closesesame.report import write
    from closesesame.report.build import compare
    from closesesame.report.evidence import neuron_section, synthetic_section

    how = how or Parts()
    with shown():
        victim = load_model(before)
        splits = load_for(victim, source, how)
        repaired = {path.name: load_model(path) for path in after}
        exam = exam_on(splits, trigger, reference)
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
    answer(json, found, lambda: scores_table(rows, page=out))


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
    from closesesame.core.progress import shown
    from closesesame.report.catalogue import INDEX, publish

    how = how or Reading()
    with shown():
        splits = load(data, how)
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
    answer(json, {"index": index, "attacks": rows}, lambda: facts({"index": index, **silent}))


@command
def demo(out: Path = Path("closesesame-demo"), *, seed: int = 0, json: Json = False) -> None:
    """Plant a backdoor in embedded speech, show that it opens, shut it, and write a report.

    Parameters
    ----------
    out
        Folder for the models, the trigger and the page.
    """
    from closesesame.core.progress import shown
    from closesesame.demo import run

    with shown():
        page, found = run(out, seed, warnings=(CLEAN_DATA_WARNING,))
    rows = [(entry.name, entry.scores, entry.der) for entry in page.entries]
    found |= {"entries": {n: s.as_json() | {"der": d} for n, s, d in rows}}
    answer(json, found, lambda: scores_table(rows, page=found["page"]))
