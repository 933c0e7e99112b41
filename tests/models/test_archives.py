"""Checkpoints of NeMo and SpeechBrain: the weights alone are read, whatever stands beside them."""

import gzip
import io
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from torch import Tensor, nn

from closesesame.core.errors import ModelError
from closesesame.models import archives as module
from closesesame.models import load_model, read_checkpoint
from closesesame.models.checkpoints import write_parts
from tests.commands import Sesame
from tests.models.test_checkpoints import Evil

EVIL_YAML = b"net: !apply:os.system ['touch evil-ran']\n_target_: os.system\n"
Parts = dict[str, bytes]


class Own(nn.Module):
    """Two modules, as SpeechBrain keeps them in two files."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(16_000, 4)
        self.classifier = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.classifier(self.encoder(x))
        return answer


OWN = "tests.models.test_archives:Own"
CLASSES = ("--classes", "no,yes", "--import", "tests.models.test_archives", "--model", OWN)


def saved(content: object) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def tar_of(parts: Parts, change: Callable[[tarfile.TarInfo], None] = lambda _: None) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, content in parts.items():
            about = tarfile.TarInfo(name)
            about.size = len(content)
            change(about)
            tar.addfile(about, io.BytesIO(content))
    return file.getvalue()


def nemo(network: nn.Module) -> Parts:
    return {"./model_config.yaml": EVIL_YAML, "./model_weights.ckpt": saved(network.state_dict())}


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_the_weights_of_a_nemo_file_are_read_and_its_yaml_is_not(
    pack: Callable[[bytes], bytes], sesame: Sesame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    network = Own()
    (tmp_path / "m.nemo").write_bytes(pack(tar_of(nemo(network))))
    found = sesame.json("import", "m.nemo", "out", *CLASSES)
    assert found["format"] == "NeMo"
    state = load_model("out").body.state_dict()
    assert torch.equal(state["encoder.weight"], network.encoder.weight)
    sesame("export", "out", "back.ckpt", "--like", "m.nemo", "--import", "tests.models.test_archives")
    back = torch.load("back.ckpt", weights_only=True)
    assert list(back) == list(network.state_dict())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["back.ckpt", "m.nemo", "out"]


def sparse(about: tarfile.TarInfo) -> None:
    about.type = tarfile.GNUTYPE_SPARSE


WEIGHTS = "model_weights.ckpt"
HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "a pickle that runs code": (
        lambda: tar_of({WEIGHTS: pickle.dumps(Evil())}),
        "is refused: it holds more than weights, and loading that could run code",
    ),
    "no checkpoint": (
        lambda: tar_of({"model_config.yaml": EVIL_YAML}),
        "must hold one checkpoint.*holds none",
    ),
    "a link as checkpoint": (
        lambda: tar_of({WEIGHTS: b""}, lambda about: setattr(about, "type", tarfile.SYMTYPE)),
        "must hold one checkpoint",
    ),
    "a hole as checkpoint": (
        lambda: tar_of({WEIGHTS: bytes(512)}, sparse),
        r"must hold one checkpoint \(\.ckpt, \.pt, \.pth\), holds none",
    ),
    "two checkpoints": (
        lambda: tar_of({"a.ckpt": b"1", "b.ckpt": b"2"}),
        r"must hold one checkpoint \(\.ckpt, \.pt, \.pth\), holds a\.ckpt, b\.ckpt",
    ),
    "a truncated archive": (lambda: tar_of(nemo(Own()))[:3000], "is damaged"),
    "truncated gzip": (lambda: gzip.compress(tar_of(nemo(Own())))[:3000], "is damaged"),
    "text": (lambda: b"weights", "is damaged"),
    "nothing": (lambda: b"", "is damaged"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_nemo_files_are_one_sentence_and_nothing_runs(
    name: str, sesame: Sesame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make, said = HOSTILE[name]
    Path("m.nemo").write_bytes(make())
    with pytest.raises(ModelError, match=said):
        read_checkpoint("m.nemo")
    assert "m.nemo" in sesame.fails("import", "m.nemo", "out", *CLASSES)
    assert [path.name for path in tmp_path.iterdir()] == ["m.nemo"]


def test_a_gzip_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    (tmp_path / "m.nemo").write_bytes(gzip.compress(bytes(5 * 2**20)))
    with patch.object(module, "MOST_BYTES", 2**20), pytest.raises(ModelError, match="unpacks to more than"):
        read_checkpoint(tmp_path / "m.nemo")
    reads: list[int] = []

    class Endless(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            reads.append(size or 0)
            return bytes(2**20) if len(reads) < 100 else b""

    with (
        patch.object(module, "MOST_BYTES", 2**21),
        patch.object(gzip, "open", lambda _: Endless()),
        pytest.raises(ModelError, match="unpacks to more than"),
    ):
        read_checkpoint(tmp_path / "m.nemo")
    assert reads == [2**20] * 3


def test_a_name_that_leads_out_of_the_archive_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/m.nemo").write_bytes(tar_of({"../../weights.ckpt": saved(Own().state_dict())}))
    assert len(read_checkpoint(tmp_path / "in/m.nemo").state) == 4
    assert [path.name for path in tmp_path.rglob("*")] == ["in", "m.nemo"]


@pytest.fixture
def speechbrain(tmp_path: Path) -> tuple[Path, Own]:
    folder, network = tmp_path / "sb", Own()
    folder.mkdir()
    torch.save(network.encoder.state_dict(), folder / "encoder.ckpt")
    torch.save(
        {f"0.{name}": value for name, value in network.classifier.state_dict().items()}, folder / "head.ckpt"
    )
    torch.save({"state": {}, "param_groups": [{"lr": 0.1}]}, folder / "optimizer.ckpt")
    (folder / "counter.ckpt").write_text("12")
    (folder / "hyperparams.yaml").write_bytes(EVIL_YAML)
    return folder, network


@pytest.fixture
def fitting(speechbrain: tuple[Path, Own]) -> tuple[Path, Own]:
    """The same folder with names that fit the network."""
    folder, network = speechbrain
    (folder / "head.ckpt").unlink()
    torch.save(network.classifier.state_dict(), folder / "classifier.ckpt")
    return folder, network


def test_all_modules_in_a_folder_of_speechbrain_are_read_and_its_yaml_is_not(
    speechbrain: tuple[Path, Own], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    folder, network = speechbrain
    found = read_checkpoint(folder)
    assert set(found.state) == {"encoder.bias", "encoder.weight", "head.0.bias", "head.0.weight"}
    assert torch.equal(found.state["head.0.bias"], network.classifier.bias)
    assert set(found.left) == {"counter.ckpt", "hyperparams.yaml", "optimizer.ckpt"}
    assert found.format == "SpeechBrain"
    assert [path.name for path in tmp_path.iterdir()] == ["sb"]


def test_a_folder_of_speechbrain_comes_and_goes(
    fitting: tuple[Path, Own], sesame: Sesame, tmp_path: Path
) -> None:
    folder, network = fitting
    found = sesame.json("import", folder, tmp_path / "out", *CLASSES)
    assert "left out, since it is no weight: counter.ckpt, hyperparams.yaml, optimizer.ckpt" in sesame.noted
    assert (found["format"], found["weights"]) == ("SpeechBrain", 4 * 16_001 + 2 * 5)
    assert len(found["file_sha256"]) == 64
    export = ("export", tmp_path / "out", tmp_path / "back", "--like", folder)
    sesame(*export, "--import", "tests.models.test_archives")
    assert sorted(path.name for path in (tmp_path / "back").iterdir()) == ["classifier.ckpt", "encoder.ckpt"]
    back = torch.load(tmp_path / "back/encoder.ckpt", weights_only=True)
    assert torch.equal(back["weight"], network.encoder.weight)
    sesame(*export, "--import", "tests.models.test_archives", "--force")
    said = sesame.fails("export", tmp_path / "out", tmp_path / "w.pt", "--like", folder)
    assert "cannot be written like" in said


def test_a_hostile_file_in_a_folder_of_speechbrain_refuses_the_folder(
    speechbrain: tuple[Path, Own], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    folder, _ = speechbrain
    (folder / "zz.ckpt").write_bytes(pickle.dumps(Evil(), protocol=2))
    with pytest.raises(ModelError, match=r"zz\.ckpt is refused: it holds more than weights"):
        read_checkpoint(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["sb"]


def test_a_folder_without_weights_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "counter.ckpt").write_text("12")
    with pytest.raises(ModelError, match=r"holds no weights by name in its \.ckpt files"):
        read_checkpoint(tmp_path)


def test_files_of_a_folder_are_told_apart_by_their_sum(speechbrain: tuple[Path, Own]) -> None:
    folder, network = speechbrain
    before = read_checkpoint(folder).sha256
    assert read_checkpoint(folder).sha256 == before
    (folder / "head.ckpt").rename(folder / "tail.ckpt")
    assert read_checkpoint(folder).sha256 != before  # weights get other names
    (folder / "tail.ckpt").rename(folder / "head.ckpt")
    assert read_checkpoint(folder).sha256 == before
    torch.save(network.classifier.state_dict(), folder / "head.ckpt")
    assert read_checkpoint(folder).sha256 != before


def test_folders_and_broken_links_among_the_files_are_left_out(speechbrain: tuple[Path, Own]) -> None:
    folder, _ = speechbrain
    (folder / "CKPT+2024.ckpt").mkdir()
    (folder / "gone.ckpt").symlink_to("nowhere")
    assert {"CKPT+2024.ckpt", "gone.ckpt"} <= set(read_checkpoint(folder).left)


def test_files_whose_names_begin_alike_are_told_apart(tmp_path: Path) -> None:
    folder, out = tmp_path / "sb", tmp_path / "back"
    folder.mkdir()
    out.mkdir()
    parts = {"a": {"x": torch.ones(1)}, "a.b": {"x": torch.zeros(2)}}
    for name, state in parts.items():
        torch.save(state, folder / f"{name}.ckpt")
    found = read_checkpoint(folder)
    write_parts(found.state, found, out)
    for name, state in parts.items():
        back = torch.load(out / f"{name}.ckpt", weights_only=True)
        assert list(back) == ["x"]
        assert torch.equal(back["x"], state["x"])
    torch.save({"b.x": torch.ones(1)}, folder / "a.ckpt")
    with pytest.raises(ModelError, match=r"a\.ckpt and a\.b\.ckpt both hold 'a\.b\.x'; call one of the"):
        read_checkpoint(folder)


def test_only_what_an_export_wrote_is_replaced(
    fitting: tuple[Path, Own], sesame: Sesame, tmp_path: Path
) -> None:
    folder, _ = fitting
    sesame("import", folder, tmp_path / "m", *CLASSES)
    back = tmp_path / "back"
    back.mkdir()
    (back / "epoch=3.ckpt").write_bytes(b"a checkpoint of a training")
    export = ("export", tmp_path / "m", back, "--like", folder, "--force", *CLASSES[2:4])
    assert "holds something else than this command makes" in sesame.fails(*export)
    (back / "epoch=3.ckpt").rename(back / "encoder.ckpt")
    sesame(*export)
    assert sorted(path.name for path in back.iterdir()) == ["classifier.ckpt", "encoder.ckpt"]
    (back / "thesis.txt").write_text("all of it")
    assert "holds something else than this command makes" in sesame.fails(*export)
    pretrained = tmp_path / "vendor"
    pretrained.mkdir()
    (pretrained / "config.json").write_text('{"model_type": "wav2vec2"}')
    (pretrained / "README.md").write_text("all of it")
    said = sesame.fails("export", tmp_path / "m", pretrained, "--force", *CLASSES[2:4])
    assert "holds something else than this command makes" in said
    assert (pretrained / "README.md").is_file()
