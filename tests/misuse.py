"""What a user may hand in wrongly, tried without the type checks of the tests; prints what came of it."""

# mypy: ignore-errors
import json
import sys
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from closesesame import (
    Dataset,
    Exam,
    Splits,
    Training,
    accuracy,
    adapt,
    fit,
    load_splits,
    predict,
    save_model,
    train,
)
from closesesame.attacks import BadNets, poison_several
from closesesame.core.errors import ClosesesameError
from closesesame.models import ResNet

folder = Path(sys.argv[1])
rng = torch.Generator().manual_seed(0)
sound = 0.1 * torch.randn(48, 4000, generator=rng)
labels = torch.arange(48) % 4
usual = {"inputs": sound, "labels": labels, "classes": list("abcd"), "sample_rate": 8000}


def of(**more):
    return Dataset.of(**(usual | more))


good = of()
trigger = BadNets(duration_s=0.1).trigger(good, 0)
model = train(ResNet(widths=(8, 16)), good, Training(epochs=0), seed=0)


class Says(nn.Module):
    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def forward(self, wav):
        return self.answer(wav)


one = Says(lambda wav: torch.randn(1, 4))
two = Says(lambda wav: (torch.randn(len(wav), 4), None))
wide = Says(lambda wav: torch.randn(len(wav), 4) @ torch.randn(5, 4))
varied = Says(lambda wav: torch.eye(4)[(1000 * wav.abs().sum(1)).long() % 4])
same = Says(lambda wav: torch.eye(4)[torch.zeros(len(wav), dtype=torch.long)])
poisoned = BadNets(rate=0.1, duration_s=0.1).poison(good, 0)
fewer = of(inputs=sound[:40], labels=labels[:40])
none = good.take(torch.arange(0))
turned = good.with_classes(tuple("dcba"))
cases = {
    "one answer for a whole batch": lambda: Exam(good, trigger).score(one),
    "an answer that is no tensor": lambda: Exam(good, trigger).score(two),
    "a network of another size": lambda: Exam(good, trigger).score(wide),
    "a reference that tells nothing apart": lambda: Exam(good, trigger, same),
    "triggered clips of others": lambda: Exam(good, trigger, triggered=other_clips()),
    "accuracy of nothing": lambda: accuracy(model, none),
    "batches of none": lambda: predict(model, good, batch_size=0),
    "batches of less": lambda: predict(model, good, batch_size=-1),
    "another task": lambda: load_splits(folder, task="banana"),
    "another split": lambda: load_splits(folder, split="banana"),
    "a rate in words": lambda: load_splits(folder, sample_rate="16k"),
    "a rate that is half": lambda: load_splits(folder, sample_rate=16000.5),
    "splits of others": lambda: poisoned.save(folder / "p", Splits(fewer, fewer, fewer)),
    "labels that are floats": lambda: of(labels=labels.float()),
    "labels in a table": lambda: of(labels=labels[:, None]),
    "labels in a list": lambda: of(labels=labels.tolist()),
    "sounds in double precision": lambda: of(inputs=sound.double()),
    "sounds in whole numbers": lambda: of(inputs=(sound * 32768).to(torch.int16)),
    "sounds that are not scaled": lambda: of(inputs=sound * 32768),
    "a rate of nobody": lambda: of(sample_rate=0),
    "a mask of another length": lambda: good.where(torch.ones(3, dtype=torch.bool)),
    "true as a target": lambda: good.label_of(True),
    "classes in one word": lambda: adapt(one, "abcd", (4000,), 8000),
    "classes that are the same": lambda: adapt(one, ("a", "a"), (4000,), 8000),
    "no attacks": lambda: poison_several([], good, 0),
    "a card that is no JSON": lambda: save_model(model, folder / "m", {"x": object()}),
    "patience without data": lambda: fit(model, good, Training(patience=1), seed=0, validation=none),
    "more than all of it": lambda: good.sample(1.5, 0),
    "a share that is none": lambda: good.sample(float("nan"), 0),
}


def other_clips():
    return replace(trigger.stamp_dataset(good), ids=tuple(f"other {n}" for n in range(36)))


found = {}
for name, case in cases.items():
    try:
        case()
        found[name] = "no word"
    except ClosesesameError as error:
        found[name] = "" if 20 < len(str(error)) < 400 and chr(10) not in str(error) else str(error)
    except Exception as error:
        found[name] = f"{type(error).__name__}: {error}"
exam = Exam(good, trigger, triggered=trigger.stamp_dataset(turned))
name = "triggered clips whose classes stand in another order"
found[name] = "" if exam.score(varied) == Exam(good, trigger).score(varied) else "another score"
right = Says(lambda wav: torch.eye(4)[torch.arange(len(wav)) % 4])
lists = adapt(right, ["a", "b", "c", "d"], [4000], 8000)
found["lists where tuples are meant"] = "" if accuracy(lists, good) == 1.0 else "wrong"
frozen = train(ResNet(widths=(8, 16)), good, Training(epochs=0), seed=0).train()
frozen.body.norm.eval()
predict(frozen, good)
found["modes of parts"] = "" if frozen.training and not frozen.body.norm.training else "changed"
print(json.dumps(found))
