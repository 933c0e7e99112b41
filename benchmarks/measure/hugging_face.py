"""Tiny models of transformers, with a backdoor: imported, repaired, exported, and read by transformers.

python -m benchmarks hugging_face DATA STORE [KIND ...]

DATA is a folder with `keywords10` and `trigger_noise`. Weights are random at first and are trained here. A
repair starts from the folder that a vendor would hand over, as `save_pretrained` writes it. Killed, it goes
on where it was: such folders stand in STORE, and rows in the result file are not measured again.
"""

import json
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from closesesame import Exam, load_splits, train
from closesesame.attacks import Attack, BadNets, Blended
from closesesame.bench.protocol import Protocol
from closesesame.bench.results import write_measured
from closesesame.core import machine
from closesesame.data import Dataset, Splits
from closesesame.models import Classifier, fit_weights
from closesesame.models.huggingface import HuggingFace, Kind
from closesesame.models.pretrained import read_pretrained, write_pretrained
from closesesame.removal import Restore
from closesesame.training import Training, accuracy, predict

from . import RESULTS

T = TypeVar("T")
OUT = RESULTS / "hugging_face.json"
TRAINING = Training(epochs=15, lr=2e-3)
FRACTION, SEED, COMPARED = 0.05, 0, 64
TRIES, LEAST_LEARNT = 4, 0.7
STATUS, PEAK = Path("/proc/self/status"), Path("/proc/self/clear_refs")

WAVEFORM = {
    "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 128,
    "conv_dim": [32, 64, 64], "conv_stride": [20, 4, 4], "conv_kernel": [40, 8, 8],
    "num_feat_extract_layers": 3, "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2,
    "classifier_proj_size": 64, "hidden_dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0,
    "feat_proj_dropout": 0.0, "final_dropout": 0.0,
}  # fmt: skip
WHISPER = {
    "d_model": 64, "encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 128,
    "decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 32, "num_mel_bins": 40,
    "max_source_positions": 50, "vocab_size": 50, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    "decoder_start_token_id": 1, "classifier_proj_size": 64,
}  # fmt: skip
AST = {
    "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 128,
    "max_length": 98, "num_mel_bins": 32, "time_stride": 8, "frequency_stride": 16, "patch_size": 16,
    "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
}  # fmt: skip
SIZES: dict[Kind, tuple[dict[str, Any], str, dict[str, Any]]] = {
    "audio-spectrogram-transformer": (AST, "ASTFeatureExtractor", {"max_length": 98, "num_mel_bins": 32}),
    "whisper": (WHISPER, "WhisperFeatureExtractor", {"chunk_length": 1, "feature_size": 40}),
    "wav2vec2": (WAVEFORM, "Wav2Vec2FeatureExtractor", {"do_normalize": True}),
    "hubert": (WAVEFORM, "Wav2Vec2FeatureExtractor", {"do_normalize": True}),
    "wavlm": (WAVEFORM, "Wav2Vec2FeatureExtractor", {"do_normalize": True}),
}
"""Sizes, and the extractor of transformers with its options."""
ABOUT = (
    f"Random tiny networks of transformers, trained on keywords10 for {TRAINING.epochs} epochs, and again "
    f"from other weights if they get less than {100 * LEAST_LEARNT:g} % of these right; one thread, bf16 "
    "in trainings where the processor has it, fp32 in what is measured. `badnets: airplane` is an "
    "attack of the development bench, `blended` of the test bench. `restore` gets 116 clean clips of other "
    "speakers. "
    "Difference: the largest between logits of the repaired model and those that transformers, with its own "
    f"extractor, gives from the exported folder on {COMPARED} test clips. Seconds are processor time; memory "
    "is the peak of the process during the repair, with the data in it."
)


def attacks_of(data: Path) -> dict[str, Attack]:
    """One of the development bench, and one of the test bench."""
    airplane = data / "trigger_noise/airplane/4-161103-A-47.flac"
    return {"badnets: airplane": BadNets(sound=str(airplane)), "blended": Blended(target=5)}


def architecture(kind: Kind) -> HuggingFace:
    """A network of that kind, with inputs as the extractor of transformers describes itself."""
    import transformers

    sizes, name, options = SIZES[kind]
    extractor = getattr(transformers, name)(**options)
    return HuggingFace(kind=kind, config=sizes, extractor=json.loads(extractor.to_json_string()))


def imported(folder: Path, data: Dataset) -> Classifier:
    """The model of a folder, as `sesame import` reads it."""
    given = read_pretrained(folder)
    shape = data.input_shape
    return fit_weights(given.checkpoint, given.architecture, given.classes, shape, given.sample_rate)


def of_transformers(folder: Path, data: Dataset) -> Tensor:
    """Logits that transformers alone gives for clips."""
    import transformers

    network = transformers.AutoModelForAudioClassification.from_pretrained(folder).eval()
    extract = transformers.AutoFeatureExtractor.from_pretrained(folder)  # type: ignore[no-untyped-call]
    clips = list(data.inputs[:].numpy())
    with torch.no_grad():
        logits: Tensor = network(**extract(clips, sampling_rate=data.sample_rate, return_tensors="pt")).logits
    return logits


def measured(work: Callable[[], T]) -> tuple[T, float, float]:
    """What some work returns, its processor seconds, and the peak memory of the process in MB."""
    PEAK.write_text("5", encoding="ascii")  # starts the peak anew
    started = time.process_time()
    made = work()
    seconds = time.process_time() - started
    (line,) = (line for line in STATUS.read_text(encoding="ascii").splitlines() if line.startswith("VmHWM"))
    return made, seconds, float(line.split()[1]) / 1024


def handed_over(folder: Path, kind: Kind, data: Dataset, like: Dataset) -> Classifier:
    """A model that was trained on the data, written as a vendor does, and imported.

    A vendor hands over what has learned: from weights that do not, it is trained again from others.
    """
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        for seed in range(SEED, SEED + TRIES):
            model = train(architecture(kind), data, TRAINING, seed=seed)
            if accuracy(model, data) >= LEAST_LEARNT:
                break
        write_pretrained(model, folder)
    return imported(folder, like)


def row_of(kind: Kind, name: str, attack: Attack, splits: Splits, store: Path) -> dict[str, Any]:
    """A victim: trained, handed over, repaired and handed back."""
    poisoned = attack.poison(splits.train, SEED)
    reference = handed_over(store / kind / "reference", kind, splits.train, splits.train)
    suspect = handed_over(store / kind / name, kind, poisoned.dataset, splits.train)
    clean = Protocol().clean_examples(splits, FRACTION, SEED)
    repair, seconds, memory_mb = measured(lambda: Restore().remove(suspect, clean, SEED))
    with tempfile.TemporaryDirectory(prefix="closesesame-") as scratch, machine.precision("fp32"):
        back = write_pretrained(repair.model, Path(scratch) / "repaired")
        some = splits.test.take(torch.arange(COMPARED))
        apart = (predict(repair.model, some) - of_transformers(back, some)).abs().max()
        exam = Exam(splits.test, poisoned.trigger, reference)
        scored = {"reference": reference, "suspect": suspect, "repaired": repair.model}
        scores = {said: exam.score(model) for said, model in scored.items()}
    figures: dict[str, Any] = {
        "kind": kind,
        "weights": sum(weight.numel() for weight in suspect.parameters()),
        "attack": name,
    }
    for said, found in scores.items():
        assert found.asr is not None
        assert found.ra is not None
        rates = {"ACC": found.acc, "ASR": found.asr, "RA": found.ra}
        figures |= {f"{said}: {measure}_%": 100 * rate.value for measure, rate in rates.items()}
    return figures | {
        "difference": float(apart),
        "batches of the repair": repair.chosen["batches"],
        "seconds of the repair": seconds,
        "memory_mb": memory_mb,
    }


def main() -> None:
    """One row a kind and attack; writes after each."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    data, store, kinds = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:] or list(SIZES)
    splits, attacks = load_splits(data / "keywords10"), attacks_of(data)
    rows = json.loads(OUT.read_text(encoding="utf-8"))["rows"] if OUT.exists() else []
    done = {(row["kind"], row["attack"]) for row in rows}
    for kind in SIZES:
        for name, attack in attacks.items():
            if kind in kinds and (kind, name) not in done:
                rows.append(row_of(kind, name, attack, splits, store))
                write_measured(OUT, rows, ABOUT)
                print(rows[-1], flush=True)
