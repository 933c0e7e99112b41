"""Where a sound is placed in a clip."""

import torch

from closesesame.audio.placement import own_rng, placed, samples_of, starts


def test_a_sound_has_one_sample_or_more_and_fits_into_its_clip() -> None:
    assert [samples_of(duration_s, 1000, 300) for duration_s in (0.0001, 0.1, 2)] == [1, 100, 300]


def test_places_by_hand() -> None:
    clips = torch.zeros(2, 11)
    assert [starts(clips, 4, place) for place in ("start", "middle", "end")] == [[0, 0], [3, 3], [7, 7]]
    assert starts(clips, 20, "end") == [0, 0]


def test_a_random_place_follows_from_the_content_of_the_clip_alone() -> None:
    clips = torch.randn(200, 100, generator=torch.Generator().manual_seed(0))
    found = starts(clips, 90, "random")
    assert starts(clips.flip(0), 90, "random") == found[::-1]
    assert set(found) == set(range(11))
    assert not torch.equal(*(torch.rand(3, generator=own_rng(clips[0], seed)) for seed in (0, 1)))


def test_one_sound_for_all_clips_or_one_each_cut_at_the_end() -> None:
    sound = torch.tensor([1.0, 2, 3])
    assert placed(sound, [0, 3], 4).tolist() == [[1, 2, 3, 0], [0, 0, 0, 1]]
    assert placed(torch.stack([sound, -sound]), [1, 2], 4).tolist() == [[0, 1, 2, 3], [0, 0, -1, -2]]
    assert placed(sound, [5], 4).tolist() == [[0, 0, 0, 0]]
    assert placed(sound, [], 4).shape == (0, 4)


def test_gradients_reach_a_placed_sound() -> None:
    sound = torch.ones(3, requires_grad=True)
    placed(sound, [0, 2], 4).sum().backward()
    assert sound.grad is not None
    assert sound.grad.tolist() == [2, 2, 1]
