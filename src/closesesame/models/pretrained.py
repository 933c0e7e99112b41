"""Folders as `save_pretrained` of transformers writes them, read and written again.

Such a folder holds the sizes, the labels, how clips become inputs, and the weights. None of it is run, and a
folder that brings code of its own is refused. What is written again has the entries and the kind of numbers
that came in.
"""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from closesesame.core.bounds import LEAST_HZ, MOST_HZ, check_classes
from closesesame.core.disk import place
from closesesame.core.errors import DataError, ModelError, SettingError, cut, listed, short
from closesesame.core.json_files import read_json, to_json
from closesesame.core.seeding import isolated

from .base import Classifier
from .checkpoints import Checkpoint, Handed, read_checkpoint
from .extractors import RATE_HZ, assumed, front_end_of
from .huggingface import ALWAYS, DTYPES, KINDS, NAME, HuggingFace, make_network, quiet
from .size import check_size
from .trying import answers_to_noise

CONFIG, WEIGHTS, PICKLED = "config.json", "model.safetensors", "pytorch_model.bin"
EXTRACTOR, PROCESSOR = "preprocessor_config.json", "processor_config.json"
INDEX = ".index.json"
"""What the name of the list of several files of weights ends in."""
PREFIX = "body.network."
TRAINED = ("frozen_layers", "recompute")
"""Settings that say how a network is trained, and nothing of what it is."""
ROUNDINGS = 16
"""So many steps of the numbers of a folder, at the largest logit, may logits differ after rounding."""
_CODE = ("auto_map", "quantization_config")
"""Entries that ask for code or packages of others."""
_NESTED = ("feature_extractor", "audio_processor")
"""Entries of newer folders that hold what `EXTRACTOR` holds."""
_OF_THE_CARD = (
    "id2label",
    "label2id",
    "num_labels",
    "architectures",
    "transformers_version",
    "_name_or_path",
)
"""Entries of `CONFIG` that are written anew."""


def is_pretrained(folder: Path) -> bool:
    """Whether a folder has the files of a model of transformers."""
    try:
        return "model_type" in read_json(folder / CONFIG)
    except DataError:
        return False


def read_pretrained(folder: Path, settings: Mapping[str, object] | None = None) -> Handed:
    """Reads a folder as `save_pretrained` writes it; nothing in it is run, and no network is asked.

    Args:
        folder: that was handed over.
        settings: how the network is trained, `TRAINED`, which no folder says; may be text.

    Raises:
        ModelError: if it is of another kind, brings code of its own, or is damaged.
        DataError: if the names of its classes do not tell them apart or cannot be shown.
        SettingError: if the settings are others, or out of their range.
    """
    if unknown := sorted(set(settings or {}) - set(TRAINED)):
        raise SettingError(
            f"{folder} names its sizes itself, and {cut(unknown[0])!r} cannot be set; what can is "
            f"{', '.join(TRAINED)}"
        )
    try:
        config = read_json(folder / CONFIG)
        extractor, said_in = _extractor_of(folder)
    except DataError as error:
        raise ModelError(f"{folder} cannot be imported: {error}") from None
    _refuse_code(folder, {**config, **extractor})
    kind = config.pop("model_type", None)
    if kind not in KINDS:
        raise ModelError(f"{folder} is of kind {cut(kind)!r}; what is read is {', '.join(KINDS)}")
    classes = _classes_of(config, folder / CONFIG)
    rate = _rate_of(extractor, folder / said_in)
    checkpoint = read_checkpoint(_weights_of(folder))
    sizes = {name: value for name, value in config.items() if name not in _OF_THE_CARD}
    numbers = _numbers_of(checkpoint.state)
    try:
        architecture = HuggingFace(kind=kind, config=sizes, extractor=extractor, numbers=numbers)
    except SettingError as error:
        raise ModelError(f"{folder / CONFIG}: {error}") from None
    architecture = HuggingFace.parse(architecture.settings() | dict(settings or {}))
    try:
        front_end_of(kind, extractor, rate)
    except ModelError as error:
        raise ModelError(f"{folder / said_in}: {error}; get the file again") from None
    check_size(NAME, lambda: architecture.network(len(classes)))
    return Handed(
        architecture,
        classes,
        rate,
        _renamed(architecture, len(classes), checkpoint),
        _notes(folder, kind, extractor, said_in),
        f"its {said_in} may not fit its {CONFIG}, or the clips are too short: get both files again, or name "
        "another length with --duration-s"
        if said_in
        else f"it has no {EXTRACTOR}, which says how clips become inputs: get that file, too",
    )


def _refuse_code(folder: Path, entries: Mapping[str, Any]) -> None:
    """Refuses entries that ask for code of others.

    Raises:
        ModelError: naming them.
    """
    asked = [name for name in _CODE if name in entries]
    if asked:
        raise ModelError(f"{folder} asks for code of others by {listed(asked)}, and that is not run")


def _extractor_of(folder: Path) -> tuple[dict[str, Any], str]:
    """How clips become inputs, and the name of the file that says so, empty if none does.

    Where two files say it, the one holds that transformers reads.

    Raises:
        DataError: if a file is damaged.
        ModelError: if one asks for code of others.
    """
    if (folder / PROCESSOR).is_file():
        whole = read_json(folder / PROCESSOR)
        _refuse_code(folder, whole)
        name = next((name for name in _NESTED if name in whole), None)
        if name is not None:
            if not isinstance(whole[name], dict):
                raise DataError(f"{PROCESSOR} has a {name} that is no object in braces")
            return whole[name], PROCESSOR
    return (read_json(folder / EXTRACTOR), EXTRACTOR) if (folder / EXTRACTOR).is_file() else ({}, "")


def _classes_of(config: Mapping[str, Any], path: Path) -> tuple[str, ...]:
    """The names of the classes, in the order of the logits.

    Raises:
        ModelError: if they are not named by number.
        DataError: if they do not tell the classes apart or cannot be shown.
    """
    labels = config.get("id2label")
    if not isinstance(labels, dict) or set(labels) != set(map(str, range(len(labels)))):
        raise ModelError(f"{path} has no id2label that names its classes 0, 1, ...; write one into it")
    classes = tuple(str(labels[str(number)]) for number in range(len(labels)))
    check_classes(classes, path)
    return classes


def _rate_of(extractor: Mapping[str, Any], path: Path) -> int:
    """The sample rate in Hz.

    Raises:
        ModelError: if what the file says is none.
    """
    rate = extractor.get("sampling_rate", RATE_HZ)
    if isinstance(rate, bool) or not isinstance(rate, int) or not LEAST_HZ <= rate <= MOST_HZ:
        raise ModelError(
            f"{path} has a sampling_rate that is no number of Hz from {LEAST_HZ:,} to {MOST_HZ:,}: "
            f"{cut(repr(rate))}; write the rate into it that the network was trained at"
        )
    return rate


def _weights_of(folder: Path) -> Path:
    """The file of weights.

    Raises:
        ModelError: if there is none, or there are several that belong together.
    """
    for name in (WEIGHTS, PICKLED):
        if (folder / name).is_file():
            return folder / name
    for name in (WEIGHTS, PICKLED):
        if (folder / f"{name}{INDEX}").is_file():
            raise ModelError(
                f"{folder} is sharded: {name}{INDEX} lists several files of weights, and one is read; "
                "make it with transformers: AutoModelForAudioClassification.from_pretrained(FOLDER)"
                ".save_pretrained(OTHER, max_shard_size='10GB')"
            )
    raise ModelError(f"{folder} has no {WEIGHTS} and no {PICKLED}; get the file of its weights, too")


def _numbers_of(state: Mapping[str, Tensor]) -> Any:
    """The kind of numbers that holds all weights without rounding, as text."""
    kinds = {value.dtype for value in state.values() if value.is_floating_point()}
    return str(reduce(torch.promote_types, kinds, next(iter(kinds), torch.float32))).removeprefix("torch.")


def _notes(folder: Path, kind: str, extractor: Mapping[str, Any], said_in: str) -> tuple[str, ...]:
    """What is assumed of how clips become inputs."""
    missing = assumed(kind, extractor)
    if not missing:
        return ()
    values = ", ".join(f"{name} {str(value).lower()}" for name, value in missing.items())
    what = (
        f"{folder / said_in} does not say all of how clips become inputs"
        if said_in
        else f"{folder} has no {EXTRACTOR}, which says how clips become inputs"
    )
    return (f"{what}: {values} is assumed, as by transformers",)


def _renamed(architecture: HuggingFace, classes: int, checkpoint: Checkpoint) -> Checkpoint:
    """The weights in float32, under the names that the network has today; older files have others.

    Raises:
        ModelError: if some are missing, too many, or of another shape.
    """
    misfit = f"{checkpoint.path} does not fit the sizes beside it"
    with torch.device("meta"):
        planned: Any = make_network(architecture.kind, architecture.config, classes)
    state = {
        name: value.float() if value.is_floating_point() else value
        for name, value in checkpoint.state.items()
    }
    with quiet(), isolated(0):  # what is missing would be drawn
        try:
            network, found = type(planned).from_pretrained(
                None,
                config=planned.config,
                state_dict=state,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
            )
        except Exception as error:  # code of others, on weights of others
            raise ModelError(f"{misfit} ({short(error)})") from None
    faults = {
        "it lacks": found["missing_keys"],
        "it also has": found["unexpected_keys"],
        "of other shapes are": [name for name, *_ in found["mismatched_keys"]],
    }
    wrong = [f"{what} {listed(sorted(names))}" for what, names in faults.items() if names]
    if wrong:
        raise ModelError(f"{misfit}: {' and '.join(wrong)}")
    return replace(checkpoint, state={PREFIX + name: value for name, value in network.state_dict().items()})


def numbers_for(model: Classifier) -> tuple[torch.dtype, str]:
    """In what numbers the weights of a model are written, and a note if that is worth one.

    They are those of the folder that it came from, if rounding to them changes no logit for noise by more
    than `ROUNDINGS` of their steps; else float32.

    Args:
        model: of transformers, on the processor.
    """
    wanted: torch.dtype = getattr(torch, model.card.settings.get("numbers", "float32"))
    if wanted is torch.float32:
        return wanted, ""
    rounded = deepcopy(model)
    with torch.no_grad():
        for weight in rounded.state_dict().values():
            weight.copy_(_as(weight, wanted))
    answers = answers_to_noise(model)
    apart = float((answers_to_noise(rounded) - answers).abs().max())
    if not apart:
        return wanted, ""
    kind, steps = (
        str(wanted).removeprefix("torch."),
        torch.finfo(wanted).eps * answers.abs().max().clamp(min=1),
    )
    if apart <= ROUNDINGS * float(steps):
        return wanted, f"weights are rounded to {kind}, as they came: logits change by {apart:.2g} or so"
    return torch.float32, (
        f"weights came as {kind} and are written as float32: rounded, they would change logits by {apart:.2g}"
    )


def _as(weight: Tensor, numbers: torch.dtype) -> Tensor:
    """A weight in other numbers, if it is one of floats."""
    return weight.to(numbers) if weight.is_floating_point() else weight


def write_pretrained(model: Classifier, folder: Path, numbers: torch.dtype = torch.float32) -> Path:
    """Writes a folder that `from_pretrained` of transformers reads, whole or not at all.

    Args:
        model: of transformers.
        folder: where.
        numbers: what the weights are written in.

    Raises:
        ModelError: if the model is of another architecture, or the folder holds something else.
    """
    card = model.card
    if card.architecture != NAME:
        raise ModelError(
            f"a model of architecture {card.architecture} is none of transformers; export a file"
        )
    network: Any = model.body.get_submodule("network")
    network.config.id2label = dict(enumerate(card.classes))
    network.config.label2id = {name: number for number, name in enumerate(card.classes)}
    extractor = to_json({"sampling_rate": card.sample_rate, **card.settings["extractor"]})
    state = {name: _as(value.detach().cpu(), numbers) for name, value in network.state_dict().items()}

    def write(made: Path) -> None:
        with quiet():
            network.save_pretrained(made, state_dict=state)
        config = _as_it_came(read_json(made / CONFIG), model, numbers)
        (made / CONFIG).write_bytes(to_json(config))
        (made / EXTRACTOR).write_bytes(extractor)

    return place(folder, write, kind="folder")


def _as_it_came(written: Mapping[str, Any], model: Classifier, numbers: torch.dtype) -> dict[str, Any]:
    """What transformers writes into `CONFIG`, with the entries that the folder had which the model came from.

    Labels and versions are written anew, and so is the kind of numbers if it is another than that of the
    weights that came.
    """
    settings, kind = model.card.settings, str(numbers).removeprefix("torch.")
    came = {name: value for name, value in settings["config"].items() if name not in _OF_THE_CARD}
    named = [name for name in DTYPES if name in came]
    if not named or kind != settings.get("numbers", "float32"):
        came |= dict.fromkeys(named or DTYPES[:1], kind)
    ours = {name: value for name, value in written.items() if name not in {*ALWAYS, *DTYPES}}
    return ours | came
