"""The Fourier transform of frames, and complex layers by complex arithmetic."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from closesesame.enhancement.layers import (
    STFT,
    ComplexConv2d,
    ComplexConvTranspose2d,
    ComplexLSTM,
    complex_cat,
)
from tests.enhancement.patterns import hiss

FRAMES = {
    "hann": STFT(torch.hann_window(400), hop=100, fft=512),
    "root": STFT(torch.hann_window(512).sqrt(), hop=256, fft=512),
    "flat": STFT(torch.hamming_window(512), hop=256, fft=512, synthesis=torch.ones(512)),
}


@pytest.mark.parametrize("frames", FRAMES.values(), ids=FRAMES)
@pytest.mark.parametrize("length", [1, 99, 100, 101, 511, 512, 513, 4_321])
def test_the_inverse_gives_back_every_sample(frames: STFT, length: int) -> None:
    wav = hiss(length)
    again = frames.inverse(frames(wav), length)
    assert again.shape == wav.shape
    assert torch.allclose(again, wav, atol=2e-6)


def test_a_frame_by_hand() -> None:
    frames, wav = FRAMES["hann"], hiss(1_000)
    spectrum = frames(wav)
    assert spectrum.shape == (2, 257, 13)  # ten hops, and three more frames reach into the clip
    whole = torch.fft.rfft(wav[:, 200:600] * torch.hann_window(400), 512)
    assert torch.allclose(spectrum[..., 5], whole, atol=1e-5)
    first = torch.fft.rfft(F.pad(wav[:, :100], (300, 0)) * torch.hann_window(400), 512)
    assert torch.allclose(spectrum[..., 0], first, atol=1e-5)


def test_one_second_at_16_khz_has_163_frames_of_25_ms() -> None:
    assert FRAMES["hann"](hiss(16_000)).shape == (2, 257, 163)


def test_it_is_the_transform_of_torch_where_frames_are_half_apart() -> None:
    wav, window = hiss(5_120), torch.hann_window(512).sqrt()
    theirs = torch.stft(wav, 512, 256, window=window, pad_mode="constant", return_complex=True)
    assert torch.allclose(FRAMES["root"](wav), theirs, atol=1e-5)


@pytest.mark.parametrize(("name", "kept"), [("root", 0.5), ("flat", 0.5)])
def test_a_frame_that_is_left_out_takes_its_window_with_it(name: str, kept: float) -> None:
    """Which tells the analysis window from the synthesis window."""
    frames = FRAMES[name]
    wav = torch.ones(1, 2_560)
    spectrum = frames(wav)
    spectrum[..., 5] = 0  # samples 1,024 to 1,535
    left = frames.inverse(spectrum, 2_560)[0]
    window = {"root": torch.hann_window(512), "flat": torch.hamming_window(512) / 1.08}[name]
    assert left[1_024:1_536].tolist() == pytest.approx((1 - window).tolist(), abs=1e-5)
    assert float(left[1_024 + 128]) == pytest.approx(kept, abs=0.01)
    assert torch.allclose(left[:1_024], torch.ones(1_024), atol=1e-5)


def numbers(x: Tensor) -> Tensor:
    """A complex map as complex numbers."""
    return torch.complex(*x.chunk(2, 1))


@torch.no_grad()
def test_complex_convolutions_multiply_complex_numbers() -> None:
    x = hiss(6 * 8 * 5).view(2, 6, 8, 5)
    for conv, made in (
        (ComplexConv2d(3, 2, (5, 2), stride=(2, 1), padding=(2, 0)), F.conv2d),
        (ComplexConvTranspose2d(3, 2, (5, 2), stride=(2, 1), padding=(2, 0)), F.conv_transpose2d),
    ):
        for part in (conv.real, conv.imag):
            assert part.bias is not None
            part.bias.uniform_(-1, 1)
        assert conv.real.bias is not None
        assert conv.imag.bias is not None
        weight = torch.complex(conv.real.weight, conv.imag.weight)
        bias = torch.complex(conv.real.bias, conv.imag.bias)
        wanted = made(numbers(x), weight, bias, stride=(2, 1), padding=(2, 0))
        assert torch.allclose(numbers(conv(x)), wanted, atol=1e-6)


def test_the_transposed_convolution_doubles_the_bands_it_is_asked_to() -> None:
    conv = ComplexConvTranspose2d(1, 1, (5, 2), stride=(2, 1), padding=(2, 0), output_padding=(1, 0))
    assert conv(torch.zeros(1, 2, 4, 7)).shape == (1, 2, 8, 8)


@torch.no_grad()
def test_kernels_are_drawn_as_the_authors_draw_them() -> None:
    conv = ComplexConv2d(64, 64, (5, 2))
    for part in (conv.real, conv.imag):
        assert float(part.weight.std()) == pytest.approx(0.05, rel=0.05)
        assert part.bias is not None
        assert not part.bias.any()


@torch.no_grad()
def test_a_complex_lstm_is_two_that_are_multiplied() -> None:
    lstm = ComplexLSTM(3, 4)
    real, imag = hiss(2 * 5 * 3, 2).view(2, 2, 5, 3)
    made_real, made_imag = lstm(real, imag)
    assert torch.allclose(made_real, lstm.real(real)[0] - lstm.imag(imag)[0], atol=1e-6)
    assert torch.allclose(made_imag, lstm.real(imag)[0] + lstm.imag(real)[0], atol=1e-6)


def test_complex_maps_are_joined_part_by_part() -> None:
    one, other = (torch.tensor(values)[None, :, None, None] for values in ([1.0, 2.0], [3.0, 4.0, 5.0, 6.0]))
    assert complex_cat(one, other).flatten().tolist() == [1, 3, 4, 2, 5, 6]
