"""REFINE: the losses by hand, where the classes go, what is trained, and what it does to a backdoor."""

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from closesesame import training
from closesesame.core.errors import DivergedError, ModelError
from closesesame.core.seeding import generator
from closesesame.data import Dataset, Splits
from closesesame.models import Classifier, adapt, load_model, save_model
from closesesame.models.files import sha256_of
from closesesame.models.onnx_export import to_onnx
from closesesame.removal import FT, Refine, refine
from closesesame.removal.refine import UNet, other_places, reorder, supervised_contrast
from closesesame.testing.examples import OwnConvolutions
from closesesame.training import Training, predict
from tests.removal.planted import BANDS, CLASSES, FRAMES, Planted, clips, planted, rates
from tests.removal.tiny import NAMES, body_of, moved, state, tiny, vectors

pytestmark = pytest.mark.usefixtures("in_fp32")
SHORT: dict[str, object] = {"width": 4, "depth": 2, "batch_size": 40, "augmentation": "none"}


# The losses


def test_the_contrastive_loss_of_three_vectors() -> None:
    # Cosines: 1 and 2 are 0.6, 1 and 3 are 0, 2 and 3 are 0.8; lengths do not count. Each is there twice.
    vectors = torch.tensor([[2.0, 0.0], [3.0, 4.0], [0.0, 5.0]])
    a, b, c = (math.exp(2 * cosine) for cosine in (0.6, 0.0, 0.8))
    one = math.exp(2)
    # Anchors 1 and 2 have three of their class: their copy at 1, and the other, twice, at 0.6.
    first = math.log(one + 2 * a + 2 * b) - (2 + 2 * 1.2) / 3
    second = math.log(one + 2 * a + 2 * c) - (2 + 2 * 1.2) / 3
    third = math.log(one + 2 * b + 2 * c) - 2  # its copy alone
    loss = supervised_contrast(vectors, torch.tensor([5, 5, 1]), 0.5)
    assert float(loss) == pytest.approx((first + second + third) / 3, abs=1e-5)
    assert float(supervised_contrast(vectors, torch.tensor([5, 1, 5]), 0.5)) != pytest.approx(float(loss))


def test_all_numbers_of_an_example_count_and_the_defaults_are_finite_with_a_slope() -> None:
    maps = torch.randn(6, 3, 5, generator=torch.Generator().manual_seed(0)).requires_grad_()
    labels = torch.arange(6) % 2
    loss = supervised_contrast(maps, labels, 0.07)
    flat = supervised_contrast(maps.detach().flatten(1), labels, 0.07)
    assert float(loss.detach()) == pytest.approx(float(flat))
    loss.backward()
    assert maps.grad is not None
    assert bool(maps.grad.isfinite().all())
    assert float(maps.grad.abs().min()) > 0


def mixed(features: Tensor) -> Tensor:
    """What the network in front makes of maps, where it is set: half of each band in its opposite."""
    return features + 0.5 * features.flip(1)


@contextmanager
def losses_of_steps() -> Iterator[list[float]]:
    """What `fit` gets back from each step."""
    seen: list[float] = []

    def fit(*args: object, gradient: object, **more: object) -> object:
        def noting(body: nn.Module, batch: object) -> Tensor:
            loss: Tensor = gradient(body, batch)  # type: ignore[operator]
            seen.append(float(loss))
            return loss

        return training.fit(*args, gradient=noting, **more)  # type: ignore[arg-type]

    with mock.patch.object(refine, "fit", fit):
        yield seen


def expected_loss(model: Classifier, x: Tensor, order: list[int]) -> float:
    """The mean over all outputs behind the mapping; the classes are those of the suspect without anything."""
    p, said = model.body(mixed(x)).softmax(1).tolist(), model.body(x).argmax(1).tolist()
    total = 0.0
    for row, label in enumerate(said):
        for place, old in enumerate(order):  # what stands at a place is what the suspect had at `old`
            total -= math.log(p[row][old] if place == label else 1 - p[row][old])
    return total / (len(x) * len(order))


@pytest.mark.parametrize(("contrast", "temperature"), [(0.0, 0.07), (0.1, 0.07), (0.7, 0.5)])
def test_the_loss_is_of_every_output_and_of_what_the_network_in_front_makes(
    contrast: float, temperature: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(UNet, "forward", lambda net, x: mixed(x) + 0 * net.last.weight.sum())
    model, data = planted(), clips(12)
    # The labels are wrong, and put others together: they are not looked at.
    wrong = Dataset.of(data.inputs[:], torch.arange(12) // 3, classes=CLASSES)
    method = Refine(steps=1, contrast=contrast, temperature=temperature, batch_size=12, augmentation="none")
    with losses_of_steps() as seen:
        chosen = method.repair(copy.deepcopy(model), wrong, clips(8, 5), 0)
    x = data.inputs[:]
    together = supervised_contrast(mixed(x), model(x).argmax(1), temperature)
    wanted = expected_loss(model, x, chosen["order"]) + contrast * float(together)
    assert seen == [pytest.approx(wanted, rel=1e-4)]


# Where the classes go


@pytest.mark.parametrize("classes", [2, 3, 4, 11])
def test_no_class_keeps_its_place(classes: int) -> None:
    orders = [other_places(classes, generator(seed, "mapping")) for seed in range(40)]
    for order in orders:
        assert sorted(order.tolist()) == list(range(classes))
        assert not bool((order == torch.arange(classes)).any())
    assert len({tuple(order.tolist()) for order in orders}) == {2: 1, 3: 2, 4: 9}.get(classes, 40)


def test_the_rows_of_the_last_layer_are_turned_and_nothing_else() -> None:
    model = tiny()
    before, x = state(model), vectors(6).inputs[:]
    logits = model(x)
    reorder(model, torch.tensor([2, 0, 1]), x)
    assert moved(model, before) == {"body.head.weight", "body.head.bias"}
    assert torch.equal(model(x), logits[:, [2, 0, 1]])
    assert torch.equal(body_of(model).head.bias, before["body.head.bias"][[2, 0, 1]])


@pytest.mark.parametrize("kind", ["convolution", "parametrized", "scaled"])
def test_a_model_whose_logits_do_not_come_straight_from_a_linear_layer_is_refused(
    kind: str, tones: Splits
) -> None:
    if kind == "convolution":
        model, data = adapt(OwnConvolutions(), tones.train.classes, (4000,), 8000), tones.validation
    else:
        model, data = tiny(), vectors(12)
        if kind == "parametrized":
            parametrizations.weight_norm(model.body.head)  # type: ignore[arg-type]
        else:
            model = adapt(Scaled(model.body), NAMES, (5,), None).eval()
    with pytest.raises(
        ModelError, match="this model has no features before a linear layer that makes them as"
    ):
        Refine(steps=1, **SHORT).repair(model, data, data, 0)


class Scaled(nn.Module):
    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.body(x) * torch.tensor([1.0, 2.0, 3.0])
        return logits


def test_features_of_another_kind_are_refused() -> None:
    with pytest.raises(
        ModelError, match=r"refine changes waveforms, maps and pictures, not features of \(1, 2"
    ):
        UNet((1, 2, 3, 4), 4, 2)


# What is trained


def test_of_the_suspect_the_order_of_the_classes_alone_is_changed() -> None:
    model = planted()
    before = state(model)
    wanted = [weight.requires_grad for weight in model.body.parameters()]
    chosen = Refine(steps=5, **SHORT).repair(model, clips(), clips(8, 5), 0)
    body = model.body.state_dict()
    assert torch.equal(body.pop("head.weight"), before["body.head.weight"][chosen["order"]])
    assert all(torch.equal(value, before[f"body.{name}"]) for name, value in body.items())
    assert [weight.requires_grad for weight in model.body.parameters()] == wanted
    assert all(weight.grad is None for weight in model.parameters())


def test_batch_norms_keep_their_statistics_and_vectors_can_be_changed_too() -> None:
    model = tiny()
    before = state(model.body)
    Refine(steps=3, **SHORT).repair(model, vectors(30), vectors(6, 1), 0)
    assert moved(model.body, before) == {"head.weight", "head.bias"}


def test_the_network_in_front_is_trained_for_as_long_as_it_is_told_and_is_drawn_by_the_seed() -> None:
    def front(seed: int = 0, data: Dataset | None = None, **settings: object) -> dict[str, Tensor]:
        model = planted()
        method = Refine(**{"steps": 2, **SHORT, **settings})
        method.repair(model, clips() if data is None else data, clips(8, 5), seed)
        return model.front_end.state_dict()

    def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
        return all(torch.equal(value, other[name]) for name, value in one.items())

    again = Dataset.of(clips().inputs[:], torch.arange(40) // 10, classes=CLASSES)
    assert same(front(), front())
    assert same(front(), front(data=again))  # labels are not looked at
    others = [{"seed": 1}, {"steps": 3}, {"lr": 0.02}, {"contrast": 0.0}, {"temperature": 1.0}]
    others += [{"momentum": 0.0}, {"augmentation": "light"}, {"schedule": "cosine", "steps": 3}]
    assert not any(same(front(), front(**other)) for other in others)  # type: ignore[arg-type]
    assert not same(front(steps=0), front(seed=1, steps=0))  # the weights, before any training
    assert front(steps=3)["network.down.0.1.num_batches_tracked"] == 3


def test_order_of_classes_and_of_clips_come_from_the_seed() -> None:
    orders = []
    for seed in range(6):
        with mock.patch.object(refine, "fit") as fit:
            orders.append(Refine(**SHORT).repair(planted(), clips(), clips(8, 5), seed)["order"])
        assert fit.call_args.kwargs["seed"] == seed
    assert len(set(map(tuple, orders))) > 2


@pytest.mark.parametrize("shape", [(5,), (4000,), (1,), (8, 6), (40, 51), (3, 12, 12), (1, 1)])
def test_what_it_makes_has_the_shape_of_the_features_and_keeps_within_their_range(
    shape: tuple[int, ...],
) -> None:
    network = UNet(shape, 2, 4)
    features = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
    network.low.fill_(-0.125)
    network.high.fill_(0.25)
    changed = network(100 * features)
    assert changed.shape == features.shape
    assert -0.125 <= float(changed.detach().min()) <= float(changed.detach().max()) <= 0.25


def test_the_range_is_that_of_the_clips_to_tune_on() -> None:
    model, data = planted(), clips()
    Refine(steps=1, **SHORT).repair(model, data, clips(8, 5), 0)
    network = model.front_end.network
    assert isinstance(network, UNet)
    assert (network.low, network.high) == (data.inputs[:].min(), data.inputs[:].max())
    assert (network.shape, network.width, network.depth) == ((BANDS, FRAMES), 4, 2)
    weights = network.state_dict()
    assert weights["last.weight"].shape[:2] == (1, 4)
    assert [len(weights[f"down.{level}.0.weight"]) for level in range(3)] == [4, 8, 8]


def test_what_is_fine_gets_around_what_is_coarse() -> None:
    network, x = UNet((8, 6), 2, 2).eval(), clips(2).inputs[:]
    network.high.fill_(9)
    network.low.fill_(-9)
    weights = network.state_dict()
    weights["up.1.0.weight"][:, 2:] = 0  # nothing coarse comes back; two channels of full size do
    assert float((network(x)[0] - network(x)[1]).detach().abs().max()) > 1e-3


# What comes of it


@pytest.mark.parametrize("target", [2, 3])
def test_it_takes_the_power_from_a_planted_trigger(target: int) -> None:
    model = planted(target, strength=6.0)
    assert rates(model, target) == (1, 1)
    Refine(steps=80, **SHORT).repair(model, clips(), clips(8, 5), 0)
    accuracy, asr = rates(model, target)
    assert accuracy > 0.95
    assert asr < 0.1


def test_the_repaired_model_is_a_model_folder_like_any_other(
    clean_model: Classifier, tones: Splits, tmp_path: Path
) -> None:
    repair = Refine(steps=4, width=2, depth=2).remove(clean_model, tones.validation, 0)
    repaired, inputs = repair.model, tones.test.inputs[:5]
    assert (repaired.card.classes, repaired.card.input_shape) == (clean_model.card.classes, (4000,))
    assert clean_model.card.architecture == "resnet"
    read = load_model(save_model(repaired, tmp_path / "repaired"))
    assert torch.equal(read(inputs), repaired(inputs))
    assert not torch.allclose(read(inputs), clean_model(inputs), atol=1e-2)
    assert sha256_of(read) == sha256_of(repaired) != sha256_of(clean_model)
    assert repair.remarks[0].startswith("only the model as a whole is repaired")
    # It is repaired again, by training and by the method itself, and saved again.
    again = FT(steps=1).remove(read, tones.validation, 0).model
    assert torch.equal(again.front_end(inputs), read.front_end(inputs))
    twice = Refine(steps=1, width=2, depth=1).remove(read, tones.validation, 1).model
    assert torch.equal(load_model(save_model(twice, tmp_path / "twice"))(inputs), twice(inputs))


def test_the_network_in_front_learns_nothing_from_later_trainings(
    clean_model: Classifier, tones: Splits
) -> None:
    model = Refine(steps=2, width=2, depth=2).remove(clean_model, tones.validation, 0).model
    before = state(model.front_end)
    model.train()
    model.front_end(tones.test.inputs[:5])
    assert not moved(model.front_end, before)
    assert model.body.training
    assert not any(weight.requires_grad for weight in model.front_end.parameters())
    # Beside that it is the front end that the model had.
    assert model.front_end.augmentation("light") is clean_model.front_end.augmentation("light") is not None
    model.front_end.calibrate(tones.test.take(torch.arange(8)))
    assert moved(model.front_end, before) == {"before.mean", "before.deviation"}


def test_it_can_be_exported(clean_model: Classifier, tones: Splits) -> None:
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    model = Refine(steps=2, width=2, depth=2).remove(clean_model, tones.validation, 0).model
    assert to_onnx(model)  # which compares the logits


def test_a_network_of_ones_own_is_reprogrammed_where_it_stands() -> None:
    repair = Refine(steps=1, **SHORT).remove(Planted(), clips(), 0)
    assert isinstance(repair.model.body, Planted)
    assert predict(repair.model, clips()).shape == (40, 4)
    assert repair.model.card.architecture == "external"


def test_the_defaults_are_those_of_the_code() -> None:
    method = Refine()
    assert (method.contrast, method.temperature, method.depth) == (0.1, 0.07, 4)
    assert (method.optimizer, method.lr, method.momentum, method.weight_decay) == ("sgd", 0.01, 0.9, 5e-4)
    assert (method.batch_size, method.steps) == (256, 150 * -(-2500 // 256))
    assert method.training() == Training(
        optimizer="sgd",
        lr=0.01,
        steps=1500,
        batch_size=256,
        momentum=0.9,
        weight_decay=5e-4,
        schedule="constant",
        augmentation="light",
    )


def test_a_training_that_diverges_names_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    made = UNet.forward
    monkeypatch.setattr(UNet, "forward", lambda network, features: made(network, features) * torch.nan)
    with pytest.raises(DivergedError, match=r"lower lr, which is 0\.25"):
        Refine(**SHORT, steps=2, lr=0.25).remove(tiny(), vectors(40), 0)
