"""How far an estimate of speech is from the speech: signal-to-noise ratios, and distances of spectra."""

from jaxtyping import Complex64, Float32
from torch import Tensor

EPSILON = 1e-8
"""Added to energies and to their ratios, so that silence has a finite ratio: -80 dB."""


def snr(
    estimate: Float32[Tensor, "*clips time"], target: Float32[Tensor, "*clips time"]
) -> Float32[Tensor, "*clips"]:
    """Signal-to-noise ratio in dB; the noise is what the estimate and the target differ by."""
    noise = (estimate - target).square().sum(-1)
    ratio: Tensor = 10 * (target.square().sum(-1) / (noise + EPSILON) + EPSILON).log10()
    return ratio


def si_snr(
    estimate: Float32[Tensor, "*clips time"], target: Float32[Tensor, "*clips time"]
) -> Float32[Tensor, "*clips"]:
    """Scale-invariant signal-to-noise ratio in dB, also called SI-SDR: no gain of the estimate changes it.

    The target is scaled to the estimate's share of it (Le Roux et al., ICASSP 2019, arXiv:1811.02508); means
    are not taken out.
    """
    energy = target.square().sum(-1, keepdim=True)
    share = (estimate * target).sum(-1, keepdim=True) / (energy + EPSILON)
    return snr(estimate, share * target)


def compressed_distance(
    estimate: Complex64[Tensor, "batch bin frame"], target: Complex64[Tensor, "batch bin frame"], power: float
) -> tuple[Tensor, Tensor]:
    """Mean squared distances of spectra whose magnitudes are raised to a power below 1.

    Returns:
        The distance of real plus that of imaginary parts, and the distance of magnitudes.
    """
    magnitudes = [(spectrum.abs().square() + 1e-12).sqrt() for spectrum in (estimate, target)]
    compressed = [
        spectrum * magnitude ** (power - 1)
        for spectrum, magnitude in zip((estimate, target), magnitudes, strict=True)
    ]
    gap = compressed[0] - compressed[1]
    parts = gap.real.square().mean() + gap.imag.square().mean()
    return parts, (magnitudes[0] ** power - magnitudes[1] ** power).square().mean()
