"""Encoders of images: where a spatial softmax looks, how images are cropped, what a ResNet-18 consists of."""

from __future__ import annotations

import pytest
import torch

from onestride.networks.resnet import ResNet18
from onestride.networks.vision import ImageEncoder, SpatialSoftmax, VisionConfig, crop


@pytest.mark.parametrize("place", [(0, 0), (4, 2), (2, 6)])
def test_a_spatial_softmax_gives_where_a_spike_is(place):
    maps = torch.full((2, 3, 5, 7), -1e4)
    maps[1, 2, *place] = 1e4
    x, y = SpatialSoftmax()(maps)[1].unflatten(0, (3, 2))[2]
    assert (float(x), float(y)) == pytest.approx((place[1] / 6 * 2 - 1, place[0] / 4 * 2 - 1), abs=1e-6)


def test_a_spatial_softmax_weighs_places_by_their_softmax():
    maps = torch.log(torch.tensor([[1.0, 0.0, 3.0], [0.0, 0.0, 4.0]]))[None, None]
    weight = torch.tensor([[1.0, 0.0, 3.0], [0.0, 0.0, 4.0]]) / 8
    x = (weight.sum(0) * torch.tensor([-1.0, 0.0, 1.0])).sum()
    y = (weight.sum(1) * torch.tensor([-1.0, 1.0])).sum()
    torch.testing.assert_close(SpatialSoftmax()(maps)[0], torch.stack((x, y)))


def numbered(rows=200, n=2, side=6):
    """Images whose pixels say their place."""
    place = torch.stack(torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij"), 2)
    image = torch.cat((place, torch.zeros(side, side, 1)), 2).to(torch.uint8)
    return image.expand(rows, n, side, side, 3)


def test_crops_lie_anywhere_in_training_and_in_the_middle_at_a_decision():
    images = numbered()
    middle = crop(images, (4, 4))
    assert (middle[:, :, 0, 0, :2] == 1).all()
    cropped = crop(images, (4, 4), torch.Generator().manual_seed(0))
    assert cropped.shape == (200, 2, 4, 4, 3)
    corners = cropped[:, :, 0, 0, :2]
    assert {tuple(c) for c in corners[:, 0].tolist()} == {(y, x) for y in range(3) for x in range(3)}
    assert (corners[:, 0] == corners[:, 1]).all()  # the images of a row alike
    assert (cropped[:, :, 3, 3, :2] - cropped[:, :, 0, 0, :2] == 3).all()  # whole parts of the image


def test_features_are_of_bytes_and_of_numbers_alike_and_many_rows_are_those_of_few(monkeypatch):
    torch.manual_seed(0)
    encoder = ImageEncoder(16, 24, VisionConfig(keypoints=3, features=5))
    images = torch.randint(0, 256, (6, 2, 16, 24, 3), dtype=torch.uint8)
    features = encoder(images)
    assert features.shape == (6, 10)
    torch.testing.assert_close(encoder(images.float()), features)
    monkeypatch.setattr("onestride.networks.vision.CHUNK", 2)
    with torch.no_grad():
        torch.testing.assert_close(encoder(images), features)


def test_a_resnet_has_torchvisions_layers_and_no_batch_statistics():
    network = ResNet18()
    names = set(network.state_dict())
    assert {"conv1.weight", "layer1.0.bn1.weight", "layer2.0.downsample.0.weight", "layer4.1.conv2.weight"} <= names
    assert sum(p.numel() for p in network.parameters()) == 11_689_512 - 513_000  # He et al.'s, without the classifier
    assert not list(network.buffers())
    assert network(torch.zeros(1, 3, 64, 96)).shape == (1, 512, 2, 3)


@pytest.mark.parametrize(
    "wrong", [{"network": "vit"}, {"crop": 0.0}, {"crop": 1.5}, {"keypoints": 0}, {"images": 0}, {"draws": 0}]
)
def test_an_encoder_that_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError, match=f"vision.*{next(iter(wrong))}"):
        VisionConfig(**wrong)
