import contextlib

import pytest
import torch
from confident_ode.priors import grow as module
from confident_ode.priors.grow import grow, grown_config, halved
from confident_ode.priors.loading import load
from confident_ode.priors.photos import Photos
from confident_ode.priors.train import train
from confident_ode.samplers.noise_levels import NoiseLevels, linear_betas
from diffusers import UNet2DModel
from PIL import Image
from prior.tiny import write_prior


def flat(count, side=64):
    """Photos of one colour each."""
    colours = torch.rand(count, 3, 1, 1, generator=torch.Generator().manual_seed(0))
    return Photos(
        (255 * colours).to(torch.uint8).expand(-1, -1, side, side).contiguous(), torch.arange(count) % 2, ("cat", "dog")
    )


@pytest.fixture
def prior(tmp_path):
    write_prior(tmp_path / "small", unet={"num_class_embeds": 3}, labels={"0": "cat", "1": "dog"})
    return load(tmp_path / "small")


def test_half_the_noise_is_an_earlier_timestep():
    levels = NoiseLevels(linear_betas())
    t = halved(levels)
    assert t[0] == 0
    assert (t[1:] < torch.arange(1, 1000)).all()
    reached = levels.sigma(t[100:])
    torch.testing.assert_close(reached, levels.sigmas[100:] / 2, rtol=1e-4, atol=0)


def test_the_config_has_one_level_more(prior):
    config = grown_config(prior.network.config)
    assert config["sample_size"] == 32
    assert tuple(config["block_out_channels"]) == (8, 8, 16)
    assert config["down_block_types"] == ("DownBlock2D", "DownBlock2D", "AttnDownBlock2D")
    assert config["up_block_types"] == ("AttnUpBlock2D", "UpBlock2D", "UpBlock2D")
    assert UNet2DModel.from_config(config)(torch.zeros(1, 3, 32, 32), 3, torch.zeros(1).long()).sample.shape[-1] == 32


def test_the_old_network_lies_unchanged_inside_and_the_rest_is_fitted(prior, monkeypatch):
    monkeypatch.setattr(module, "STEPS", 200)
    old = {name: weight.clone() for name, weight in prior.network.state_dict().items()}
    grown = grow(prior.network, prior.levels, flat(40), contextlib.nullcontext())
    new = grown.state_dict()
    for name, weight in old.items():
        assert torch.equal(weight, prior.network.state_dict()[name])
        if not name.startswith((*module.REPLACED, "time_embedding")):
            assert torch.equal(new[module._moved(name)], weight), name
    assert all(weight.requires_grad for weight in grown.parameters())

    # it is handed about what the old network's first convolution makes of the mean of 2 x 2 pixels
    t = torch.tensor([100, 500])
    sigma = prior.levels.sigma(t).float().view(-1, 1, 1, 1)
    x = flat(2, 32).pictures / 127.5 - 1
    noisy = (x + sigma * torch.randn(x.shape, generator=torch.Generator().manual_seed(1))) / (1 + sigma**2).sqrt()
    halves = torch.nn.functional.avg_pool2d(noisy, 2) * ((1 + sigma**2) / (1 + sigma**2 / 4)).sqrt()
    with torch.no_grad():
        wanted = prior.network.conv_in(halves)
        given = module.handed_on(grown, noisy, t.float(), torch.tensor([0, 1]))
        times = grown.time_embedding(grown.time_proj(t.float()))
        old_times = prior.network.time_embedding(prior.network.time_proj(halved(prior.levels)[t]))
    assert (given - wanted).square().mean() < 0.3 * wanted.var()
    assert (times - old_times).square().mean() < 0.5 * old_times.var()


def test_the_same_seed_grows_the_same(prior, monkeypatch):
    monkeypatch.setattr(module, "STEPS", 3)
    monkeypatch.setattr(module, "TIME_STEPS", 3)
    a, b, c = (grow(prior.network, prior.levels, flat(9), contextlib.nullcontext(), seed) for seed in (0, 0, 1))
    assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))
    assert not torch.equal(a.conv_in.weight, c.conv_in.weight)


def test_a_training_grows_its_start_and_goes_on(prior, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(module, "STEPS", 2)
    monkeypatch.setattr(module, "TIME_STEPS", 3)
    for i in range(6):
        path = tmp_path / "photos" / ("cat", "dog")[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (48, 40), (40 * i, 90, 200)).save(path)
    options = {"init": str(tmp_path / "small"), "size": 32, "precision": "fp32", "batch": 2}
    folder = train(tmp_path / "photos", tmp_path / "out", steps=1, **options)
    assert load(folder).size == 32
    train(tmp_path / "photos", tmp_path / "out", steps=2, **options)
    assert "from step 1 on" in capsys.readouterr().err
