import pickle
import warnings
from importlib import util

import numpy as np
import pytest
import torch
from confident_ode.corruptions import damages, fields, imagenet_c, warps
from confident_ode.corruptions.catalogue import CORRUPTIONS, FAMILIES, LOOKS, MORE, available, checked, corrupt
from confident_ode.corruptions.imagenet_c import IN_PIXELS
from torch.nn.functional import interpolate

# as the paper's code and project page name them
PAPER = {
    "imagenet-c": "motion_blur frost speckle_noise impulse_noise shot_noise jpeg_compression pixelate brightness fog "
    "saturate gaussian_noise elastic_transform snow spatter glass_blur gaussian_blur contrast",
    "c-bar": "single_frequency_greyscale cocentric_sine_waves plasma_noise voronoi_noise caustic_noise "
    "inverse_sparkles perlin_noise blue_noise brownish_noise bleach_bypass technicolor pseudocolor hue_shift "
    "color_dither checkerboard_cutout lines blue_noise_sample caustic_refraction pinch_and_twirl fish_eye water_drop "
    "ripple perspective_no_bars quadrilateral_no_bars scatter chromatic_abberation transverse_chromatic_abberation "
    "circular_motion_blur",
    "masks": "masking_random_color masking_vline_random_color",
}
NOT_DRAWN = (
    "jpeg_compression",
    "pixelate",
    "brightness",
    "saturate",
    "contrast",
    "gaussian_blur",
    "bleach_bypass",
    "technicolor",
    "color_dither",
    "circular_motion_blur",
)
EVERY = [*CORRUPTIONS, *MORE]
OWN = [name for name in EVERY if name not in FAMILIES["imagenet-c"]]
needs_library = pytest.mark.skipif(
    util.find_spec("imagecorruptions") is None, reason="no imagecorruptions-imaug (pip install it)"
)
THAT_RUN = [pytest.param(name, marks=[needs_library] if name in FAMILIES["imagenet-c"] else []) for name in EVERY]


def smooth(batch=1, height=40, width=56):
    """Pictures of soft blots, all colours."""
    blots = torch.rand(batch, 3, 5, 7, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return interpolate(blots, (height, width), mode="bicubic").clamp(-1, 1)


def eight_bits(pictures):
    return ((pictures + 1) * 127.5).round() / 127.5 - 1


def psnr(a, b):
    return -10 * ((a - b) / 2).square().mean().log10().item()


def test_they_are_the_papers_47():
    assert {family: sorted(names) for family, names in FAMILIES.items()} == {
        family: sorted(names.split()) for family, names in PAPER.items()
    }
    assert [len(names) for names in FAMILIES.values()] == [17, 28, 2]
    assert len(CORRUPTIONS) == 47
    assert not CORRUPTIONS.keys() & MORE.keys()


def test_each_says_what_it_looks_like():
    assert LOOKS.keys() == {*EVERY}
    assert len(set(LOOKS.values())) == len(LOOKS)
    assert all(8 < len(looks) < 70 for looks in LOOKS.values())


@pytest.mark.parametrize("name", THAT_RUN)
def test_pictures_in_pictures_out(name):
    pictures = smooth(2)
    before, numpys, torchs = pictures.clone(), np.random.get_state()[1].copy(), torch.get_rng_state()
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        weak, strong = corrupt(pictures, name, 1, 3), corrupt(pictures.double(), name, 5, 3)
    assert (weak.dtype, strong.dtype) == (torch.float32, torch.float64)
    for damaged in (weak, strong):
        assert damaged.shape == pictures.shape
        assert damaged.abs().max() <= 1
        assert (damaged - pictures).abs().mean() > 1e-3
    assert (weak - strong).abs().mean() > 1e-3
    assert torch.equal(pictures, before)
    assert (np.random.get_state()[1] == numpys).all()
    assert torch.equal(torch.get_rng_state(), torchs)


@pytest.mark.parametrize("name", THAT_RUN)
def test_a_seed_is_a_damage_and_a_batch_is_a_loop_with_the_next_seeds(name):
    pictures = smooth(2, 24, 33)
    together = corrupt(pictures, name, 5, 7)
    assert torch.equal(corrupt(pictures, name, 5, 7), together)
    for i in range(2):
        # but for the last digit of exp and sin, which depends on the place in memory
        torch.testing.assert_close(corrupt(pictures[i : i + 1], name, 5, 7 + i), together[i : i + 1], rtol=0, atol=1e-6)
    others = [torch.equal(corrupt(pictures, name, 5, seed), together) for seed in (8, 9, 10)]
    assert all(others) == (name in NOT_DRAWN)
    assert corrupt(pictures[:1], name, 5, 2**64 - 1).abs().max() <= 1


@pytest.mark.parametrize("name", [each for each in THAT_RUN if each.values != ("frost",)])
def test_a_higher_severity_damages_more(name):
    """Of the library the highest than the lowest, of saturate than the middle: 1 and 2 take colour away. frost dims."""
    severities = (1, 2, 3, 4, 5) if name in OWN else (3, 5) if name == "saturate" else (1, 5)
    pictures = smooth(6 if name in OWN else 3)
    distances = [(corrupt(pictures, name, severity) - pictures).square().mean().item() for severity in severities]
    assert distances == sorted(set(distances))


@pytest.mark.parametrize("name", OWN)
def test_all_is_computed_on_the_pictures_device(name, monkeypatch):
    """What stayed on the CPU cannot be mixed with the meta device, where sampling itself is slow."""
    for module in (fields, warps):
        monkeypatch.setattr(
            module, "grid_sample", lambda light, grid, **_: light.mean() + grid[:, None, ..., 0].expand(-1, 3, -1, -1)
        )
    assert corrupt(torch.zeros(2, 3, 66, 72, device="meta"), name).device.type == "meta"


@pytest.mark.parametrize("name", THAT_RUN)
@pytest.mark.parametrize(("height", "width"), [(8, 8), (11, 40)])
def test_any_size_and_every_function_can_be_sent_to_a_worker(name, height, width):
    function = pickle.loads(pickle.dumps(checked(name)))
    damaged = function(smooth(1, height, width).sign())
    assert damaged.shape == (1, 3, height, width)
    assert damaged.abs().max() <= 1


@needs_library
@pytest.mark.parametrize("name", FAMILIES["imagenet-c"])
def test_a_large_picture_is_the_librarys_bit_for_bit(name):
    import imagecorruptions

    picture = smooth(1, 256, 260)
    pixels = ((picture[0] + 1) * 127.5).round().byte().movedim(0, -1).numpy()
    number = int(np.random.SeedSequence(9).generate_state(1)[0])
    state = np.random.get_state()
    np.random.seed(number)
    seeds = {"seed": number} if name in imagenet_c.SEEDED else {}
    theirs = imagecorruptions.corrupt(pixels, 4, name, **seeds)
    np.random.set_state(state)
    ours = ((corrupt(picture, name, 4, 9)[0] + 1) * 127.5).round().byte().movedim(0, -1).numpy()
    np.testing.assert_array_equal(ours, theirs)


@needs_library
@pytest.mark.parametrize("name", IN_PIXELS)
def test_a_small_picture_looks_as_damaged_as_a_large_one(name):
    """As the large one made small, of the same seed; spatter of 64 pixels is made of drops smaller than one."""
    large = smooth(1, 256, 256)
    small = interpolate(large, (64, 64), mode="area")
    seen = interpolate(corrupt(large, name, 5, 1), (64, 64), mode="area")
    assert psnr(corrupt(small, name, 5, 1), seen) > (22 if name == "spatter" else 26)
    assert psnr(small, seen) < 40


@needs_library
def test_between_the_drops_a_small_picture_stays_as_it_is():
    picture = eight_bits(smooth(1, 64, 64))
    damaged = corrupt(picture, "spatter")
    same = ((damaged - picture).abs() < 1e-6).all(1).float().mean()
    assert 0.3 < same < 0.95


@needs_library
def test_where_our_own_damages_are_the_librarys():
    """contrast is not: the library pulls each channel to its own mean, and keeps the picture's tint."""
    picture = eight_bits(smooth(1, 256, 256))

    def levels_apart(name, ours):
        return (corrupt(picture, name) - ours).abs() * 127.5

    assert levels_apart("jpeg_compression", damages.jpeg(picture, 7)).max() == 0
    # the library rounds down
    assert levels_apart("brightness", damages.brightness(picture, 0.5)).max() < 1.01
    assert levels_apart("pixelate", damages.pixelate(picture, 0.25)).max() < 1.01
    # it repeats the border, and ours mirrors it
    assert levels_apart("gaussian_blur", damages.gaussian_blur(picture, 6 / 256))[..., 30:-30, 30:-30].max() < 1.01
    for share, amount in ((0, 0.4), (4, 0.05)):
        means = picture.mean((2, 3), keepdim=True)
        apart = (corrupt(picture, "contrast", share + 1) - (means + amount * (picture - means))).abs() * 127.5
        assert apart.max() < 1.6


@pytest.mark.parametrize("severity", [1, 5])
def test_masks_cover_eight_percent_for_each_severity(severity):
    grey = torch.full((2, 3, 64, 64), 0.1237)

    def hit(name):
        return corrupt(grey, name, severity, 4) != grey

    share = 0.08 * severity
    for name in ("masking_random_color", "masking_random_color_random"):
        assert torch.equal(hit(name).any(1), hit(name).all(1))
        assert hit(name).float().mean().item() == pytest.approx(share, abs=0.02)
    columns = hit("masking_vline_random_color")
    assert torch.equal(columns.any(2), columns.all(2))
    assert columns.float().mean().item() == pytest.approx(share, abs=0.06)
    # each channel has columns of its own
    assert not torch.equal(columns[:, 0], columns[:, 1])


def test_one_colour_or_a_colour_each():
    grey = torch.full((1, 3, 64, 64), 0.1237)
    colours = {}
    for name in ("masking_random_color", "masking_random_color_random"):
        damaged = corrupt(grey, name)
        colours[name] = len(damaged[0].flatten(1)[:, (damaged != grey)[0].any(0).flatten()].unique(dim=1).T)
    assert colours["masking_random_color"] == 1
    assert colours["masking_random_color_random"] > 1000


@needs_library
def test_with_the_library_all_run():
    assert available() == EVERY


def test_what_runs_without_the_library(without_library):
    assert available() == OWN
    assert len(available()) == 28 + 2 + 2
    for run in (lambda: corrupt(smooth(), "snow"), lambda: CORRUPTIONS["snow"](smooth())):
        with pytest.raises(ValueError, match=r"^snow needs .*: pip install imagecorruptions-imaug\.$"):
            run()
    assert corrupt(smooth(), "ripple").abs().max() <= 1


@pytest.mark.parametrize(
    ("name", "severity", "pictures", "says"),
    [
        ("perlin", 5, smooth(), "the nearest name is perlin_noise"),
        (["ripple"], 5, smooth(), "the nearest name is ripple"),
        ("", 5, smooth(), "the nearest name is"),
        ("ripple", 0, smooth(), "from 1 to 5"),
        ("ripple", 2.5, smooth(), "from 1 to 5"),
        ("ripple", "5", smooth(), "from 1 to 5"),
        ("ripple", 5, smooth()[:, :1], "take RGB pictures"),
        ("ripple", 5, smooth()[0], "take RGB pictures"),
        ("ripple", 5, smooth(1, 7, 40), "at least 8"),
    ],
)
def test_wrong_use_is_told_in_a_sentence(name, severity, pictures, says):
    with pytest.raises(ValueError, match=says) as error:
        corrupt(pictures, name, severity)
    assert str(error.value).endswith(".")
    assert "\n" not in str(error.value)
