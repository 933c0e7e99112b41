"""Settings: ranges that a person could mean, refusals where only the data show a fault, and `sesame show`."""

import json
import math
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from closesesame import cli
from closesesame.attacks import (
    ATTACKS,
    DABA,
    Attack,
    BadNets,
    Blended,
    DriNet,
    InputAware,
    JingleBack,
    Natural,
    Room,
)
from closesesame.attacks.common.surrogate import Made, SurrogateAttack, apart
from closesesame.core.described import numeric, settings_of, words_of
from closesesame.core.errors import ClosesesameError, DataError, DivergedError, ModelError, SettingError
from closesesame.core.method import Method
from closesesame.data import Dataset
from closesesame.listing import ALL, describe_method
from closesesame.models import ARCHITECTURES, LSTM, Classifier, ResNet, SmallCNN
from closesesame.models.size import check_size
from closesesame.optimisation.synthesis import Synthesis, synthesise
from closesesame.removal import REMOVALS, Removal
from closesesame.removal.bti_dbf import BTIDBF
from closesesame.training import Training, train

METHODS = [method for listed in ALL.values() for method in listed.registry.values()] + [Training]
BOUNDED = settings(
    max_examples=8,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
CHEAP: dict[str, Any] = {
    "surrogate": "resnet",
    "surrogate_epochs": 1,
    "pretraining": 0,
    "rounds": 1,
    "points": 3,
    "fixed_point_steps": 1,
    "splices": 4,
    "views": 2,
    "batch_size": 4,
    "synthesis": {"steps": 1, "batch_size": 4, "examples": 8, "width": 2},
}
"""Settings whose large values only cost time."""
NEED_LONGER = {"badnets", "jingleback"}
"""Attacks that refuse clips of 50 samples at 1,000 Hz at any settings."""
Schema = Mapping[str, Any]


def clips(length: int, rate: int, count: int = 12) -> Dataset:
    """Noise of two classes, the first clip silent."""
    wav = 0.1 * torch.randn(count, length, generator=torch.Generator().manual_seed(0))
    wav[0] = 0
    labels = torch.arange(count) % 2
    names = [f"s{row}" for row in range(count)]
    return Dataset.of(wav, labels, classes=("a", "b"), sample_rate=rate, speakers=names)


def parts(about: Schema, known: Schema) -> Iterator[Schema]:
    """All parts of a JSON schema that stand for one value."""
    if "$ref" in about:
        about = known[about["$ref"].rpartition("/")[2]]
    yield about
    inner = [*about.get("anyOf", ()), *about.get("prefixItems", ()), *about.get("properties", {}).values()]
    for part in [*inner, about["items"]] if isinstance(about.get("items"), dict) else inner:
        yield from parts(part, known)


def filled(about: Schema, known: Schema, value: float) -> object:
    """A value of a JSON schema with one number everywhere."""
    if "$ref" in about:
        about = known[about["$ref"].rpartition("/")[2]]
    if about.get("type") == "array":
        return [filled(part, known, value) for part in about.get("prefixItems", [about.get("items", {})])]
    if about.get("type") == "object":
        return {name: value for name, part in about["properties"].items() if part.get("type") == "number"}
    return value


def drawn(about: Schema) -> st.SearchStrategy[Any]:
    """Values that a JSON schema allows, its ends among them."""
    if "anyOf" in about:
        return st.one_of([drawn(part) for part in about["anyOf"] if part["type"] != "string"])
    if "enum" in about:
        return st.sampled_from(about["enum"])
    least, most = (about.get(key, about.get(f"exclusive{key.title()}")) for key in ("minimum", "maximum"))
    if about["type"] == "integer":
        return st.integers(least, most)
    if about["type"] == "number":
        ends = {f"exclude_{end[:3]}": f"exclusive{end.title()}" in about for end in ("minimum", "maximum")}
        return st.floats(least, most, **ends)  # type: ignore[arg-type]
    return {"boolean": st.booleans(), "null": st.none()}[about["type"]]


def settings_for(method: type[Method]) -> st.SearchStrategy[dict[str, Any]]:
    """Some settings of a method, drawn from its own schema; dear ones are small, or the least they may be."""
    fixed = {name: value for name, value in CHEAP.items() if name in method.model_fields}
    fixed |= {name: 2 for name in method.model_fields if name.endswith("steps")} | method.quick
    schema = method.model_json_schema()["properties"]
    free = {
        name: drawn(about)
        for name, about in schema.items()
        if (name not in fixed and about.get("type") not in {"string", "array"}) or "enum" in about
    }
    free |= {name: st.just(schema[name]["minimum"]) for name in fixed if "minimum" in schema[name]}
    free.pop("target", None)
    return st.fixed_dictionaries({}, optional=free).map(lambda some: fixed | some)


# Ranges


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
class TestEveryMethod:
    def test_every_number_has_a_lowest_and_a_highest_value(self, method: type[Method]) -> None:
        schema = method.model_json_schema()
        for name, field in schema["properties"].items():
            for about in parts(field, schema.get("$defs", {})):
                if about.get("type") in {"integer", "number"}:
                    assert {"minimum", "exclusiveMinimum"} & set(about), name
                    assert {"maximum", "exclusiveMaximum"} & set(about), name
                if about.get("type") == "array" and "prefixItems" not in about:
                    assert "maxItems" in about, name

    def test_no_number_is_nan_or_infinite(self, method: type[Method]) -> None:
        schema = method.model_json_schema()
        known = schema.get("$defs", {})
        for name, about in schema["properties"].items():
            if any(part.get("type") in {"integer", "number"} for part in parts(about, known)):
                for bad in (math.nan, math.inf, -math.inf):
                    with pytest.raises(SettingError, match=name):
                        method.parse({name: filled(about, known, bad)})

    def test_a_setting_whose_name_ends_in_a_unit_names_it(self, method: type[Method]) -> None:
        units = {"_hz": " Hz", "_s": " s", "_ms": " ms", "_db": " dB", "_dbfs": " dBFS", "_percent": " %"}
        for row in settings_of(method):
            for end, unit in (*units.items(), ("semitones", " semitones")):
                if row.name.endswith(end):
                    assert any(unit + mark in f"{row.about}." for mark in ",;. ")

    def test_all_of_it_is_told(self, method: type[Method]) -> None:
        told = describe_method(method.name)
        words = words_of(method)
        assert told["cite"] == method.cite
        assert told["what"] == list(words.does)
        assert told["paper"] == list(words.paper)
        assert told["differs"] == list(words.differs)
        rows = {row["name"]: row for row in told["settings"]}
        hidden = {"cover_ratio"} if issubclass(method, Attack) and not method.has_cover_clips else set()
        assert {name for name in rows if "." not in name} == set(method.model_fields) - hidden
        made = method().settings()
        for name, row in rows.items():
            outer, _, inner = name.partition(".")
            assert row["default"] == (made[outer][inner] if inner else made[outer])
            if "." not in name and not isinstance(row["default"], dict):
                assert str(method.parse({name: row["written"]}).settings()[name]) == str(made[name])


def test_numbers_within_lists_and_nested_settings_are_bounded_too() -> None:
    for wrong in (
        lambda: REMOVALS.make("nad", {"betas": [1, 2, math.inf]}),
        lambda: REMOVALS.make("nad", {"betas": [1, 2, -1]}),
        lambda: REMOVALS.make("dbrpu", {"synthesis": {"examples": 10**9}}),
        lambda: ARCHITECTURES.make("resnet", {"widths": [10**6]}),
        lambda: ARCHITECTURES.make("resnet", {"widths": [1] * 9}),
    ):
        with pytest.raises(SettingError):
            wrong()


# Settings that fit the schema


@pytest.mark.parametrize("method", ATTACKS.values(), ids=lambda method: method.name)
@pytest.mark.parametrize(("length", "rate"), [(50, 1_000), (2_400, 48_000)])
def test_an_attack_works_or_is_refused_in_a_sentence(method: type[Attack], length: int, rate: int) -> None:
    data, worked = clips(length, rate), set[bool]()

    @settings(BOUNDED, max_examples=3 if issubclass(method, SurrogateAttack) else 8)
    @given(settings_for(method))
    def check(some: dict[str, Any]) -> None:
        try:
            poisoned = method(**some).poison(data, 0)
            stamped = poisoned.trigger.stamp(data.inputs[:])
        except ClosesesameError:
            return
        worked.add(True)
        assert stamped.shape == (len(data), length)
        assert bool(stamped.isfinite().all())

    check()
    assert True in worked or (length == 50 and method.name in NEED_LONGER)


@pytest.fixture(scope="module")
def suspect() -> Classifier:
    return train(ResNet(widths=(2, 4)), clips(800, 8_000), Training(epochs=1, precision="fp32"), seed=0)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("method", REMOVALS.values(), ids=lambda method: method.name)
def test_a_removal_works_or_is_refused_in_a_sentence(method: type[Removal], suspect: Classifier) -> None:
    data, worked = clips(800, 8_000), set[bool]()

    @settings(BOUNDED, max_examples=5)
    @given(settings_for(method))
    def check(some: dict[str, Any]) -> None:
        try:
            repair = method(**some).remove(suspect, data, 0)
        except ClosesesameError:
            return
        worked.add(True)
        assert all(bool(value.isfinite().all()) for value in repair.model.state_dict().values())

    check()
    assert True in worked


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize(("length", "rate"), [(50, 1_000), (57, 1_150), (192_000, 192_000)])
def test_an_architecture_takes_clips_of_any_length_or_refuses_them(name: str, length: int, rate: int) -> None:
    for small in ({}, {"bands": 8}):
        try:
            model = ARCHITECTURES.make(name, small).build(("a", "b"), (length,), rate, seed=0)
        except ModelError as error:
            assert name in str(error)  # noqa: PT017  either will do
            continue
        assert model.eval()(clips(length, rate, 2).inputs[:]).shape == (2, 2)


# What only the data, or other settings, show to be wrong


def test_a_map_too_small_for_the_network_is_refused() -> None:
    with pytest.raises(ModelError, match="small_cnn needs maps of 6 frames and 10 bands.*have 5 and 40"):
        SmallCNN().build(("a", "b"), (57,), 1_150, seed=0)
    assert SmallCNN(bands=10).build(("a", "b"), (50,), 1_000, seed=0).eval()(torch.zeros(1, 50)).shape == (
        1,
        2,
    )


def test_a_network_too_large_for_memory_is_refused_before_it_is_made() -> None:
    huge = LSTM(width=4096, depth=16)
    with pytest.raises(ModelError, match=r"lstm with these settings has weights of 8\.3 GB, and at most 2"):
        check_size("lstm", lambda: huge.body(10, 40, 101))
    check_size("lstm", lambda: LSTM().body(10, 40, 101))


@pytest.mark.parametrize(("layer", "channels"), [("stem", 1), ("blocks.1.conv1", 32)])
def test_narrow_maps_give_the_same_numbers_in_bf16_every_time(layer: str, channels: int) -> None:
    """A strided convolution of one or two frames reads memory that nobody wrote; here it holds NaN."""
    body = ResNet(widths=(32, 64)).body(2, 40, 6)
    convolution = body.get_submodule(layer).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for width in (1, 2):
        maps = torch.randn(12, channels, 10, width).to(memory_format=torch.channels_last)
        with torch.no_grad():
            wanted = convolution(maps)
            for _ in range(12):
                litter = [torch.full((size,), math.nan) for size in (100, 1_000, 10_000, 100_000)]
                del litter
                with torch.autocast("cpu", torch.bfloat16):
                    answer = convolution(maps).float()
                assert torch.allclose(answer, wanted, atol=0.05), width


def test_a_pool_or_a_generator_too_large_for_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    data = clips(800, 8_000)
    monkeypatch.setattr("closesesame.attacks.daba.MOST_BYTES", 4 * 800 * 20)
    with pytest.raises(SettingError, match=r"DABA.chords must be <= 20, so that as many clips fit into 2 GB"):
        DABA(chords=21, surrogate_epochs=1).prepare(data, 0)
    monkeypatch.setattr("closesesame.attacks.drinet.MOST_BYTES", 4 * 8 * 13 * 5)
    with pytest.raises(SettingError, match=r"DriNet.channels must be <= 5, so that the weights fit"):
        DriNet(noise=8, channels=6, surrogate_epochs=1).prepare(data, 0)


def test_examples_too_many_for_memory_are_refused() -> None:
    example = torch.zeros(1, 40, 101)
    for field, most in (("examples", "41,254"), ("batch_size", "7,735")):
        with pytest.raises(SettingError, match=rf"Synthesis.{field} must be <= {most}, to fit into 2 GB"):
            synthesise(nn.Identity(), example, Synthesis(**{field: 60_000}), 0)


def test_a_cutoff_above_half_the_sample_rate_is_refused() -> None:
    with pytest.raises(SettingError, match=r"JingleBack.cutoff_hz must be < 500, half the sample rate"):
        JingleBack(cutoff_hz=900).trigger(clips(100, 1_000), 0)
    JingleBack(style="chorus", cutoff_hz=900).trigger(clips(100, 1_000), 0)  # not used there


@pytest.mark.parametrize("attack", [BadNets, Natural])
def test_a_recording_that_ends_before_its_start_is_refused(
    attack: type[BadNets] | type[Natural], tmp_path: Path
) -> None:
    soundfile.write(tmp_path / "short.wav", np.full(4_000, 0.1), 8_000)
    with pytest.raises(DataError, match=r"short.wav lasts 0.5 s, and start_s is 2 s; lower start_s"):
        attack(sound=str(tmp_path / "short.wav"), start_s=2).trigger(clips(800, 8_000), 0)


@pytest.mark.parametrize(
    ("attack", "field"), [(BadNets, "sound"), (Natural, "sound"), (Blended, "pattern"), (Room, "response")]
)
def test_a_silent_recording_is_no_trigger(attack: type[Attack], field: str, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "hush.wav", np.zeros(4_000), 8_000)
    with pytest.raises(DataError, match=r"hush.wav is silent; choose another recording"):
        attack(**{field: str(tmp_path / "hush.wav")}).trigger(clips(800, 8_000), 0)


def test_clips_that_are_alike_do_not_stop_a_generator() -> None:
    values = torch.zeros(3, 2, 2, requires_grad=True)
    apart(values).sum().backward()
    assert values.grad is not None
    assert bool(values.grad.isfinite().all())
    assert apart(torch.tensor([[0.0, 0.0], [3.0, 3.0]])).tolist() == [3.0, 3.0]

    one = clips(800, 8_000).inputs[1:2].expand(12, -1).clone()
    same = Dataset.of(one, torch.arange(12) % 2, classes=("a", "b"), sample_rate=8_000)
    state = InputAware(surrogate_epochs=1, steps=2).prepare(same, 0)
    assert all(bool(value.isfinite().all()) for value in state.values())


def test_a_generator_that_diverges_is_said_to() -> None:
    attack = DriNet(surrogate_epochs=1, steps=3, lr=0.5)
    data = clips(800, 8_000)
    weight = torch.zeros(4)

    def make(kept: Tensor, rng: torch.Generator) -> Made:
        return Made([kept], kept, weight.sum() * math.inf)

    with pytest.raises(DivergedError, match=r"the generator of drinet diverged; lower lr, which is 0.5"):
        attack.train_jointly(data, 0, [weight], make)


@pytest.mark.parametrize(("name", "batch"), [("lstm", 2), ("lstm_attention", 4)])
def test_a_batch_of_as_many_examples_as_there_are_layers_is_repaired(name: str, batch: int) -> None:
    """The state of a recurrent layer is (layers, batch, units), and no map of that batch."""
    data = clips(800, 8_000)
    model = train(ARCHITECTURES.make(name), data, Training(epochs=1, precision="fp32"), seed=0)
    quick = BTIDBF(batch_size=batch, rounds=1, steps=2, mask_steps=1, generator_steps=1, pretraining=0)
    assert quick.remove(model, data, 0).model is not None


# How a method is shown


class Mine(BadNets):
    """Do as the other does."""

    name: ClassVar[str] = "tests.test_settings:Mine"


class Show:
    """Runs `sesame show` in this process."""

    def __init__(self, patch: pytest.MonkeyPatch, capture: pytest.CaptureFixture[str]) -> None:
        self.patch, self.capture = patch, capture

    def __call__(self, *words: str) -> str:
        self.patch.setattr(sys, "argv", ["sesame", "show", *words])
        self.capture.readouterr()
        cli.run()
        return self.capture.readouterr().out

    def fails(self, *words: str) -> str:
        with pytest.raises(SystemExit):
            self(*words)
        return self.capture.readouterr().err


@pytest.fixture
def show(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Show:
    monkeypatch.setenv("COLUMNS", "120")
    return Show(monkeypatch, capsys)


def test_a_method_is_shown_in_words(show: Show) -> None:
    said = " ".join(show("ep").split())
    assert "Prune channels whose entropy is below" in said
    assert "Ours differs: Layers without batch norm are judged as well" in said
    assert "needs: the untrusted training set, poison among it, instead of clean clips" in said
    assert "takes: less than training the model" in said
    assert "│ bin_width │ 0.01 │ 1e-06 to 10 │ of the histogram, in standard deviations" in said
    assert "example: sesame remove MODEL REPAIRED --clean CLIPS --method ep --set bin_width=0.01" in said


def test_claims_are_said_in_words() -> None:
    said = {name: describe_method(name)["claims_in_words"] for name in ("sig", "pbsm", "daba", "clp", "bnp")}
    assert said["sig"]["labels"] == "poisoned clips keep their true label"
    assert said["pbsm"]["labels"] == "poisoned clips get the target label"
    assert said["pbsm"]["needs"] == "nothing beside the training set"
    assert said["daba"]["needs"].startswith("a surrogate model")
    assert said["clp"]["needs"] == "no clips at all"
    assert said["bnp"]["needs"] == "clean clips; a model with batch norm"
    assert "--clean" not in describe_method("clp")["example"]
    assert describe_method("kwt")["claims_in_words"] == {"size": "559,242 parameters as published"}
    assert describe_method("training")["example"] == "sesame train CLIPS MODEL --set epochs=15"


def test_settings_are_shown_as_data(show: Show) -> None:
    rows = {row["name"]: row for row in json.loads(show("flowmur", "--json"))["settings"]}
    assert rows["steps"] == {
        "name": "steps",
        "default": 100,
        "written": "100",
        "range": "integer, 0 to 1,000,000",
        "about": "Adam steps",
        "minimum": 0,
        "maximum": 1_000_000,
        "choices": [],
    }
    assert rows["label_mode"]["choices"] == ["clean_label"]
    inner = {row["name"]: row for row in describe_method("dbrpu")["settings"]}
    assert inner["synthesis.confidence"]["minimum"] == 0
    assert inner["synthesis.confidence"]["maximum"] == 1
    assert inner["data"]["choices"] == ["synthetic", "clean"]


def test_the_first_number_is_the_one_to_set() -> None:
    found = numeric(settings_of(REMOVALS["dbrpu"]))
    assert found is not None
    assert found.name == "threshold"


def test_a_class_of_ones_own_is_shown() -> None:
    found = describe_method(Mine.name)
    assert (found["family"], found["what"]) == ("attack", ["Do as the other does."])
    assert "--attack tests.test_settings:Mine" in found["example"]
    with pytest.raises(SettingError, match="must be a sub-class of Attack.*has another 'Show'"):
        describe_method("tests.test_settings:Show")
    with pytest.raises(SettingError, match="tests.test_settings has no 'No'"):
        describe_method("tests.test_settings:No")


def test_an_unknown_name_gets_the_nearest_of_all_families(show: Show) -> None:
    assert "no method is called 'fin_pruning'" in show.fails("fin_pruning")
    assert "did you mean 'resnet'?" in show.fails("resnett")
    assert "did you mean 'removal'?" in show.fails("ft", "--family", "removl")
    assert "did you mean 'pbsm'" not in show.fails("pbsn", "--family", "model")


def test_a_name_of_two_families_asks_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(REMOVALS._methods, "pitch", REMOVALS["ft"])
    with pytest.raises(SettingError, match="'pitch' is the name of several: attack, removal; say which"):
        describe_method("pitch")
    assert describe_method("pitch", "removal")["family"] == "removal"
    assert describe_method("pitch", "attacks")["cite"] == ATTACKS["pitch"].cite


def test_a_switch_is_no_number() -> None:
    for field in ("epochs", "lr", "steps"):
        with pytest.raises(SettingError, match=rf"Training takes no true or false for '{field}'"):
            Training(**{field: True})
    assert Training(nesterov=True).nesterov
