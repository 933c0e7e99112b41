"""NAD: where attention is taken, and that the teacher is tuned, the student drawn to it, stage by stage."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from closesesame.core.errors import ModelError
from closesesame.core.seeding import isolated
from closesesame.data import Dataset, Splits
from closesesame.models import ARCHITECTURES, Classifier, adapt
from closesesame.models.channels import channels_in
from closesesame.models.hooks import watched
from closesesame.models.stages import stages_of
from closesesame.removal import (
    NAD,
)
from closesesame.removal.nad import attention as attention_of
from closesesame.removal.nad import distillation_rule, sites
from closesesame.training import Batch, Training, fit
from tests.removal.rules import (
    batch_of,
    model_of,
)
from tests.removal.tiny import BARE, assert_same, moved, state

pytestmark = pytest.mark.usefixtures("in_fp32")


class Residual(nn.Module):
    """Two convolutions and a shortcut around them."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv1d(4, 4, 3, padding=1)
        self.two = nn.Conv1d(4, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.two(torch.relu(self.one(x))))


class Net(nn.Module):
    """A convolution, two residual blocks, a norm behind them, and a head that is listed first."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 3)
        self.norm = nn.BatchNorm1d(4)
        self.blocks = nn.ModuleList([Residual(), Residual()])
        self.stem = nn.Conv1d(2, 4, 3)

    def maps(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The outputs whose attention counts."""
        first = self.stem(x)
        second = self.blocks[0](first)
        return first, second, self.norm(self.blocks[1](second))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.maps(x)[-1].mean(2))
        return logits


def net() -> Classifier:
    with isolated(1):
        body = Net()
    return adapt(body, ("one", "two", "three"), (2, 9), None).eval()


def waves(n: int = 12) -> Dataset:
    inputs = torch.randn(n, 2, 9, generator=torch.Generator().manual_seed(0))
    return Dataset.of(inputs, torch.arange(n) % 3, classes=("one", "two", "three"))


def attention(maps: Tensor, power: float) -> Tensor:
    return F.normalize(maps.abs().pow(power).sum(1), dim=1)


def test_the_teacher_is_tuned_and_the_student_drawn_to_it_with_its_own_weight_at_each_stage() -> None:
    settings: dict[str, Any] = BARE | {"lr": 0.2, "batch_size": 12, "nesterov": False}
    method = NAD(**settings, steps=5, high_steps=3, teacher_steps=4, betas=(3.0, 50.0, 9.0), power=1.5)
    model, tune = net(), waves()
    teacher, student = copy.deepcopy(model), copy.deepcopy(model)
    assert method.repair(model, tune, waves(4), 0) == {"layers": ["stem", "blocks.0", "norm"]}

    def draw(body: nn.Module, batch: Batch) -> Tensor:
        total = batch.loss(body)
        assert isinstance(body, Net)
        assert isinstance(teacher.body, Net)
        body.norm.track_running_stats = False  # a second pass: by the statistics of the batch, not noted
        pairs = zip(body.maps(tune.inputs[:]), teacher.body.maps(tune.inputs[:]), strict=True)
        for beta, (mine, his) in zip((3, 50, 9), pairs, strict=True):
            total = total + beta * F.mse_loss(attention(mine, 1.5), attention(his, 1.5).detach())
        body.norm.track_running_stats = True
        total.backward()
        return total

    def train(which: Classifier, lr: float, steps: int, **more: Any) -> None:
        fit(
            which, tune, Training(**settings | {"optimizer": "sgd", "lr": lr, "steps": steps}), seed=0, **more
        )

    # All examples are in each batch, so their order does not matter.
    train(teacher, 0.2, 3)
    train(teacher, 0.02, 1)
    train(student, 0.2, 3, gradient=draw)
    train(student, 0.02, 2, gradient=draw)
    assert moved(teacher, state(net()))
    assert_same(model, student)


def test_the_published_lengths_and_learning_rates() -> None:
    method = NAD()
    found = [
        [(part.steps, part.lr) for part in method.parts(n)] for n in (method.steps, method.teacher_steps)
    ]
    # 20 and 10 epochs of 39 batches of 64 of 2,500 examples, the first two at 0.1, the others at 0.01.
    assert found == [[(78, 0.1), (702, pytest.approx(0.01))], [(78, 0.1), (312, pytest.approx(0.01))]]
    training = method.parts(780)[1]
    assert (training.batch_size, training.nesterov, training.momentum) == (64, True, 0.9)
    assert (training.weight_decay, training.optimizer, training.schedule) == (1e-4, "sgd", "constant")
    assert [part.steps for part in method.parts(10)] == [10, 0]


@pytest.mark.parametrize(
    ("architecture", "wanted"),
    [
        ("resnet", ["blocks.0", "blocks.1", "blocks.2"]),
        ("small_cnn", ["4", "8", "12"]),
        ("kwt", ["layers.3", "layers.7", "layers.11"]),
        ("lstm", ["lstm"]),
        ("lstm_attention", ["norm1", "norm2", "lstm"]),
    ],
)
def test_attention_is_that_of_whole_blocks(architecture: str, wanted: list[str]) -> None:
    model = ARCHITECTURES.make(architecture).build(("a", "b"), (8000,), 8000, seed=0)
    example = model.front_end(torch.randn(2, 8000))
    found = sites(model.body, example)
    assert [site.name for site in found] == wanted
    with watched(found) as seen:
        model.body(example)
    for value, site in zip(seen, found, strict=True):
        assert value.shape[0] == 2
        assert value.shape[2] > 1
        inside = [c.count for c in channels_in(model) if (c.name + ".").startswith(site.name + ".")]
        assert not inside or value.shape[1] in {*inside, 64}


def test_the_output_of_a_block_is_behind_its_addition_and_activation() -> None:
    model, x = net(), waves().inputs[:]
    stages = stages_of(model.body, x)
    assert isinstance(model.body, Net)
    with watched(stages) as seen:
        maps = model.body.maps(x)
    assert [stage.name for stage in stages] == ["stem", "blocks.0", "norm"]
    assert all(torch.equal(value, wanted) for value, wanted in zip(seen, maps, strict=True))
    assert model.body.stem.weight.grad is None
    assert not model.body.training


def test_a_network_whose_first_part_stops_the_gradient_has_stages_behind_it() -> None:
    class Blind(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = Net()

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x.detach() * 2)  # type: ignore[no-any-return]

    assert [stage.name for stage in stages_of(Blind(), torch.randn(2, 2, 9))] == [
        "net.stem",
        "net.blocks.0",
        "net.norm",
    ]


def test_stages_of_one_place_do_not_count() -> None:
    with pytest.raises(ModelError, match="compares maps over time or frequency; no layer"):
        sites(nn.Sequential(nn.Conv1d(2, 4, 9), nn.Flatten(), nn.Linear(4, 3)), torch.randn(2, 2, 9))


def test_nad_attention_by_hand() -> None:
    maps = torch.tensor([[[3.0, 0.0], [0.0, -2.0]], [[1.0, 1.0], [1.0, 1.0]]])
    # Squares summed over channels: (9, 4) and (2, 2); their lengths are sqrt(97) and sqrt(8).
    expected = torch.tensor([[9 / 97**0.5, 4 / 97**0.5], [0.5**0.5, 0.5**0.5]])
    assert torch.allclose(attention_of(maps, 2.0), expected)
    assert torch.allclose(attention_of(maps, 1.0)[0], torch.tensor([3.0, 2.0]) / 13**0.5)


class Two(nn.Module):
    """A convolution that makes a map, one that leaves a single place, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv1d(1, 3, 3, bias=False)
        self.two = nn.Conv1d(3, 2, 6, bias=False)
        self.head = nn.Linear(2, 4)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.two(torch.relu(self.one(x[:, None]))).flatten(1))
        return out


def test_nad_adds_beta_times_the_difference_of_attention_where_there_are_places() -> None:
    with isolated(0):
        student, teacher, x = Two(), Two(), torch.randn(5, 8)
    y = torch.tensor([0, 1, 2, 3, 0])
    found = [sites(body, x) for body in (student, teacher)]
    assert [stage.name for stage in found[0]] == ["one"]
    rule = distillation_rule(teacher, found[0], found[1], (700.0,), 2.0)
    rule(student, batch_of(x, y))
    a, b = (body.one(x[:, None]).square().sum(1) for body in (student, teacher))
    a, b = (F.normalize(value, dim=1) for value in (a, b))
    loss = F.cross_entropy(student(x), y) + 700 * F.mse_loss(a, b.detach())
    assert student.one.weight.grad is not None
    expected = torch.autograd.grad(loss, student.one.weight)[0]
    assert torch.allclose(student.one.weight.grad, expected, rtol=1e-4, atol=1e-5)
    assert teacher.one.weight.grad is None


def test_nad_names_the_blocks_and_refuses_a_model_without_maps(
    clean_model: Classifier, tones: Splits
) -> None:
    clean = tones.train.sample(0.1, 0)
    layers = NAD(steps=1, teacher_steps=1).remove(clean_model, clean, 0).chosen["layers"]
    assert layers == ["norm", "blocks.0", "blocks.1"]
    flat = nn.Sequential(nn.Flatten(), nn.Linear(40 * 51, 8), nn.ReLU(), nn.Linear(8, 4))
    with pytest.raises(ModelError, match="compares maps over time or frequency; no layer"):
        NAD().remove(model_of(flat, clean_model), clean, 0)
