"""Networks that are not ours: adapted, saved with their source, loaded if that was imported, and trained."""

import importlib
import json
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from closesesame.core.errors import ModelError, SettingError
from closesesame.data import Splits
from closesesame.models import ARCHITECTURES, adapt, load_model, save_model
from closesesame.removal import FT, Scratch
from closesesame.training import Training, accuracy, predict, train

from .conftest import WORDS

SHAPE, RATE = (4000,), 8000
MADE: list[str] = []


class Net(nn.Module):
    """Waveforms to four logits, with a batch norm for the statistics that a file must hold."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, width, 64, stride=16)
        self.norm = nn.BatchNorm1d(width)
        self.head = nn.Linear(width, 4)

    def forward(self, wav: Tensor) -> Tensor:
        logits: Tensor = self.head(self.norm(self.conv(wav[:, None])).abs().mean(2))
        return logits


def make_network() -> Net:
    MADE.append("made")
    return Net(width=6)


def says_nothing():  # type: ignore[no-untyped-def]
    MADE.append("says nothing")
    return Net()


def wants_a_width(width: int) -> nn.Module:
    return Net(width)


def lies() -> nn.Module:
    return "no network"  # type: ignore[return-value]


def fails() -> nn.Module:
    raise KeyError("weights of another computer")


def reads_its_weights() -> nn.Module:
    """As networks do whose layers are drawn from numbers in a tensor."""
    net = Net()
    float(net.head.weight.detach().sum())
    return net


@pytest.mark.parametrize("name", ["make_network", "Net", "reads_its_weights"])
def test_a_network_with_a_source_is_saved_and_loaded(name: str, tones: Splits, tmp_path: Path) -> None:
    source = f"{__name__}:{name}"
    network = {"make_network": make_network}.get(name, Net)()
    with torch.no_grad():
        network(tones.train.inputs[:64])  # statistics that fresh ones are not
    model = adapt(network.eval(), WORDS, SHAPE, RATE, source=source)
    assert model.body is network
    again = load_model(save_model(model, tmp_path / "m"))
    assert torch.equal(predict(again, tones.test), predict(model, tones.test))
    assert again.card == model.card
    assert json.loads((tmp_path / "m" / "config.json").read_text())["architecture"] == source


def test_without_a_source_it_cannot_be_saved(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="can be saved if `adapt` knows its source"):
        save_model(adapt(Net(), WORDS, SHAPE, RATE), tmp_path / "m")
    with pytest.raises(ModelError, match=r"does not fit .*lacks"):
        save_model(adapt(nn.Linear(4000, 4), WORDS, SHAPE, RATE, source=f"{__name__}:Net"), tmp_path / "m")
    assert not list(tmp_path.iterdir())


def test_its_code_is_not_imported_because_a_file_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tones: Splits
) -> None:
    (tmp_path / "your_networks.py").write_text(
        "from torch import nn\ndef small() -> nn.Module:\n    return nn.Linear(4000, 4)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    model = adapt(nn.Linear(4000, 4), WORDS, SHAPE, RATE, source="your_networks:small")
    save_model(model, tmp_path / "m")
    monkeypatch.delitem(sys.modules, "your_networks")
    with pytest.raises(ModelError, match="import 'your_networks' first"):
        load_model(tmp_path / "m")
    assert "your_networks" not in sys.modules
    importlib.import_module("your_networks")
    assert torch.equal(predict(load_model(tmp_path / "m"), tones.test), predict(model, tones.test))


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("tempfile:mkdtemp", "must be a class of torch modules"),
        ("os:getcwd", "must be a class of torch modules"),
        ("builtins:exit", "must be a class of torch modules|is not in"),
        (f"{__name__}:says_nothing", "a function annotated to return one"),
        (f"{__name__}:wants_a_width", "must make its network without arguments"),
        (f"{__name__}:lies", "must make a torch module, got str"),
        (f"{__name__}:fails", "cannot make a network .*weights of another computer"),
        (f"{__name__}:no_such_thing", "is not in"),
    ],
)
def test_a_file_calls_nothing_that_makes_no_network(source: str, sentence: str, tmp_path: Path) -> None:
    folder = save_model(adapt(Net(), WORDS, SHAPE, RATE, source=f"{__name__}:Net"), tmp_path / "m")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"architecture": source}))
    MADE.clear()
    with pytest.raises(ModelError, match=sentence):
        load_model(folder)
    assert not MADE


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("os:getcwd", "must be a class of torch modules, or a function annotated to return one"),
        (f"{__name__}:says_nothing", "a function annotated to return one"),
        (f"{__name__}:wants_a_width", "without arguments"),
        (f"{__name__}:nothing", "must be a class"),
        (__name__, "must be a class"),
        ("no_such_module:Net", "cannot be imported"),
    ],
)
def test_a_wrong_source_is_refused_when_it_is_given(source: str, sentence: str) -> None:
    with pytest.raises(SettingError, match=sentence):
        adapt(Net(), WORDS, SHAPE, RATE, source=source)


def test_a_source_and_a_front_end_of_its_own_are_refused() -> None:
    with pytest.raises(SettingError, match="make the front end part of the module"):
        adapt(Net(), WORDS, SHAPE, RATE, nn.Identity(), source=f"{__name__}:Net")


def test_it_is_an_architecture_that_can_be_trained_from_fresh_weights_and_repaired(tones: Splits) -> None:
    architecture = ARCHITECTURES.make(f"{__name__}:make_network")
    assert architecture.full_name() == architecture.name == f"{__name__}:make_network"
    assert architecture == ARCHITECTURES.recall(architecture.full_name(), architecture.settings())
    with pytest.raises(SettingError, match="has no setting 'width'"):
        ARCHITECTURES.make(f"{__name__}:Net", {"width": 4})
    one, same, other = (architecture.build(WORDS, SHAPE, RATE, seed=seed) for seed in (0, 0, 1))
    weights = [model.state_dict()["body.head.weight"] for model in (one, same, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    settings = Training(epochs=30, batch_size=32, lr=0.05, augmentation="none", precision="fp32")
    model = train(architecture, tones.train, settings, seed=0)
    assert accuracy(model, tones.test) > 0.6
    repaired = FT(steps=2).remove(model, tones.validation, 0).model
    assert repaired.card == model.card
    anew = Scratch(steps=0).remove(model, tones.validation, 0).model
    assert not torch.equal(anew.state_dict()["body.head.weight"], model.state_dict()["body.head.weight"])
