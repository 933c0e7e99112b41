"""Augmentation of scaled spectral maps (batch, band, frame), or of waveforms, in four strengths.

Light is a time shift and one mask on each axis (SpecAugment, Park et al., Interspeech 2019,
arXiv:1904.08779). Strong bends, tilts, blurs and covers the map so that little but the word itself
survives; it is ours. A network without a front end takes waveforms (batch, time): for it, light shifts and
silences them; strong also filters them, speeds them up or slows them down, and adds noise. Varied is strong
with masks of half the size, half of the examples left at their speed and pitch, noise of any colour, and
another example of the batch, reversed, in the background. Crowded is varied with loud pieces of other
examples, from anywhere to anywhere: short sounds that mean nothing, as a short trigger is one.

Varied and crowded are there with an exchange before them, too: of the quiet cells of an example, or its
quiet moments, for those of another. What is said is loud, so what lies under it need not decide.
"""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float32
from torch import Generator, Tensor
from torch.nn import functional as F

from closesesame.core.types import Spectrum, Wave

from .interpolation import read_linear

Augmentation = Callable[[Tensor, Generator], Tensor]
LEAST_QUIET, MOST_QUIET = 0.5, 0.85
"""Share of the cells of an example, or of its moments, that are quiet in an exchange."""
MOMENTS = 100
"""Stretches of a waveform that are quiet or not."""
PIECES = 3
"""Of other examples, in crowded augmentation."""
LARGEST = 0.35
"""Share of either axis that such a piece covers at most."""


def light(maps: Spectrum, rng: Generator) -> Spectrum:
    """Shifts by up to a tenth of the clip; masks up to 1/5 of the bands and 1/7 of the frames."""
    maps = _shift(maps, rng, most=maps.shape[-1] // 10)
    maps = _mask(maps, rng, axis=1, most=maps.shape[1] // 5)
    return _mask(maps, rng, axis=2, most=maps.shape[2] // 7)


def strong(maps: Spectrum, rng: Generator) -> Spectrum:
    """Warps both axes by 15 %, then random tilt, gain, smooth field, low-pass, noise floor and masks."""
    maps = _warp(maps, rng, scale=0.15, shift=0.15)
    maps = maps + _tilt(maps, rng, gain=0.5, slope=0.5) + _field(maps, rng, most=0.6)
    maps = _low_pass(maps, rng, chance=0.5, most=0.5)
    maps = _noise_floor(maps, rng, chance=0.5)
    maps = _mask(maps, rng, axis=1, most=maps.shape[1] // 4)
    return _mask(maps, rng, axis=2, most=maps.shape[2] // 4)


def varied(maps: Spectrum, rng: Generator) -> Spectrum:
    """Strong, but masks are half as wide, half are only shifted, and noise or an example may be behind."""
    warped, hit = _warp(maps, rng, scale=0.15, shift=0.15), _uniform(maps, rng, 0, 1, 1, 1) < 0.5
    maps = torch.where(hit, warped, _shift(maps, rng, most=maps.shape[-1] // 10))
    maps = maps + _tilt(maps, rng, gain=0.5, slope=0.5) + _field(maps, rng, most=0.6)
    maps = _low_pass(maps, rng, chance=0.5, most=0.5)
    maps = _noise_floor(maps, rng, chance=0.25)
    maps = _background(_coloured_noise(maps, rng, chance=0.5), rng, chance=0.3)
    maps = _mask(maps, rng, axis=1, most=maps.shape[1] // 8)
    return _mask(maps, rng, axis=2, most=maps.shape[2] // 8)


def crowded(maps: Spectrum, rng: Generator) -> Spectrum:
    """Varied, and a few pieces of other examples, each in half of the maps."""
    maps = varied(maps, rng)
    for _ in range(PIECES):
        maps = _piece(maps, rng, chance=0.5)
    return maps


def exchanged(features: Tensor, rng: Generator) -> Tensor:
    """The maps, or waveforms, with what is quiet of another one of the batch, where both are quiet."""
    share, order = quiet_shares(features, rng), _order(features, rng)
    return with_quiet_of(features, features[order], share)


def varied_exchanged(maps: Spectrum, rng: Generator) -> Spectrum:
    """Varied, after quiet cells were exchanged."""
    return varied(exchanged(maps, rng), rng)


def crowded_exchanged(maps: Spectrum, rng: Generator) -> Spectrum:
    """Crowded, after quiet cells were exchanged."""
    return crowded(exchanged(maps, rng), rng)


def quiet_shares(features: Tensor, rng: Generator) -> Float32[Tensor, " batch"]:
    """What share of each example is taken for quiet, drawn for each."""
    return _uniform(features, rng, LEAST_QUIET, MOST_QUIET)


def with_quiet_of(features: Tensor, others: Tensor, share: Float32[Tensor, " batch"]) -> Tensor:
    """The examples, with what the others have where both are quiet.

    Args:
        features: maps (batch, band, frame), of which cells are quiet or not, or waveforms (batch, time), of
            which moments are.
        others: as many.
        share: of the cells or moments of an example that are quiet.
    """
    if features.ndim == 3:
        return torch.where(_quiet(features, share) & _quiet(others, share), others, features)
    time = features.shape[-1]
    size = -(-time // MOMENTS)
    levels = (F.avg_pool1d(one.square()[:, None], size, ceil_mode=True) for one in (features, others))
    one, other = (_quiet(level, share)[:, 0] for level in levels)
    hit = (one & other).repeat_interleave(size, 1)[:, :time]
    return torch.where(hit, others, features)


def light_sound(wav: Wave, rng: Generator) -> Wave:
    """Shifts by up to a tenth of the clip, and silences up to 1/7 of it."""
    maps = _shift(wav[:, None], rng, most=wav.shape[-1] // 10)
    return _mask(maps, rng, axis=2, most=wav.shape[-1] // 7)[:, 0]


def strong_sound(wav: Wave, rng: Generator) -> Wave:
    """Changes speed and place by up to 15 %, filters, adds noise, sets the gain, silences up to a quarter."""
    return _disturbed(_moved(wav, rng), rng, most=wav.shape[-1] // 4)


def varied_sound(wav: Wave, rng: Generator) -> Wave:
    """Strong, but half are only shifted, silences are half as long, and an example may be heard, reversed."""
    hit = _uniform(wav, rng, 0, 1, 1) < 0.5
    shifted = _shift(wav[:, None], rng, most=wav.shape[-1] // 10)[:, 0]
    moved = _disturbed(torch.where(hit, _moved(wav, rng), shifted), rng, most=wav.shape[-1] // 8)
    other = moved[_order(moved, rng)].flip(-1)
    gain = 10 ** _uniform(wav, rng, -1, -0.15, 1) * (_uniform(wav, rng, 0, 1, 1) < 0.3)
    return moved + gain * other


def crowded_sound(wav: Wave, rng: Generator) -> Wave:
    """Varied, and pieces of other clips, up to 0.35 of a clip long, of a level 6 dB up or down."""
    wav = varied_sound(wav, rng)
    for _ in range(PIECES):
        there = _moved_frames(wav[:, None], rng)[_order(wav, rng), 0]
        inside = _interval(len(wav), wav.shape[-1], int(LARGEST * wav.shape[-1]), rng).to(wav.device)
        gain = 10 ** _uniform(wav, rng, -0.3, 0.3, 1) * (_uniform(wav, rng, 0, 1, 1) < 0.5)
        wav = wav + gain * there * inside
    return wav


def varied_exchanged_sound(wav: Wave, rng: Generator) -> Wave:
    """Varied, after quiet moments were exchanged."""
    return varied_sound(exchanged(wav, rng), rng)


def crowded_exchanged_sound(wav: Wave, rng: Generator) -> Wave:
    """Crowded, after quiet moments were exchanged."""
    return crowded_sound(exchanged(wav, rng), rng)


def _quiet(maps: Tensor, share: Float32[Tensor, " batch"]) -> Bool[Tensor, "batch ..."]:
    """Which cells are among the quietest of their map; their share is rounded down, and one at least."""
    cells = maps.flatten(1)
    counts = (share * cells.shape[1]).long().clamp(1, cells.shape[1]).tolist()
    last = cells.new_empty(len(cells), 1, 1)
    for row, count in enumerate(counts):  # to find one of each takes a third of the time of sorting all
        last[row] = cells[row].kthvalue(count).values
    return maps <= last


def _order(maps: Tensor, rng: Generator) -> Tensor:
    return torch.randperm(len(maps), generator=rng).to(maps.device)


def _moved(wav: Wave, rng: Generator) -> Wave:
    """Changes speed and place by up to 15 %."""
    length = wav.shape[-1]
    stretch, shift = _uniform(wav, rng, 0.85, 1.15, 1), _uniform(wav, rng, -0.15, 0.15, 1)
    place = (torch.linspace(-1, 1, length, device=wav.device) * stretch + 2 * shift + 1) / 2 * (length - 1)
    moved: Tensor = read_linear(wav, place) * ((place >= 0) & (place <= length - 1))
    return moved


def _disturbed(wav: Wave, rng: Generator, most: int) -> Wave:
    """Adds noise to half of the clips, filters all, sets the gain, silences up to `most` samples."""
    level = wav.square().mean(-1, keepdim=True).sqrt()
    noise = torch.randn(wav.shape, generator=rng).to(wav) * level * 10 ** _uniform(wav, rng, -2, 0, 1)
    hit = _uniform(wav, rng, 0, 1, 1) < 0.5
    heard: Tensor = _filtered(wav + noise * hit, rng) * 10 ** _uniform(wav, rng, -0.5, 0.5, 1)
    return _mask(heard[:, None], rng, axis=2, most=most)[:, 0]


def _filtered(wav: Wave, rng: Generator) -> Wave:
    """Applies a random smooth filter of +-10 dB; half of the clips lose all above a random edge."""
    spectrum = torch.fft.rfft(wav)
    bins = spectrum.shape[-1]
    curve = F.interpolate(
        torch.randn(len(wav), 1, 8, generator=rng).to(wav), size=bins, mode="linear", align_corners=True
    )[:, 0]
    band = torch.linspace(0, 1, bins, device=wav.device)
    edge, hit = _uniform(wav, rng, 0.4, 1, 1), _uniform(wav, rng, 0, 1, 1) < 0.5
    gain = 10 ** (0.25 * curve) * ~(hit & (band > edge))
    filtered: Tensor = torch.fft.irfft(spectrum * gain, wav.shape[-1])
    return filtered


def _uniform(maps: Tensor, rng: Generator, low: float, high: float, *more: int) -> Tensor:
    """Draws one number for each clip, or a small grid of them, and moves it to the device of the maps."""
    return (low + (high - low) * torch.rand(len(maps), *more, generator=rng)).to(maps)


def _shift(maps: Spectrum, rng: Generator, most: int) -> Spectrum:
    frames = torch.arange(maps.shape[-1], device=maps.device)
    by = torch.randint(-most, most + 1, (len(maps), 1), generator=rng).to(maps.device)
    source = (frames - by).clamp(0, maps.shape[-1] - 1)
    return maps.gather(2, source[:, None].expand_as(maps))


def _mask(maps: Spectrum, rng: Generator, axis: int, most: int) -> Spectrum:
    covered = _interval(len(maps), maps.shape[axis], most, rng).to(maps.device)
    return maps.masked_fill(covered[:, :, None] if axis == 1 else covered[:, None, :], 0.0)


def _interval(count: int, size: int, most: int, rng: Generator) -> Bool[Tensor, "count size"]:
    """Which of `size` places lie in an interval of up to `most`, drawn anew for each row."""
    width = torch.randint(0, most + 1, (count, 1), generator=rng)
    start = (torch.rand(count, 1, generator=rng) * (size - width + 1)).long()
    at = torch.arange(size)
    return (at >= start) & (at < start + width)


def _warp(maps: Spectrum, rng: Generator, scale: float, shift: float) -> Spectrum:
    theta = maps.new_zeros(len(maps), 2, 3)
    for axis in (0, 1):  # grid_sample counts time first, then band
        theta[:, axis, axis] = _uniform(maps, rng, 1 - scale, 1 + scale)
        theta[:, axis, 2] = _uniform(maps, rng, -shift, shift)
    grid = F.affine_grid(theta, [len(maps), 1, *maps.shape[1:]], align_corners=False)
    warped = F.grid_sample(maps[:, None], grid, padding_mode="border", align_corners=False)
    return warped[:, 0]


def _tilt(maps: Spectrum, rng: Generator, gain: float, slope: float) -> Tensor:
    band = torch.linspace(-1, 1, maps.shape[1], device=maps.device)[:, None]
    level = _uniform(maps, rng, -gain, gain, 1, 1)
    return level + _uniform(maps, rng, -slope, slope, 1, 1) * band


def _field(maps: Spectrum, rng: Generator, most: float) -> Tensor:
    coarse = torch.randn(len(maps), 1, 4, 6, generator=rng).to(maps)
    smooth = F.interpolate(coarse, size=maps.shape[1:], mode="bicubic", align_corners=False)[:, 0]
    return smooth * _uniform(maps, rng, 0, most, 1, 1)


def _low_pass(maps: Spectrum, rng: Generator, chance: float, most: float) -> Spectrum:
    """Sets the bands above a random edge, at lowest `1 - most` of the way up, to the quietest value."""
    band = torch.linspace(0, 1, maps.shape[1], device=maps.device)[None, :, None]
    edge = _uniform(maps, rng, 1 - most, 1, 1, 1)
    hit = _uniform(maps, rng, 0, 1, 1, 1) < chance
    return torch.where(hit & (band > edge), maps.amin((1, 2), keepdim=True), maps)


def _noise_floor(maps: Spectrum, rng: Generator, chance: float) -> Spectrum:
    """Adds noise: the log-power of a sum is close to the larger of both, so the maximum stands for it."""
    level = _uniform(maps, rng, -1.0, 0.6, 1, 1)
    noise = level + 0.4 * torch.randn(maps.shape, generator=rng).to(maps)
    hit = _uniform(maps, rng, 0, 1, 1, 1) < chance
    return torch.where(hit, torch.maximum(maps, noise), maps)


def _coloured_noise(maps: Spectrum, rng: Generator, chance: float) -> Spectrum:
    """Adds noise with a random smooth spectrum that swells and fades slowly, by the maximum."""
    colour = F.interpolate(
        torch.randn(len(maps), 1, 5, generator=rng).to(maps),
        size=maps.shape[1],
        mode="linear",
        align_corners=True,
    )
    swell = F.interpolate(
        torch.randn(len(maps), 1, 6, generator=rng).to(maps),
        size=maps.shape[2],
        mode="linear",
        align_corners=True,
    )
    noise = _uniform(maps, rng, -1.5, 1.0, 1, 1) + 0.7 * colour.mT + 0.3 * swell
    noise = noise + 0.4 * torch.randn(maps.shape, generator=rng).to(maps)
    hit = _uniform(maps, rng, 0, 1, 1, 1) < chance
    return torch.where(hit, torch.maximum(maps, noise), maps)


def _background(maps: Spectrum, rng: Generator, chance: float) -> Spectrum:
    """Adds another example of the batch, reversed and softer, by the maximum."""
    other = maps[_order(maps, rng)].flip(2)
    hit = _uniform(maps, rng, 0, 1, 1, 1) < chance
    return torch.where(hit, torch.maximum(maps, other - _uniform(maps, rng, 0.3, 1.5, 1, 1)), maps)


def _piece(maps: Spectrum, rng: Generator, chance: float) -> Spectrum:
    """Adds a piece of another example, from a third of the bands away at most, up to 1.5 louder."""
    count, bands, frames = maps.shape
    away = torch.randint(-(bands // 3), bands // 3 + 1, (count, 1), generator=rng).to(maps.device)
    band = (torch.arange(bands, device=maps.device) + away).clamp(0, bands - 1)
    other = _moved_frames(maps, rng)[_order(maps, rng)]
    other = other.gather(1, band[:, :, None].expand_as(maps)) + _uniform(maps, rng, 0, 1.5, 1, 1)
    high = _interval(count, bands, max(1, round(LARGEST * bands)), rng).to(maps.device)
    long = _interval(count, frames, max(1, round(LARGEST * frames)), rng).to(maps.device)
    inside = high[:, :, None] & long[:, None] & (_uniform(maps, rng, 0, 1, 1, 1) < chance)
    return torch.where(inside, torch.maximum(maps, other), maps)


def _moved_frames(maps: Spectrum, rng: Generator) -> Spectrum:
    """Moved by any number of frames; what leaves at the end comes in at the start."""
    frames = maps.shape[2]
    by = torch.randint(0, frames, (len(maps), 1), generator=rng).to(maps.device)
    source = (torch.arange(frames, device=maps.device) + by) % frames
    return maps.gather(2, source[:, None].expand_as(maps))
