"""Attacks that move clips of the target class: how near these come to triggered clips, and what that costs.

python -m benchmarks clean_label DATA [ATTACK ...]

DATA is a folder with `keywords10`. An ATTACK is a line of the table, such as `drl_clba: anchor`; all by
default. What is measured again takes the place of its row. One head stands for all rows, so the other rows
must have been measured by the same version, on the same machine and as `about` says; else all are measured.
"""

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float32
from torch import Tensor, nn

from closesesame import __version__, load_splits
from closesesame.attacks import DRLCLBA, FeatureCollision, Trigger
from closesesame.attacks.common.collision import CollisionAttack, Goal, Mode
from closesesame.bench.results import write_result
from closesesame.core.machine import host
from closesesame.core.types import Wave
from closesesame.data import Dataset
from closesesame.evaluation.stealth import measure_stealth, spread

from . import RESULTS

OUT = RESULTS / "clean_label.json"
SEED, RATE, BATCH = 0, 0.05, 64
SHARES = (0.1, 0.5, 0.9)
"""Quantiles of distances that are drawn."""
MODES: tuple[Mode, ...] = ("anchor_stego", "anchor", "gradient")
EQUAL_STEPS = 35
"""Steps of feature_collision that give the surrogate as many passes as the agent's training and moves do."""
ATTACKS: dict[str, CollisionAttack] = {
    **{
        f"{kind.name}: {mode}": kind(mode=mode, rate=RATE)
        for kind in (DRLCLBA, FeatureCollision)
        for mode in MODES
    },
    **{
        f"feature_collision: {mode}, {EQUAL_STEPS} steps": FeatureCollision(
            mode=mode, rate=RATE, steps=EQUAL_STEPS
        )
        for mode in MODES[:2]
    },
    "drl_clba: anchor_stego, discount 0.99": DRLCLBA(rate=RATE, discount=0.99),
}
ABOUT = (
    f"Half of the target class of keywords10 is poisoned ({100 * RATE:g} % of all clips). Distance: of a "
    "clip from the anchor that it is moved to, squared, over the variance of the anchors; in mode `gradient` "
    "1 less the cosine of its gradient with that of triggered clips. Clean: of the clips as they were. "
    "Carried: before they are moved, with the key where poisoned clips hold it. Moved: as they are planted. "
    "Bits: share of the 32 of the key that the reading network finds in planted clips, and in clips of other "
    "classes with the trigger as it is played. "
    "Forward and backward: clips that the surrogate was given, in the agent's training, too; where backward "
    f"counts as two forward, {EQUAL_STEPS} steps of feature_collision are as many passes as the agent makes. "
    "SNR, PESQ and STOI compare planted with clean clips. Seconds are processor time, with the "
    "training of the networks that hide and without that of the surrogate."
)


def measured(
    name: str, attack: CollisionAttack, train: Dataset, seed: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The row of one attack, and what is drawn of it: quantiles of distances, and the agent's curve."""
    surrogate = attack.train_surrogate(train, seed)  # is kept for this data set
    with counted(surrogate) as passes:
        start = time.process_time()
        trigger = attack.trigger(train, seed)
        poisoned = attack.poison(train, seed, trigger=trigger)
        seconds = time.process_time() - start
    rows = poisoned.poisoned_mask.nonzero().flatten()
    clean, moved = train.inputs[rows], poisoned.dataset.inputs[rows]
    goal = attack.goal(train, trigger, seed)
    carried = attack.carried(clean, trigger)
    anchors = goal.nearest(asked(goal, carried)[0])
    far = {
        what: distances(goal, clips, anchors)
        for what, clips in (("clean", clean), ("carried", carried), ("moved", moved))
    }
    others = train.where(train.labels != trigger.target)
    played = trigger.stamp(others.inputs[spread(len(others))])
    judged = spread(len(rows))
    changes = measure_stealth(clean[judged], moved[judged], trigger.signal.hz)
    curve = trigger.state.get("curve", torch.zeros(0))
    tenth = -(-len(curve) // 10)
    row = {
        "attack": name,
        "clips": len(rows),
        **{f"distance, {what}": float(values.mean()) for what, values in far.items()},
        "nearer": float((far["moved"] < far["carried"]).float().mean()),
        "bits, planted": bits_read(attack, moved, trigger),
        "bits, played": bits_read(attack, played, trigger),
        "reward, first tenth": float(curve[:tenth].mean()) if tenth else None,
        "reward, last tenth": float(curve[-tenth:].mean()) if tenth else None,
        "forward": passes["forward"],
        "backward": passes["backward"],
        "snr_db": changes.snr_db,
        "pesq": changes.pesq,
        "stoi": changes.stoi,
        "seconds": round(seconds, 1),
    }
    quantiles = {what: values.quantile(torch.tensor(SHARES)).tolist() for what, values in far.items()}
    return row, {"attack": name, **quantiles, "curve": [round(value, 4) for value in curve.tolist()]}


@contextmanager
def counted(model: nn.Module) -> Iterator[dict[str, int]]:
    """Counts the clips that a model is given, and those whose answers can be followed backwards."""
    found = {"forward": 0, "backward": 0}

    def count(_module: nn.Module, _inputs: Any, logits: Tensor) -> None:
        found["forward"] += len(logits)
        found["backward"] += len(logits) * logits.requires_grad

    hook = model.register_forward_hook(count)
    try:
        yield found
    finally:
        hook.remove()


@torch.no_grad()
def bits_read(attack: CollisionAttack, clips: Wave, trigger: Trigger) -> float:
    """The share of the key's bits that the reading network finds in clips."""
    found = attack.keys_in(clips, trigger.state, trigger.signal)
    return float(((found > 0) == (trigger.state["key"] > 0)).float().mean())


@torch.no_grad()
def asked(goal: Goal, clips: Wave) -> tuple[Tensor, Tensor]:
    """Features and logits of all clips."""
    parts = [goal.ask(batch) for batch in clips.split(BATCH)]
    features, logits = (torch.cat(list(of)) for of in zip(*parts, strict=True))
    return features, logits


def distances(goal: Goal, clips: Wave, anchors: Tensor) -> Float32[Tensor, " batch"]:
    """How far each clip is from its anchor."""
    return goal.distance(*asked(goal, clips), anchors)


def kept(head: Mapping[str, Any], names: Sequence[str]) -> dict[str, tuple[Any, Any]]:
    """The rows of the file that are not measured again, and what is drawn of them, by attack.

    Exits if they cannot stand under the head of the rows that are: they were not measured alike.
    """
    if not OUT.is_file():
        return {}
    old = json.loads(OUT.read_text(encoding="utf-8"))
    found = {row["attack"]: (row, drawn) for row, drawn in zip(old["rows"], old["drawn"], strict=True)}
    found = {name: found[name] for name in ATTACKS if name in found and name not in names}
    if found and (other := [key for key, value in head.items() if old.get(key) != value]):
        sys.exit(f"{OUT.name} has another {', '.join(other)}; measure all attacks: name none")
    return found


def main() -> int:
    """Measures the attacks that are named, and writes the file."""
    data, *names = sys.argv[1:] or sys.exit(__doc__ or "")
    if unknown := set(names) - set(ATTACKS):
        sys.exit(f"{', '.join(sorted(unknown))}: not one of {', '.join(ATTACKS)}")
    head = {"recipe": OUT.stem, "about": ABOUT, "version": __version__, "host": host()}
    found = kept(head, names or list(ATTACKS))
    train = load_splits(Path(data) / "keywords10").train
    for name in names or ATTACKS:
        found[name] = measured(name, ATTACKS[name], train, SEED)
        rows, drawn = zip(*(found[name] for name in ATTACKS if name in found), strict=True)
        write_result(head | {"rows": list(rows), "drawn": list(drawn)}, OUT)
        print(json.dumps(found[name][0]), flush=True)
    return 0
