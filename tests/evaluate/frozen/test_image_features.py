from __future__ import annotations

import torch

from mmae.evaluate.frozen.image_features import RandomConvolutions, image_statistics, patch_statistics

IMAGES = torch.randn(3, 2, 8, 8, generator=torch.Generator().manual_seed(0))
VALID = torch.ones_like(IMAGES, dtype=torch.bool)


def test_statistics_of_whole_images_and_of_patches() -> None:
    found = image_statistics(IMAGES, VALID)
    flat = IMAGES.flatten(2)
    wanted = torch.cat([flat.mean(2), flat.std(2, correction=0), flat.amin(2), flat.amax(2)], dim=1)
    torch.testing.assert_close(found, wanted)
    patches = patch_statistics(IMAGES, VALID, 4)
    assert patches.shape == (3, 2, 2, 8)
    torch.testing.assert_close(patches[:, 1, 0], image_statistics(IMAGES[:, :, 4:, :4], VALID[:, :, 4:, :4]))


def test_pixels_without_data_do_not_count() -> None:
    valid = VALID.clone()
    valid[:, :, :4] = False
    spoilt = torch.where(valid, IMAGES, 1e6)
    torch.testing.assert_close(image_statistics(spoilt, valid), image_statistics(IMAGES[:, :, 4:], VALID[:, :, 4:]))
    assert torch.equal(image_statistics(spoilt, torch.zeros_like(valid)), torch.zeros(3, 8))


def test_random_convolutions_depend_on_the_seed_and_not_on_the_batch() -> None:
    one, other = RandomConvolutions(2, 16, seed=0), RandomConvolutions(2, 16, seed=1)
    found = one(IMAGES)
    assert found.shape == (3, 16)
    assert bool((found >= 0).all())
    assert torch.equal(torch.cat([one(image) for image in torch.split(IMAGES, 1)]), found)
    assert torch.equal(RandomConvolutions(2, 16, seed=0)(IMAGES), found)
    assert not torch.equal(other(IMAGES), found)


def test_patches_of_random_convolutions_average_to_the_whole_image() -> None:
    filters = RandomConvolutions(2, 16)
    torch.testing.assert_close(filters.patches(IMAGES, 4).mean((1, 2)), filters(IMAGES))
