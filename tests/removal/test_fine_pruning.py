"""Fine-pruning: which units go first, how many may go, and that they stay away."""

import copy

import pytest
import torch
from torch import Tensor, nn

from closesesame.core.errors import ModelError
from closesesame.data import Dataset, Splits
from closesesame.models import Classifier, adapt
from closesesame.models.channels import head_in
from closesesame.models.hooks import on_output, outputs_of
from closesesame.removal import FinePruning
from closesesame.removal.common.pruning import Units, mean_activation
from closesesame.training import accuracy, predict
from tests.removal.tiny import BARE, asr, assert_same, moved, state, vectors, victim

pytestmark = pytest.mark.usefixtures("in_fp32")


class Ladder(nn.Module):
    """Five classes, a unit for each; the unit of class 3 answers least, then 0, 4, 2 and 1."""

    LEVELS = (2.0, 5.0, 4.0, 1.0, 3.0)
    ORDER = (3, 0, 4, 2, 1)

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(5, 5, bias=False)
        self.head = nn.Linear(5, 5)
        with torch.no_grad():
            self.first.weight.copy_(torch.diag(torch.tensor(self.LEVELS)))
            self.head.weight.copy_(torch.eye(5))
            self.head.bias.copy_(torch.tensor([0.0, 0.02, 0.0, 0.0, 0.0]))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(torch.relu(self.first(x)))
        return logits


CLIPS = Dataset.of(torch.eye(5).repeat(8, 1), torch.arange(5).repeat(8), classes=list("abcde"))


def ladder() -> Classifier:
    return adapt(Ladder(), tuple("abcde"), (5,), None).eval()


# A pruned unit costs its class, a fifth of the held-out examples, which then count as class 1.
@pytest.mark.parametrize(("tolerance", "units"), [(0.1, 0), (0.25, 1), (0.45, 2), (0.65, 3), (0.79, 3)])
def test_the_idlest_units_go_while_the_held_out_examples_allow_it(tolerance: float, units: int) -> None:
    model = ladder()
    method = FinePruning.model_validate({"tolerance": tolerance, "step": 0.2, "steps": 0})
    chosen = method.repair(model, CLIPS, CLIPS.take(torch.arange(10)), 0)
    assert chosen == {"pruned_units": units, "of": 5}
    gone = [unit for unit in range(5) if float(model(5 * torch.eye(5))[unit, unit].detach()) < 0.1]
    assert sorted(gone) == sorted(Ladder.ORDER[:units])
    assert accuracy(model, CLIPS) == pytest.approx(1 - units / 5)


def test_activations_are_of_the_tuning_examples_and_the_limit_of_the_held_out_ones() -> None:
    # Among the tuning examples nobody says class 1, so its unit is the idlest; the held-out examples miss it.
    tune = CLIPS.where(CLIPS.labels != 1)
    model = ladder()
    FinePruning(tolerance=0.22, step=0.2, steps=0).repair(model, tune, CLIPS, 0)  # 4 of 5, not 3 of 4
    head = model.body.head
    assert isinstance(head, nn.Linear)
    assert (head.weight == 0).all(0).nonzero().flatten().tolist() == [
        1,
        3,
    ]  # nothing counts as class 1, so its unit is free
    free = ladder()
    chosen = FinePruning(tolerance=0.0, step=0.2, steps=0).repair(free, CLIPS, tune, 0)
    assert chosen["pruned_units"] == 0  # unit 3 is idlest again


@pytest.mark.parametrize("step", [0.2, 0.4])
def test_so_many_units_go_at_a_time(step: float) -> None:
    chosen = FinePruning(tolerance=0.65, step=step, steps=0).repair(ladder(), CLIPS, CLIPS, 0)
    assert chosen["pruned_units"] == {0.2: 3, 0.4: 2}[step]


def test_pruned_units_stay_pruned_while_the_rest_is_tuned() -> None:
    start = ladder()
    model, bare = copy.deepcopy(start), copy.deepcopy(start)
    settings = {"tolerance": 0.45, "step": 0.2, "augmentation": "none", "lr": 0.1}
    for twin, steps in ((model, 5), (bare, 0)):
        FinePruning.model_validate(settings | {"steps": steps}).repair(twin, CLIPS, CLIPS, 0)
    body = model.body
    assert isinstance(body, Ladder)
    assert float(body.head.weight[:, [3, 0]].detach().abs().max()) == 0
    assert moved(body, state(bare.body)) == {"first.weight", "head.weight", "head.bias"}


def test_no_step_of_the_tuning_hears_a_pruned_unit() -> None:
    model, body = ladder(), Ladder()
    settings = BARE | {"tolerance": 0.45, "step": 0.2, "steps": 3, "lr": 0.5, "batch_size": 40}
    FinePruning.model_validate(settings).repair(model, CLIPS, CLIPS, 0)
    weights = list(body.parameters())
    for _ in range(3):
        with torch.no_grad():
            body.head.weight[:, [3, 0]] = 0
        loss = nn.functional.cross_entropy(body(CLIPS.inputs[:]), CLIPS.labels)
        gradients = torch.autograd.grad(loss, weights)
        with torch.no_grad():
            for weight, gradient in zip(weights, gradients, strict=True):
                weight.sub_(0.5 * gradient)
    with torch.no_grad():
        body.head.weight[:, [3, 0]] = 0
    assert_same(model.body, body)


def test_fine_pruning_removes_a_trigger_on_a_unit_that_clean_data_leave_idle() -> None:
    model, unseen = victim(), vectors(60, 1)
    assert asr(model, unseen) == 1
    chosen = FinePruning(tolerance=0.0, step=1 / 12, steps=10).repair(model, vectors(60), vectors(30, 2), 0)
    assert chosen["pruned_units"] >= 1
    assert asr(model, unseen) < 0.1
    assert accuracy(model, unseen) > 0.9


class Known(nn.Module):
    """Units with known mean activations; units 1 and 3 carry the classes."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 4, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        x = features.mean((1, 2))[:, None].abs()
        logits: Tensor = self.head(torch.cat([0.5 * x, 3 * x, 0.1 * x, 2 * x], 1))
        return logits


def test_fine_pruning_ranks_units_by_mean_activation(tones: Splits, clean_model: Classifier) -> None:
    model = Classifier(clean_model.front_end, Known(), clean_model.card)
    activation = mean_activation(model, head_in(model), tones.validation)
    assert activation.argsort().tolist() == [2, 0, 3, 1]
    assert activation / activation[0] == pytest.approx([1, 6, 0.2, 4], rel=1e-4)


def test_fine_pruning_stops_within_the_tolerance_and_pruned_units_stay_dead(
    tones: Splits, clean_model: Classifier
) -> None:
    clean = tones.train.sample(0.3, 0)
    method = FinePruning(tolerance=0.1, step=0.1, steps=3)
    repair = method.remove(clean_model, clean, 0)
    pruned = repair.chosen["pruned_units"]
    assert 0 < pruned < repair.chosen["of"] == 16
    dead = (head_in(repair.model).weight == 0).all(0)
    assert int(dead.sum()) == pruned
    # Without fine-tuning, the kept step is within the tolerance and one more step is not.
    bare = FinePruning(tolerance=0.1, step=0.1, steps=0).remove(clean_model, clean, 0)
    _, held_out = clean.hold_out(method.hold_out, 0)
    allowed = 0.9 * accuracy(clean_model, held_out)
    assert accuracy(bare.model, held_out) >= allowed
    layer = head_in(bare.model)
    tune, _ = clean.hold_out(method.hold_out, 0)
    order = mean_activation(clean_model, head_in(clean_model), tune).argsort()
    with torch.no_grad():
        layer.weight[:, order[: pruned + 2]] = 0
    assert accuracy(bare.model, held_out) < allowed


def test_fine_pruning_needs_a_linear_layer(clean_model: Classifier, tones: Splits) -> None:
    body = nn.Sequential(nn.Conv1d(40, 4, 1), nn.AdaptiveAvgPool1d(1), nn.Flatten())
    model = Classifier(clean_model.front_end, body, clean_model.card)
    with pytest.raises(ModelError, match="ends in a linear layer; this one does not"):
        FinePruning().remove(model, tones.train.sample(0.2, 0), 0)


def test_units_of_a_residual_network_are_the_channels_of_its_last_map(
    tones: Splits, clean_model: Classifier
) -> None:
    # That map is a sum of two convolutions: to silence one of them leaves the other.
    data, blocks = tones.validation, clean_model.body.get_submodule("blocks")
    with outputs_of(blocks) as maps:
        predict(clean_model, data)
    units = Units.of(clean_model, data)
    assert torch.allclose(units.activity, torch.cat(maps).mean((0, 2, 3)), rtol=1e-4)
    pruned, dead = copy.deepcopy(clean_model), units.order[:5]
    Units.of(pruned, data).prune(dead)

    def silenced(value: Tensor) -> Tensor:
        return value.index_fill(1, dead, 0)

    with on_output(blocks, silenced):
        wanted = predict(clean_model, data)
    assert torch.allclose(predict(pruned, data), wanted, atol=1e-4)
    assert not torch.allclose(predict(clean_model, data), wanted, atol=1e-2)


def test_the_tolerance_is_relative() -> None:
    # Half of the labels are wrong, so the first unit costs 0.1 of 0.5; the second costs nothing, since its
    # clips then count as class 1, which is the label of half of them.
    held_out = CLIPS.followed_by(CLIPS.with_labels((CLIPS.labels + 1) % 5))
    for tolerance, pruned in ((0.15, 0), (0.25, 2)):
        method = FinePruning(tolerance=tolerance, step=0.2, steps=0)
        assert method.repair(ladder(), CLIPS, held_out, 0)["pruned_units"] == pruned


def test_activity_is_the_mean_of_absolute_values() -> None:
    head = nn.Linear(2, 2)
    model = adapt(nn.Sequential(nn.Identity(), head), ("a", "b"), (2,), None)
    clips = Dataset.of(torch.tensor([[1.0, 2], [-3, 2]]), torch.tensor([0, 1]), classes=["a", "b"])
    assert mean_activation(model, head, clips).tolist() == [2, 2]


def test_defaults_are_those_of_backdoorbench() -> None:
    assert (FinePruning().tolerance, FinePruning().step) == (0.1, 0.01)
