"""Sections of the report that show what a method rests on: GN-FT's neurons, DBR-PU's synthetic examples."""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from markupsafe import Markup
from torch import Tensor

from closesesame.audio.features import LogMel
from closesesame.evaluation import Exam, neurons_of
from closesesame.evaluation.neurons import KINDS, Neurons
from closesesame.models import Classifier
from closesesame.removal.dbrpu import DBRPU, Evidence, LayerEvidence, deviation

from .charts.canvas import COLOURS, INK, SOFT, WIDTH, axes_at, drawing, inline, short
from .charts.spectrograms import picture

SHOWN = 4
"""Synthetic examples, and distributions."""
LOUDEST = 0.1
"""RMS to which synthetic sounds are scaled."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Exhibit:
    """One figure of a section, with a sound to it if there is one: (time,) and its rate in Hz."""

    caption: str
    figure: Markup
    sound: tuple[Tensor, int] | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Section:
    """A heading, a few sentences, and figures."""

    key: str
    title: str
    text: str
    exhibits: tuple[Exhibit, ...]


def neuron_section(model: Classifier, exam: Exam, share: float = 0.1) -> Section:
    """Shows how steep the clean loss is in backdoored, hybrid and clean neurons.

    Args:
        model: the victim.
        exam: the trigger and the test set: without them neurons cannot be told apart.
        share: of the channels that count as important for a loss.
    """
    neurons = neurons_of(model, exam)
    medians = {kind: value for kind, value in neurons.medians(share).items() if value is not None}
    said = ", ".join(f"{kind} {value:.2g}" for kind, value in medians.items())
    return Section(
        key="neurons",
        title="Neurons of the victim",
        text=f"Each dot is one of {len(neurons.gradient_norm)} channels, at the norm of the gradient of the "
        f"clean loss in its weights. Channels are told apart by silencing them one by one: those in the top "
        f"{100 * share:g} % by what that adds to the loss of triggered clips are backdoored, by what it adds "
        f"to the loss of clean clips clean, by both hybrid. Medians: {said}. GN-FT (arXiv:2502.01152) rests "
        "on backdoored neurons having the larger gradients.",
        exhibits=(
            Exhibit(
                caption="Norm of the gradient, by what a neuron is for", figure=_strips(neurons, share, said)
            ),
        ),
    )


def synthetic_section(model: Classifier, seed: int, method: DBRPU | None = None) -> Section:
    """Shows what DBR-PU makes of a model without any data, and which channels it then suspects.

    Args:
        model: the victim; it is left as it was.
        seed: of everything drawn.
        method: DBR-PU with other settings than its defaults.
    """
    method = method or DBRPU()
    model = copy.deepcopy(model)
    evidence = method.examine(model, None, seed)
    flagged = sum(len(layer.flagged) for layer in evidence.layers)
    channels = sum(len(layer.mean) for layer in evidence.layers)
    sounds = ", made audible from the map" if isinstance(model.front_end, LogMel) else ""
    return Section(
        key="synthetic",
        title="What the victim dreams of",
        text=f"DBR-PU trains a generator against the victim until it makes examples the victim is sure of; "
        f"shown is the surest of a few classes{sounds}. It then compares each channel's pre-activations "
        f"on them with what the model knows them to be. {flagged} of {channels} channels are flagged; pruned "
        f"they leave {100 * evidence.agreement:.0f} % of the victim's answers to these examples alone.",
        exhibits=(
            *_dreams(model, evidence),
            Exhibit(
                caption="How far each channel departs, layer by layer", figure=_departures(evidence, method)
            ),
            *_distributions(evidence, method),
        ),
    )


def _strips(neurons: Neurons, share: float, said: str) -> Markup:
    kinds = neurons.kinds(share)
    norm = neurons.gradient_norm.clamp(min=float(neurons.gradient_norm.max()) * 1e-6)
    rng = torch.Generator().manual_seed(0)
    height = 44 * len(KINDS) + 46
    with drawing(height) as figure:
        axes = axes_at(figure, (8, 40, WIDTH - 20, height - 46))
        axes.set(
            xscale="log", ylim=(len(KINDS), 0), yticks=[], xlabel="norm of the gradient of the clean loss"
        )
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        for row, kind in enumerate(KINDS):
            own = norm[torch.tensor([found == kind for found in kinds])]
            where = row + 0.5 + 0.4 * torch.rand(len(own), generator=rng)
            colour = COLOURS["asr"] if kind == "backdoored" else COLOURS["acc"]
            axes.plot(own.numpy(), where.numpy(), ".", color=colour, alpha=0.5, markersize=4)
            if len(own):
                middle = float(own.median())
                axes.plot([middle, middle], [row + 0.45, row + 0.95], color=INK, linewidth=1.6)
            axes.text(0.0, row + 0.3, f"{kind} ({len(own)})", size=12, transform=axes.get_yaxis_transform())
        return inline(figure, "neurons", f"Median gradient norms: {said}")


def _dreams(model: Classifier, evidence: Evidence) -> list[Exhibit]:
    """The surest example of each of the first classes that have one."""
    made, card, front_end = evidence.synthetic, model.card, copy.deepcopy(model.front_end).cpu()
    found = []
    for label in sorted(set(made.labels.tolist()))[:SHOWN]:
        rows = (made.labels == label).nonzero().flatten()
        row = int(rows[made.confidence[rows].argmax()])
        features = made.features[row : row + 1].detach().cpu()
        if features.ndim != 3:  # a waveform or a picture: the maps of speech models are what is drawn here
            continue
        seconds = card.input_shape[0] / card.sample_rate if card.sample_rate else float(features.shape[2])
        size = (seconds, float(features.shape[1]))
        name = card.classes[label]
        figure = picture(
            f"dream-{label}",
            features[0].clamp(-2, 3).float(),
            size,
            size,
            (-2.0, 3.0),
            "deviations from the mean level",
            f"A synthetic example that the victim takes for {name}",
            up="band",
            steps=40,
        )
        sound = None
        if isinstance(front_end, LogMel) and card.sample_rate:
            wav = front_end.sound(features)[0]
            level = LOUDEST / float(wav.square().mean().sqrt().clamp(min=1e-6))
            sound = ((level * wav).clamp(-1, 1), card.sample_rate)
        sure = 100 * float(made.confidence[row])
        found.append(Exhibit(caption=f"“{short(name)}”, {sure:.0f} % sure", figure=figure, sound=sound))
    return found


def _departures(evidence: Evidence, method: DBRPU) -> Markup:
    layers = evidence.layers
    height = 22 * len(layers) + 46
    with drawing(height) as figure:
        axes = axes_at(figure, (8, 40, WIDTH - 20, height - 46))
        most = method.threshold
        for row, layer in enumerate(layers):
            score = deviation(layer.scores[method.score]).cpu().clamp(min=0)
            most = max(most, float(score.max()))
            flagged = torch.zeros(len(score), dtype=torch.bool)
            flagged[layer.flagged.cpu()] = True
            for rows, colour in ((~flagged, COLOURS["acc"]), (flagged, COLOURS["asr"])):
                heights = torch.full((int(rows.sum()),), row + 0.72)
                axes.plot(score[rows].numpy(), heights.numpy(), "|", color=colour, markersize=7)
            axes.text(
                0.99,
                row + 0.6,
                short(layer.name),
                size=9,
                ha="right",
                color=SOFT,
                transform=axes.get_yaxis_transform(),
            )
        axes.plot([method.threshold] * 2, [0, len(layers)], color=INK, linewidth=1, linestyle=(0, (4, 3)))
        axes.set(xlim=(0, 1.35 * most), ylim=(len(layers), 0), yticks=[])
        axes.set_xlabel("deviations above the layer's median; dashed: the threshold")
        return inline(figure, "departures", "How far each channel departs from what the model knows")


def _distributions(evidence: Evidence, method: DBRPU) -> list[Exhibit]:
    """The channels that depart most, as two Gaussians each."""
    ranked: list[tuple[float, LayerEvidence, int]] = []
    for layer in evidence.layers:
        score = deviation(layer.scores[method.score])
        ranked += [(float(value), layer, number) for number, value in enumerate(score.tolist())]
    ranked.sort(key=lambda found: found[0], reverse=True)
    exhibits = []
    for place, (departs, layer, channel) in enumerate(ranked[:SHOWN]):
        flag = "flagged" if channel in layer.flagged.tolist() else "not flagged"
        caption = f"{short(layer.name)}, channel {channel}: {departs:.1f} deviations, {flag}"
        curves = [
            ("synthetic", float(layer.mean[channel]), float(layer.var[channel]), COLOURS["asr"]),
            ("known", float(layer.usual_mean[channel]), float(layer.usual_var[channel]), COLOURS["acc"]),
        ]
        exhibits.append(Exhibit(caption=caption, figure=_gaussians(f"distribution-{place}", curves, caption)))
    return exhibits


def _gaussians(key: str, curves: Sequence[tuple[str, float, float, str]], said: str) -> Markup:
    height = 190
    with drawing(height) as figure:
        axes = axes_at(figure, (8, 40, WIDTH - 20, height - 52))
        spreads = [math.sqrt(max(var, 1e-8)) for _, _, var, _ in curves]
        low = min(mean - 3 * s for (_, mean, _, _), s in zip(curves, spreads, strict=True))
        high = max(mean + 3 * s for (_, mean, _, _), s in zip(curves, spreads, strict=True))
        x = torch.linspace(low, high, 160)
        for (_, mean, _, colour), spread in zip(curves, spreads, strict=True):
            # Each is scaled to its own peak: a narrow one would press the other flat.
            axes.plot(x.numpy(), (-0.5 * ((x - mean) / spread).square()).exp().numpy(), color=colour)
        axes.set(ylim=(0, 1.2), yticks=[], xlabel="pre-activation")
        for (name, _, _, colour), (across, side) in zip(curves, ((1.0, "right"), (0.0, "left")), strict=True):
            axes.text(across, 0.9, name, color=colour, size=11, ha=side, transform=axes.transAxes)
        return inline(figure, key, said)
