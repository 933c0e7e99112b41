"""Weights of others: read without running anything, fitted by name, and written again as they came."""

import hashlib
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from closesesame.core.errors import ModelError
from closesesame.models import (
    ARCHITECTURES,
    Classifier,
    ResNet,
    fit_weights,
    load_model,
    read_checkpoint,
    save_model,
    weights_like,
)
from tests.commands import Sesame

NAMES = ("no", "yes")
SMALL = ResNet(widths=(8, 16))
State = dict[str, Tensor]


@pytest.fixture(scope="module")
def theirs() -> Classifier:
    model = SMALL.build(NAMES, (4000,), 8000, seed=3).eval()
    model.front_end.get_buffer("mean").fill_(-2.5)
    return model


def fit(path: Path) -> Classifier:
    return fit_weights(read_checkpoint(path), SMALL, NAMES, (4000,), 8000)


def answers(model: Classifier) -> Tensor:
    logits: Tensor = model(0.1 * torch.randn(3, 4000, generator=torch.Generator().manual_seed(0)))
    return logits


def in_half(state: State) -> State:
    return {name: value.bfloat16() if value.is_floating_point() else value for name, value in state.items()}


def behind(prefix: str, state: State) -> State:
    return {prefix + name: value for name, value in state.items()}


WRAPS: dict[str, Callable[[State], Any]] = {
    "as it is": lambda state: state,
    "of a data-parallel model": lambda state: behind("module.", state),
    "of a lightning module": lambda state: behind("net.inner.", state),
    "under state_dict": lambda state: {"epoch": 3, "state_dict": state, "lr": 0.1},
    "under model": lambda state: {"model": behind("model.", state)},
    "beside a tensor": lambda state: {"state_dict": state, "best_acc1": torch.tensor(0.9)},
    "beside the weights of a loss": lambda state: behind("net.", state) | {"loss.weight": torch.ones(2)},
    "of a data-parallel part": lambda state: {
        name.replace("body.", "body.module.", 1): value for name, value in state.items()
    },
    "in half precision": in_half,
}


@pytest.mark.parametrize("wrap", WRAPS)
@pytest.mark.parametrize("old", [False, True], ids=["archive", "pickle alone"])
def test_weights_are_found_under_any_prefix(theirs: Classifier, tmp_path: Path, wrap: str, old: bool) -> None:
    path = tmp_path / "weights.pt"
    torch.save(WRAPS[wrap](dict(theirs.state_dict())), path, _use_new_zipfile_serialization=not old)
    model = fit(path)
    assert not model.training
    assert torch.allclose(answers(model), answers(theirs), atol=0.05 if "half" in wrap else 0)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert model.card.made == {"file_sha256": digest, "format": "PyTorch"}
    assert (model.card.classes, model.card.input_shape, model.card.sample_rate) == (NAMES, (4000,), 8000)


class Own(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.mix(x)
        return answer


def test_the_weights_of_a_network_of_ones_own_lack_the_name_of_the_body(tmp_path: Path) -> None:
    own, network = ARCHITECTURES.make("tests.models.test_checkpoints:Own"), Own()
    save_file(behind("encoder.", network.state_dict()), tmp_path / "w.safetensors")
    checkpoint = read_checkpoint(tmp_path / "w.safetensors")
    model = fit_weights(checkpoint, own, NAMES, (5,), None)
    assert torch.equal(model.body.state_dict()["mix.weight"], network.mix.weight)
    with torch.no_grad():
        model.body.get_parameter("mix.weight").add_(1)
    back = weights_like(model, checkpoint)
    assert set(back) == set(checkpoint.state) == {"encoder.mix.weight", "encoder.mix.bias"}
    assert torch.equal(back["encoder.mix.weight"], network.mix.weight + 1)
    assert torch.equal(back["encoder.mix.bias"], network.mix.bias)


def test_what_was_changed_goes_back_under_the_names_and_in_the_kinds_of_the_file(
    theirs: Classifier, tmp_path: Path
) -> None:
    state = behind("module.", dict(theirs.state_dict()))
    state["module.body.head.bias"] = state["module.body.head.bias"].double()
    torch.save({"state_dict": state, "epoch": 1}, tmp_path / "w.pt")
    checkpoint = read_checkpoint(tmp_path / "w.pt")
    assert (checkpoint.inside, checkpoint.left, checkpoint.format) == ("state_dict", ("epoch",), "PyTorch")
    back = weights_like(fit(tmp_path / "w.pt"), checkpoint)
    assert list(back) == list(state)
    for name, value in state.items():
        assert back[name].dtype == value.dtype
        assert torch.equal(back[name], value), name
    other = ResNet(widths=(8, 8)).build(NAMES, (4000,), 8000, seed=0)
    with pytest.raises(ModelError, match=r"w\.pt holds other weights than the model has"):
        weights_like(other, checkpoint)


class Evil:
    """Unpickling it would make a folder."""

    def __reduce__(self) -> tuple[Callable[..., None], tuple[str]]:
        return Path("evil-ran").mkdir, ()  # type: ignore[return-value]


def packed(path: Path, state: State) -> None:
    torch.save(state | {"zeros": torch.zeros(1_000_000)}, path)
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)


def overlapping(path: Path, state: State) -> None:
    """Many entries that are the same bytes of the file."""
    torch.save(state, path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("weights/more", b"")
        archive.filelist += 40 * [max(archive.filelist, key=lambda entry: entry.file_size)]


def changed(old: bytes, new: bytes) -> Callable[[Path, State], object]:
    """Bytes of the list of entries at the end of an archive, which a pattern finds, are others."""

    def change(path: Path, state: State) -> None:
        torch.save(state, path)
        content = path.read_bytes()
        place = content.index(b"PK\x01\x02")
        path.write_bytes(content[:place] + re.sub(old, new, content[place:], flags=re.DOTALL))

    return change


def truncated(path: Path, state: State) -> None:
    torch.save(state, path)
    path.write_bytes(path.read_bytes()[:-2000])


def scripted(path: Path, state: State) -> None:
    torch.save(state, path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("weights/code/__torch__.py", "class Net(Module): ...", zipfile.ZIP_DEFLATED)


def without_bias(path: Path, state: State) -> None:
    torch.save({name: value for name, value in state.items() if name != "body.head.bias"}, path)


def with_bias(value: Tensor) -> Callable[[Path, State], object]:
    return lambda path, state: torch.save(state | {"body.head.bias": value}, path)


RUNS = "is refused: it holds more than weights, and loading that could run code"
HOSTILE: dict[str, tuple[Callable[[Path, State], object], str]] = {
    "a pickle that runs code": (lambda path, _: path.write_bytes(pickle.dumps(Evil())), RUNS),
    "an archive that runs code": (lambda path, state: torch.save({"w": state, "hook": Evil()}, path), RUNS),
    "a whole module": (lambda path, _: torch.save(Own(), path), RUNS),
    "a zip bomb": (packed, "is refused: it unpacks to more than it holds"),
    "entries that overlap": (overlapping, "is refused: it unpacks to more than it holds"),
    "a list of entries that is none": (changed(b"PK\x01\x02", b"XX\x01\x02"), "is damaged"),
    "a name that is no text": (changed(b"byteorder", b"\xff\xfe\xfd\xfc\xfb\xfa\xf9\xf8\xf7"), "is damaged"),
    "an archive on many disks": (changed(b"\x00\x00\x00\x00", b"\x63\x63\x00\x00"), "is damaged"),
    "an archive of a later version": (changed(b"PK\x01\x02....", b"PK\x01\x02..\x63\x00"), "is damaged"),
    "a program": (scripted, "is refused: it holds TorchScript, which is a program"),
    "a shape that lies": (
        with_bias(torch.zeros(1).expand(10**12)),
        "claims 1,000,000,000,000 numbers, more than the file has",
    ),
    "a truncated archive": (truncated, "is damaged|is refused"),
    "NaN": (
        with_bias(torch.tensor([0.0, torch.nan])),
        "weight 'body.head.bias' holds NaN or infinite values",
    ),
    "a sparse tensor": (
        lambda path, state: torch.save(state | {"s": torch.eye(3).to_sparse()}, path),
        "weight 's' is no plain array",
    ),
    "complex numbers": (with_bias(torch.zeros(2, dtype=torch.complex64)), "is no plain array"),
    "whole numbers": (with_bias(torch.tensor([0, 1])), "holds torch.int64 instead of torch.float32"),
    "a list": (
        lambda path, state: torch.save(list(state.values()), path),
        "holds no weights by name, but list",
    ),
    "no tensors": (
        lambda path, _: torch.save({"epoch": 1, "lr": 2.0}, path),
        "holds no weights by name, but entries epoch, lr",
    ),
    "text": (lambda path, _: path.write_text("weights"), "is damaged|is refused"),
    "nothing": (lambda path, _: path.write_bytes(b""), "is damaged|is refused"),
    "a weight too many": (
        lambda path, state: torch.save(state | {"body.more": torch.zeros(2)}, path),
        "does not fit resnet of these sizes: it also has 'body.more'",
    ),
    "a weight too few": (
        without_bias,
        "does not fit resnet of these sizes: it lacks 'body.head.bias'",
    ),
    "another shape": (with_bias(torch.zeros(3)), r"'body.head.bias' has shape \[3\] instead of \[2\]"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_and_wrong_files_are_refused_in_one_sentence_and_nothing_runs(
    theirs: Classifier, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch, sesame: Sesame
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "weights.pt"
    make, said = HOSTILE[name]
    make(path, dict(theirs.state_dict()))
    with pytest.raises(ModelError, match=said):
        fit(path)
    assert "weights.pt" in sesame.fails("import", path, tmp_path / "m", "--classes", "no,yes", *SIZES)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["weights.pt"]


def test_a_missing_file_and_a_damaged_safetensors_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is not there; name a file of weights"):
        read_checkpoint(tmp_path / "nothing.pt")
    (tmp_path / "folder.pt").mkdir()
    with pytest.raises(ModelError, match="is a folder, and none of SpeechBrain or Hugging Face; name a file"):
        read_checkpoint(tmp_path / "folder.pt")
    (tmp_path / "w.safetensors").write_bytes(b"no")
    with pytest.raises(ModelError, match=r"w\.safetensors is damaged or missing"):
        read_checkpoint(tmp_path / "w.safetensors")


SIZES = ("--set", "widths=[8,16]", "--sample-rate", "8000", "--duration-s", "0.5")


def test_import_and_export_give_back_what_came(theirs: Classifier, sesame: Sesame, tmp_path: Path) -> None:
    given, out, labels = tmp_path / "given.pt", tmp_path / "m", tmp_path / "labels.txt"
    torch.save(behind("module.", dict(theirs.state_dict())) | {"note": "v1"}, given)
    labels.write_text("no\n\nyes\n")
    found = sesame.json("import", given, out, "--classes", labels, "--task", "speaker", *SIZES)
    assert "this is left out, since it is no weight: note" in sesame.noted
    assert found["file_sha256"] == hashlib.sha256(given.read_bytes()).hexdigest()
    assert found["weights"] == sum(weight.numel() for weight in theirs.parameters())
    assert (found["format"], found["architecture"], found["classes"]) == ("PyTorch", "resnet", ["no", "yes"])
    model = load_model(out)
    assert torch.equal(answers(model), answers(theirs))
    made = {"by": "sesame import", "task": "speaker", "file_sha256": found["file_sha256"]}
    assert made.items() <= model.card.made.items()
    with torch.no_grad():
        model.body.get_parameter("head.bias").add_(1)
    save_model(model, tmp_path / "repaired")
    sesame("export", tmp_path / "repaired", tmp_path / "back.pt", "--like", given)
    back = torch.load(tmp_path / "back.pt", weights_only=True)
    assert list(back) == [f"module.{name}" for name in theirs.state_dict()]
    assert torch.equal(back["module.body.head.bias"], theirs.body.get_parameter("head.bias") + 1)
    said = sesame.json("export", out, tmp_path / "plain.safetensors")
    assert said["sha256"] == hashlib.sha256((tmp_path / "plain.safetensors").read_bytes()).hexdigest()
    assert set(load_file(tmp_path / "plain.safetensors")) == set(theirs.state_dict())
    assert "--force" in sesame.fails("export", out, tmp_path / "plain.safetensors")
    assert "must end in" in sesame.fails("export", out, tmp_path / "w.bin")


def test_names_of_classes_must_be_two_or_more(sesame: Sesame, theirs: Classifier, tmp_path: Path) -> None:
    torch.save(dict(theirs.state_dict()), tmp_path / "w.pt")
    said = sesame.fails("import", tmp_path / "w.pt", tmp_path / "m", "--classes", "yes", *SIZES)
    assert "yes is no file; as a list it names 1 of the classes, and a model tells two or more apart" in said
    said = sesame.fails("import", tmp_path / "w.pt", tmp_path / "m", "--classes", "yes,yes", *SIZES)
    assert "--classes yes,yes has two classes called 'yes'" in said
    (tmp_path / "one.txt").write_text("yes\n")
    said = sesame.fails(
        "import", tmp_path / "w.pt", tmp_path / "m", "--classes", tmp_path / "one.txt", *SIZES
    )
    assert "one.txt names 1 of the classes" in said


class Tied(nn.Module):
    """Two layers with the same weights, and a mask that is no number."""

    mask: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.Linear(4000, 4000, bias=False), nn.Linear(4000, 4000, bias=False)
        self.other.weight = self.one.weight
        self.head = nn.Linear(4000, 2)
        self.register_buffer("mask", torch.arange(4000) % 2 == 0)

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.head(self.other(self.one(x * self.mask)))
        return answer


TIED = ("--import", "tests.models.test_checkpoints", "--model", "tests.models.test_checkpoints:Tied")


def test_weights_that_share_memory_and_masks_come_and_go(sesame: Sesame, tmp_path: Path) -> None:
    network = Tied()
    torch.save(network.state_dict(), tmp_path / "w.pt")
    sizes = ("--sample-rate", "8000", "--duration-s", "0.5")
    sesame("import", tmp_path / "w.pt", tmp_path / "m", "--classes", "no,yes", *TIED, *sizes)
    model = load_model(tmp_path / "m")
    for name, value in network.state_dict().items():
        assert torch.equal(model.body.state_dict()[name], value)
    for like in ((), ("--like", tmp_path / "w.pt")):
        out = tmp_path / f"back{len(like)}.safetensors"
        sesame("export", tmp_path / "m", out, *like, *TIED[:2])
        back = load_file(out)
        assert torch.equal(back["other.weight" if like else "body.other.weight"], network.one.weight)
        assert back["mask" if like else "body.mask"].dtype == torch.bool


def test_an_export_keeps_the_entry_and_what_the_model_has_no_use_for(
    theirs: Classifier, sesame: Sesame, tmp_path: Path
) -> None:
    given = behind("net.", dict(theirs.state_dict())) | {"loss.weight": torch.tensor([3.0, 4.0])}
    torch.save({"epoch": 7, "state_dict": given}, tmp_path / "w.ckpt")
    sesame("import", tmp_path / "w.ckpt", tmp_path / "m", "--classes", "no,yes", *SIZES)
    assert "this is left out, since it is no weight: epoch" in sesame.noted
    assert "has weights that the model has no use for: loss.weight" in sesame.noted
    sesame("export", tmp_path / "m", tmp_path / "back.PT", "--like", tmp_path / "w.ckpt")
    assert "w.ckpt holds is not written: epoch" in sesame.noted
    back = torch.load(tmp_path / "back.PT", weights_only=True)
    assert list(back) == ["state_dict"]
    assert list(back["state_dict"]) == list(given)
    for name, value in given.items():
        assert torch.equal(back["state_dict"][name], value)
    sesame("export", tmp_path / "m", tmp_path / "back.safetensors", "--like", tmp_path / "w.ckpt")
    assert set(load_file(tmp_path / "back.safetensors")) == set(given)
    said = sesame.fails("export", tmp_path / "m", tmp_path / "b.pt", "--like", tmp_path / "nothing.pt")
    assert "nothing.pt is not there; name with --like what the model was imported from" in said


def test_a_link_that_leads_in_a_circle_is_one_sentence(sesame: Sesame, tmp_path: Path) -> None:
    (tmp_path / "loop.pt").symlink_to(tmp_path / "loop.pt")
    said = sesame.fails("import", tmp_path / "loop.pt", tmp_path / "m", "--classes", "no,yes", *SIZES)
    assert "loop.pt is a link that leads in a circle; name the file or folder itself" in said


class OfHundred(nn.Linear):
    """A network that takes clips of 100 samples alone, and knows two classes."""

    def __init__(self) -> None:
        super().__init__(100, 2)


def test_a_network_that_answers_no_clip_is_not_imported(sesame: Sesame, tmp_path: Path) -> None:
    save_file(OfHundred().state_dict(), tmp_path / "w.safetensors")
    words = ("import", tmp_path / "w.safetensors", tmp_path / "m", "--model", f"{__name__}:OfHundred")
    rate = ("--sample-rate", "1000", "--classes")
    said = sesame.fails(*words, *rate, "no,yes")
    assert (
        f"{tmp_path / 'w.safetensors'} makes a network that gives no answers to clips of 1 s at 1,000" in said
    )
    assert "name another --duration-s or --sample-rate" in said
    said = sesame.fails(*words, *rate, "no,yes,stop", "--duration-s", "0.1")
    assert f"{tmp_path / 'w.safetensors'}: the model gives answers of shape [1, 2]" in said
    assert not (tmp_path / "m").exists()
    assert sesame.json(*words, *rate, "no,yes", "--duration-s", "0.1")["sample_rate"] == 1000
