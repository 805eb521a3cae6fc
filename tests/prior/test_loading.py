import json
import pickle

import pytest
import torch
from confident_ode.priors import loading
from confident_ode.priors.loading import bundled, load, zero_terminal_snr
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from prior.tiny import WEIGHTS
from safetensors.torch import save_file

LABELS = {"0": "cat", "1": "Dog"}


def refused(folder):
    """The sentence with which a prior is refused: one line, no chain of tracebacks."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        load(folder)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert sentence.endswith(".")
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return sentence


@pytest.mark.parametrize("flat", [False, True])
def test_both_layouts_give_the_network_that_was_saved(write, flat):
    folder, tensors = write(flat=flat)
    prior = load(folder)
    assert (prior.size, prior.channels, prior.classes, prior.null) == (16, 3, (), None)
    assert prior.dtype == next(prior.network.parameters()).dtype == torch.float32
    assert not prior.network.training
    loaded = prior.network.state_dict()
    assert loaded.keys() == tensors.keys()
    assert all(torch.equal(loaded[name], tensors[name]) for name in tensors)


def test_a_denoiser_is_x_minus_sigma_eps(write):
    prior = load(write()[0])
    x, sigma = torch.randn(2, 3, 16, 16), prior.levels.sigma(300).float().expand(2)
    eps = prior.network(x / (1 + sigma[0] ** 2).sqrt(), torch.tensor(300.0)).sample
    assert eps.std() > 0.05
    expected = x - sigma[0] * eps
    torch.testing.assert_close(prior.model(threshold=False)(x, sigma), expected, atol=1e-4, rtol=1e-4)
    thresholded = prior.model()(x, sigma)
    assert thresholded.abs().max() <= 1
    assert not torch.allclose(thresholded, expected.clamp(-1, 1))


def test_v_prediction_is_read_from_the_scheduler(write):
    prior = load(write(scheduler={"prediction_type": "v_prediction"})[0])
    x, sigma = torch.randn(1, 3, 16, 16), prior.levels.sigma(300).float().expand(1)
    a = 1 / (1 + sigma**2).sqrt()
    v = prior.network(a * x, torch.tensor(300.0)).sample
    torch.testing.assert_close(prior.model(threshold=False)(x, sigma), a * a * x - sigma * a * v, atol=1e-4, rtol=1e-4)


def test_shards_load_like_one_file(write):
    folder, tensors = write()
    shard(folder / "unet", tensors)
    loaded = load(folder).network.state_dict()
    assert all(torch.equal(loaded[name], tensors[name]) for name in tensors)


def shard(unet, tensors, names=("one.safetensors", "two.safetensors")):
    half = sorted(tensors)[: len(tensors) // 2]
    weight_map = {name: names[name not in half] for name in tensors}
    for file in names:
        save_file({name: tensors[name] for name, to in weight_map.items() if to == file}, unet / file, {"format": "pt"})
    (unet / WEIGHTS).unlink()
    index = unet / f"{WEIGHTS}.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return index, weight_map


def test_half_precision_files_are_computed_in_float32(write):
    folder, tensors = write()
    save_file({name: value.half() for name, value in tensors.items()}, folder / "unet" / WEIGHTS, {"format": "pt"})
    assert {value.dtype for value in load(folder).network.state_dict().values()} == {torch.float32}


@pytest.mark.parametrize(("precision", "error"), [("bf16", 0.05), ("fp16", 0.01)])
def test_only_the_network_computes_in_another_precision(write, precision, error):
    folder, _ = write()
    whole, half = load(folder), load(folder, precision=precision)
    assert next(half.network.parameters()).dtype == half.dtype == loading.PRECISIONS[precision]
    x, sigma = torch.randn(2, 3, 16, 16), whole.levels.sigma(300).float().expand(2)
    expected, found = (prior.model()(x, sigma) for prior in (whole, half))
    assert found.dtype == torch.float32
    assert 0 < (found - expected).square().mean().sqrt() < error * expected.std()


def test_a_precision_that_is_none_is_refused(write):
    with pytest.raises(ValueError, match="'int8' is unknown: take one of fp32, bf16, fp16"):
        load(write()[0], precision="int8")


def test_convolutions_find_their_weights_in_the_layout_they_are_fastest_in(write):
    weights = [p for p in load(write()[0]).network.parameters() if p.ndim == 4 and min(p.shape) > 1]
    assert weights
    assert all(weight.is_contiguous(memory_format=torch.channels_last) for weight in weights)


def test_the_variance_that_a_network_learned_is_left_out(write):
    prior = load(write(unet={"out_channels": 6})[0])
    assert prior.model()(torch.randn(1, 3, 16, 16), torch.ones(1)).shape == (1, 3, 16, 16)


@pytest.mark.parametrize(
    "config",
    [
        {"beta_schedule": "linear"},
        {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
        {"beta_schedule": "squaredcos_cap_v2"},
        {"beta_schedule": "linear", "rescale_betas_zero_snr": True},
        {"trained_betas": torch.linspace(1e-3, 0.3, 50).tolist()},
    ],
)
def test_schedules_are_those_of_diffusers(write, config):
    prior = load(write(scheduler=config)[0])
    theirs = DDPMScheduler(**config).alphas_cumprod.double()
    ours = prior.levels.alpha_bar(torch.arange(len(prior.levels)))
    # diffusers computes in float32, and puts a last alpha_bar of 0 at 2^-24
    torch.testing.assert_close(ours[:-1], theirs[:-1], rtol=3e-4, atol=3e-7)


def test_zero_terminal_snr_ends_in_pure_noise():
    betas = zero_terminal_snr(torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64))
    assert betas[-1] == 1
    torch.testing.assert_close(betas[0], torch.tensor(1e-4, dtype=torch.float64))


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"beta_schedule": "sigmoid"}, "beta_schedule is 'sigmoid'"),
        ({"beta_start": "much"}, "no usable noise schedule"),
        ({"beta_end": 3.0}, "above 0 and at most 1"),
        ({"prediction_type": "sample"}, "predicts 'sample'"),
        ({"prediction_type": None}, "predicts None"),
    ],
)
def test_schedulers_that_cannot_be_used_are_refused(write, config, words):
    assert words in refused(write(scheduler=config)[0])


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"_class_name": "UNet2DConditionModel"}, "holds a UNet2DConditionModel"),
        ({"sample_size": [16, 32]}, "sample_size is [16, 32]"),
        ({"sample_size": None}, "sample_size is None"),
        ({"in_channels": 4, "out_channels": 4}, "4 channels in"),
        ({"num_class_embeds": 3, "class_embed_type": "timestep"}, "embeds classes as 'timestep'"),
        ({"time_embedding_type": "fourier"}, "times must be positional"),
    ],
)
def test_networks_that_are_no_prior_are_refused(write, config, words):
    folder, _ = write()
    file = folder / "unet" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **config}))
    assert words in refused(folder)


def test_a_config_that_builds_no_network_is_refused(write):
    folder, _ = write()
    file = folder / "unet" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "down_block_types": ["NoBlock", "DownBlock2D"]}))
    assert "cannot be made" in refused(folder)


class TestClasses:
    def test_the_last_embedding_is_null_where_there_is_one_more_than_names(self, write):
        prior = load(write(unet={"num_class_embeds": 3}, labels=LABELS)[0])
        assert (prior.classes, prior.null) == (("cat", "Dog"), 2)
        for label, index in ((None, 2), ("DOG", 1), ("cat", 0), (1, 1), ("1", 1)):
            assert prior.conditioning(label, 2)["class_labels"].tolist() == [index] * 2

    def test_unknown_labels_are_answered_with_the_classes(self, write):
        prior = load(write(unet={"num_class_embeds": 3}, labels=LABELS)[0])
        for label in ("fish", 2, -1):
            with pytest.raises(ValueError, match="take one of cat, Dog"):
                prior.conditioning(label, 1)

    def test_without_a_null_class_a_label_is_needed_and_guidance_refused(self, write):
        prior = load(write(unet={"num_class_embeds": 2}, labels=LABELS)[0])
        assert prior.null is None
        with pytest.raises(ValueError, match="needs a class: give one of cat, Dog"):
            prior.conditioning(None, 1)
        with pytest.raises(ValueError, match="cannot be guided"):
            prior.model(guidance=2)

    def test_without_names_classes_are_numbers(self, write):
        prior = load(write(unet={"num_class_embeds": 2})[0])
        assert (prior.classes, prior.null) == (("0", "1"), None)

    def test_an_unconditional_prior_takes_no_label(self, write):
        prior = load(write()[0])
        assert prior.conditioning(None, 2) == {}
        with pytest.raises(ValueError, match="knows no classes"):
            prior.conditioning("cat", 1)

    def test_guidance_goes_beyond_the_class(self, write):
        prior = load(write(unet={"num_class_embeds": 3}, labels=LABELS)[0])
        x, sigma = torch.randn(1, 3, 16, 16), torch.ones(1)
        plain = prior.model(threshold=False)
        null, cat = (plain(x, sigma, **prior.conditioning(label, 1)) for label in (None, "cat"))
        guided = prior.model(guidance=3, threshold=False)(x, sigma, **prior.conditioning("cat", 1))
        assert (cat - null).abs().max() > 1e-3
        torch.testing.assert_close(guided, null + 3 * (cat - null), atol=1e-4, rtol=1e-4)

    @pytest.mark.parametrize("labels", [{"0": "cat"}, {"0": "cat", "2": "dog"}, ["cat", "dog"]])
    def test_names_that_do_not_fit_the_network_are_refused(self, write, labels):
        assert "name" in refused(write(unet={"num_class_embeds": 3}, labels=labels)[0])


class TestBadWeights:
    def spoil(self, write, content):
        folder, _ = write()
        file = folder / "unet" / WEIGHTS
        file.write_bytes(content(file.read_bytes()))
        return folder

    def test_corrupt(self, write):
        assert "damaged or cut off" in refused(self.spoil(write, lambda whole: b"\xff" * 4096 + whole))

    @pytest.mark.parametrize("kept", [0, 5, 0.5, 0.99])
    def test_truncated(self, write, kept):
        folder = self.spoil(write, lambda whole: whole[: int(kept * len(whole)) if kept < 1 else kept])
        assert "damaged or cut off" in refused(folder)

    @pytest.mark.parametrize("old", [False, True])
    def test_a_pickle_under_a_safetensors_name_is_not_opened(self, write, tmp_path, old):
        trap = tmp_path / "sprung"
        folder = self.spoil(write, lambda whole: pickle.dumps(Trap(trap)))
        if not old:
            torch.save({"weight": Trap(trap)}, folder / "unet" / WEIGHTS)
        assert "pickle under a safetensors name" in refused(folder)
        assert not trap.exists()

    @pytest.mark.parametrize("name", ["diffusion_pytorch_model.bin", "model.pt", "model.ckpt"])
    def test_only_pickled_weights_point_to_convert(self, write, name):
        folder, tensors = write()
        torch.save(tensors, folder / "unet" / name)
        (folder / "unet" / WEIGHTS).unlink()
        assert "confident-ode priors convert" in refused(folder)

    def test_no_weights(self, write):
        folder, _ = write()
        (folder / "unet" / WEIGHTS).unlink()
        assert "holds no weights" in refused(folder)

    def test_a_missing_tensor(self, write):
        folder, tensors = write()
        del tensors["conv_in.bias"]
        save_file(tensors, folder / "unet" / WEIGHTS, {"format": "pt"})
        assert "lack conv_in.bias" in refused(folder)

    def test_a_tensor_too_many(self, write):
        folder, tensors = write()
        save_file({**tensors, "more": torch.zeros(1)}, folder / "unet" / WEIGHTS, {"format": "pt"})
        assert "more" in refused(folder)

    def test_a_wrong_shape(self, write):
        folder, tensors = write()
        tensors["conv_in.bias"] = torch.zeros(3)
        save_file(tensors, folder / "unet" / WEIGHTS, {"format": "pt"})
        assert "conv_in.bias" in refused(folder)

    @pytest.mark.parametrize("name", ["two.bin", "../two.safetensors", "sub/two.safetensors"])
    def test_an_index_that_names_something_else_is_refused(self, write, name):
        folder, tensors = write()
        index, weight_map = shard(folder / "unet", tensors)
        index.write_text(json.dumps({"weight_map": {**weight_map, "conv_in.bias": name}}))
        assert "no safetensors file beside it" in refused(folder)

    def test_an_index_without_a_map_is_refused(self, write):
        folder, tensors = write()
        index, _ = shard(folder / "unet", tensors)
        index.write_text("{}")
        assert "no weight_map" in refused(folder)

    def test_a_missing_shard(self, write):
        folder, tensors = write()
        shard(folder / "unet", tensors)
        (folder / "unet" / "two.safetensors").unlink()
        assert "two.safetensors is missing" in refused(folder)

    def test_a_shard_without_what_the_index_promises(self, write):
        folder, tensors = write()
        _, weight_map = shard(folder / "unet", tensors)
        held = {name: tensors[name] for name, file in weight_map.items() if file == "two.safetensors"}
        lost = held.popitem()[0]
        save_file(held, folder / "unet" / "two.safetensors", {"format": "pt"})
        assert f"lacks {lost}" in refused(folder)


class Trap:
    """A pickle of this makes the file `path` when it is opened."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("name", ["unet/config.json", "scheduler/scheduler_config.json"])
@pytest.mark.parametrize("content", [None, "{", "[]", b"\xff\xfe\xfd"])
def test_missing_or_broken_json(write, name, content):
    folder, _ = write()
    file = folder / name
    if content is None:
        file.unlink()
        assert f"{name} is missing" in refused(folder)
    else:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        assert "JSON" in refused(folder)


def test_sources_that_are_not_there(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="take flowers32, flowers64"):
        load("nothing")
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(ValueError, match="is a file"):
        load(file)
    with pytest.raises(ValueError, match="device 'abacus'"):
        load("flowers32", "abacus")

    def offline(*_, **__):
        raise ConnectionError("no network")

    monkeypatch.setattr(loading, "snapshot_download", offline)
    with pytest.raises(OSError, match="could not be fetched from the hub: check"):
        load("owner/prior")


def test_a_hub_id_fetches_json_and_safetensors_only(write, monkeypatch):
    folder, _ = write()
    asked = {}

    def snapshot(repository, allow_patterns):
        asked[repository] = allow_patterns
        return str(folder)

    monkeypatch.setattr(loading, "snapshot_download", snapshot)
    assert load("owner/prior").name == "owner/prior"
    assert asked == {"owner/prior": ["*.json", "*.safetensors"]}


def test_loading_says_nothing(write, capfd):
    load(write()[0])
    load(write()[0], precision="bf16")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", bundled())
def test_bundled_priors_are_complete(name):
    folder = loading.HERE / name
    for file in ("README.md", "CREDITS.csv", "samples.png"):
        assert (folder / file).stat().st_size > 0
    assert "CC BY 2.0" in (folder / "README.md").read_text(encoding="utf-8")
    pipeline = DDPMPipeline.from_pretrained(folder)
    assert isinstance(pipeline.unet, UNet2DModel)
    assert pipeline.unet.config.num_class_embeds == len(load(name).classes) + 1
