"""The command that watches a live input."""

import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from cyclopts.validators import Number

from closesesame.cli.app import command
from closesesame.cli.inputs import clean_for, load_clean, load_model_on, refuse_missing, settings_of
from closesesame.cli.options import (
    CLEAN,
    SPLIT,
    CleanOptions,
    Device,
    ModelFolder,
    Purifier,
    Set,
    SplitOptions,
)
from closesesame.cli.printing import Answer, notes
from closesesame.core.bounds import LEAST_HZ, MOST_HZ
from closesesame.core.errors import DataError, SettingError, counted

if TYPE_CHECKING:
    from closesesame.data import Dataset
    from closesesame.gate import Gate, Samples, Score
    from closesesame.models import Classifier

BLOCK_BYTES = 1 << 16
FPR = 0.01
FILES = (b"RIFF", b"RIFX", b"RF64", b"BW64", b"riff", b"FORM", b".snd", b"fLaC", b"OggS", b"caff", b"ID3")
"""What WAV, W64, AIFF, AU, FLAC, Ogg, CAF and tagged MP3 files begin with."""
LONGEST = max(map(len, FILES))
RAW = "16-bit samples, little-endian, of one channel and without a header"


@command("gate", bars=False)
def gate(
    model: ModelFolder,
    files: list[Path] | None = None,
    /,
    *,
    purifier: Purifier = None,
    method: str | None = None,
    settings: Set = None,
    clean: CleanOptions = CLEAN,
    fpr: Annotated[
        float | None,
        Parameter(
            help="Share of clean windows that may be called suspicious, if --clean says what these are like; "
            f"by default {FPR:g}.",
            validator=Number(gt=0, lt=1),
        ),
    ] = None,
    threshold: Annotated[
        float | None, Parameter(help="Score above which a window is suspicious, in place of --fpr.")
    ] = None,
    every_s: float = 0.5,
    sample_rate: Annotated[
        int | None,
        Parameter(
            help="Of standard input, in Hz; by default that of the model.",
            validator=Number(gte=LEAST_HZ, lte=MOST_HZ),
        ),
    ] = None,
    device: Device = "cpu",
    options: SplitOptions = SPLIT,
) -> Answer:
    """Watch a live input: the label of each window, and how suspicious it is.

    Without files it reads raw samples from standard input, 16 bits, little-endian, one channel, until that
    ends, such as those of 'arecord -t raw -f S16_LE -r 16000'. With a purifier, the score is how far the
    answers with and without it differ, 0 to 1; with a method, a detection of inputs, its score. With --json
    each decision is one line, a JSON object, as soon as it is made.

    Args:
        files: Recordings in place of standard input, up to 60 s of each.
        method: Detection of inputs; see 'sesame list detection'.
        every_s: Seconds from the start of a window to that of the next; a window is as long as the clips of
            the model.

    Examples:
        sesame gate MODEL --purifier PURIFIER --json
        sesame gate MODEL clip.wav --purifier PURIFIER --clean CLIPS
        sesame gate MODEL clip.wav --method strip --clean CLIPS
    """
    from closesesame.gate import Gate

    if purifier is not None and method is not None:
        raise SettingError("a score comes from --purifier or from --method; name one of them")
    scored = purifier is not None or method is not None
    known_clean = clean.clean is not None
    _refuse_idle(
        (threshold is not None and not scored, "--threshold is of a score: name --purifier or --method, too"),
        (known_clean and not scored, "--clean is for a score: name --purifier or --method, too"),
        (settings is not None and method is None, "--set is of a method: name --method, too"),
        (
            fpr is not None and threshold is not None,
            "--fpr finds a threshold, and --threshold names one; leave out one of them",
        ),
        (fpr is not None and not known_clean, "--fpr is of clean windows: name recordings with --clean, too"),
        (
            known_clean and method is None and threshold is not None,
            "--clean finds a threshold, and --threshold names one; leave out one of them",
        ),
        (
            purifier is not None and threshold is not None and threshold >= 1,
            f"answers with and without a purifier differ by 1 at most, and --threshold is {threshold}",
        ),
        (
            sample_rate is not None and bool(files),
            "--sample-rate is of standard input, and files say their own; leave it out",
        ),
    )
    classifier = load_model_on(model, device)
    score, known = _score(classifier, purifier, method, settings, clean, options)
    if threshold is None and score is not None and known is not None:
        threshold = _threshold(score, known, FPR if fpr is None else fpr)
    elif fpr is not None:
        raise SettingError(f"{method} reads no clean recordings to find a threshold with; leave out --fpr")
    watch = Gate(classifier, score, threshold, every_s)
    rows = _from_files(watch, files) if files else _from_stdin(watch, sample_rate or watch.rate_hz)

    def show() -> None:
        for row in rows:
            sys.stdout.write(_in_words(row) + "\n")
            sys.stdout.flush()

    return Answer(rows, show, lines=True)


def _refuse_idle(*idle: tuple[bool, str]) -> None:
    """Refuses options that would have no effect.

    Args:
        idle: whether an option would have none, and the sentence that says so.

    Raises:
        SettingError: with the first sentence that holds.
    """
    for holds, sentence in idle:
        if holds:
            raise SettingError(sentence)


def _score(
    model: "Classifier",
    purifier: Path | None,
    method: str | None,
    settings: list[str] | None,
    clean: CleanOptions,
    options: SplitOptions,
) -> "tuple[Score | None, Dataset | None]":
    """What scores windows, and clean examples to find a threshold with."""
    from closesesame.detection import DETECTIONS
    from closesesame.gate import by_detection, disagreement
    from closesesame.purification.files import load_purifier

    if purifier is not None:
        known = load_clean(model.card, clean, options, _missing)
        return disagreement(model, load_purifier(purifier)), known
    if method is None:
        return None, None
    detection = DETECTIONS.make(method, settings_of(settings))
    read = clean_for(method, clean, needed=detection.needs_clean)
    known = load_clean(model.card, read, options, _missing)
    if known is None:
        return by_detection(detection, model, None, options.seed), None
    for_method, beside = known.hold_out(0.5, options.seed)
    return by_detection(detection, model, for_method, options.seed), beside


def _missing(missing: tuple[str, ...], classes: int) -> str:
    return f"the clean recordings have none of {len(missing)} of {classes} classes; add some"


def _threshold(score: "Score", clean: "Dataset", rate: float) -> float:
    from closesesame.detection.flagging import by_clean

    found = by_clean(score(clean).double(), rate)
    notes([found.why])
    assert found.threshold is not None
    return found.threshold


def _from_files(watch: "Gate", files: list[Path]) -> Iterator[dict[str, Any]]:
    from closesesame.audio import files as audio

    for path in files:
        refuse_missing(path)
        if path.is_dir():
            raise DataError(f"{path} is a folder; name the recordings in it")
    for path in files:
        heard = audio.hear(path, watch.rate_hz)
        if heard.length_s > audio.LONGEST_S:
            notes([f"{path} is watched to {audio.LONGEST_S:g} s only; send longer input to standard input"])
        for decision in watch.listen([heard.samples]):
            yield {"file": str(path)} | asdict(decision)


def _from_stdin(watch: "Gate", rate_hz: int) -> Iterator[dict[str, Any]]:
    """Decisions on standard input, and at its end a note on how fast they were.

    Raises:
        DataError: if it holds no samples.
    """
    count, seconds, samples = 0, 0.0, 0

    def pcm() -> "Iterator[Samples]":
        nonlocal samples
        for block in _pcm():
            samples += len(block)
            yield block

    for decision in watch.listen(_resampled(pcm(), rate_hz, watch.rate_hz)):
        count, seconds = count + 1, seconds + decision.seconds
        yield asdict(decision)
    if not count:
        raise DataError(f"standard input holds no samples; send {RAW}, or name files")
    heard_s = samples / rate_hz
    windows = counted(count, "window")
    notes([f"{heard_s:,.1f} s in {windows}; computing took {seconds / heard_s:.3f} of that time"])


def _pcm() -> "Iterator[Samples]":
    """Standard input as it comes; a note says if it ends within a sample.

    Raises:
        DataError: if it begins as a file of sound does, whose header would be heard as samples.
    """
    import numpy as np

    def read() -> bytes:
        return os.read(sys.stdin.fileno(), BLOCK_BYTES)  # what is there, without waiting for more

    block = read()
    while 0 < len(block) < LONGEST and (more := read()):
        block += more
    if block.startswith(FILES):
        raise DataError(
            f"standard input is a file of sound, and raw samples are read; send {RAW}, as 'arecord -t raw -f "
            "S16_LE' or 'sox FILE -t raw -e signed -b 16 -c 1 -' writes them, or name the file"
        )
    rest = b""
    while block:
        block = rest + block
        whole = len(block) // 2 * 2
        block, rest = block[:whole], block[whole:]
        yield np.frombuffer(block, "<i2").astype(np.float32) / np.float32(2**15)
        block = read()
    if rest:
        notes([f"standard input ends within a sample; {RAW} are read"])


def _resampled(blocks: "Iterable[Samples]", rate_hz: int, wanted_hz: int) -> "Iterator[Samples]":
    """The blocks at another sample rate."""
    import numpy as np
    import soxr

    if rate_hz == wanted_hz:
        yield from blocks
        return
    stream = soxr.ResampleStream(rate_hz, wanted_hz, 1, dtype="float32")
    for block in blocks:
        yield np.asarray(stream.resample_chunk(block), np.float32)
    yield np.asarray(stream.resample_chunk(np.zeros(0, np.float32), last=True), np.float32)


def _in_words(row: dict[str, Any]) -> str:
    """A decision on one line."""
    where = f"{row['file']}  " if "file" in row else ""
    said = f"{where}{row['start_s']:8.2f} s  {row['label']} {100 * row['probability']:.0f} %"
    if row["suspicion"] is not None:
        said += f"  suspicion {row['suspicion']:.3g}"
    return said + ("  SUSPICIOUS" if row["suspicious"] else "")
