import math

import pytest
import torch
from confident_ode.corruptions import fields, patterns

# how far a ramp is changed, on the mean
PINNED = {
    "single_frequency_greyscale": 0.38607,
    "cocentric_sine_waves": 0.1003,
    "plasma_noise": 0.14471,
    "voronoi_noise": 0.21668,
    "caustic_noise": 0.16499,
    "sparkles": 0.14509,
    "inverse_sparkles": 0.35348,
    "perlin_noise": 0.08796,
    "blue_noise": 0.43993,
    "brownish_noise": 0.2168,
    "checkerboard_cutout": 0.05688,
    "lines": 0.11008,
    "blue_noise_sample": 0.10002,
    "caustic_refraction": 0.03701,
}
# measured in pixels, or bound to the grid of pixels
IN_PIXELS = {"single_frequency_greyscale", "blue_noise", "brownish_noise", "lines", "blue_noise_sample"}
# about points that lie anywhere in the picture, or with a number drawn for every pixel
OF_THE_SHAPE = {"cocentric_sine_waves", "sparkles", "inverse_sparkles", "caustic_refraction"} | IN_PIXELS


def damaged(name, pictures, **settings):
    return getattr(patterns, name)(pictures, **settings)


@pytest.fixture
def pictures():
    return torch.rand(3, 3, 20, 27, generator=torch.Generator().manual_seed(0)) * 2 - 1


def grey(height=64, width=64, batch=1, value=0.0):
    return torch.full((batch, 3, height, width), value)


def numbers(*values):
    return [torch.full((1, 1, 1, 1), float(value), dtype=torch.float64) for value in values]


def plane(height, width, unit=1.0):
    """y (H, 1) and x (1, W), in the unit, as doubles."""
    y, x = (torch.arange(side, dtype=torch.float64) / unit for side in (height, width))
    return y[:, None], x[None]


@pytest.mark.parametrize("name", PINNED)
def test_a_seed_is_a_damage(pictures, name):
    for seed in (0, 5, 2**63, 2**64 - 1):
        assert torch.equal(damaged(name, pictures, seed=seed), damaged(name, pictures, seed=seed))
    assert not torch.equal(damaged(name, pictures, seed=5), damaged(name, pictures, seed=8))
    alike = damaged(name, pictures[:1].repeat(3, 1, 1, 1), seed=5)
    assert not torch.equal(alike[0], alike[1])


@pytest.mark.parametrize("name", PINNED)
def test_a_batch_is_a_loop_with_the_next_seeds(pictures, name):
    together = damaged(name, pictures, seed=7)
    for i in range(3):
        assert torch.equal(together[i : i + 1], damaged(name, pictures[i : i + 1], seed=7 + i))


@pytest.mark.parametrize("name", [name for name in PINNED if name not in IN_PIXELS | {"caustic_refraction"}])
def test_looks_the_same_at_twice_the_size(name):
    large, small = (damaged(name, grey(side, side * 3 // 4, value=0.25).double(), seed=4) for side in (64, 32))
    off = (large[..., ::2, ::2] - small).abs()
    assert off.quantile(0.99) < 2e-3
    assert small.std() > 0.01


@pytest.mark.parametrize("name", [name for name in PINNED if name not in OF_THE_SHAPE])
def test_a_narrow_picture_is_cut_from_a_square_one(name):
    square = damaged(name, grey(48, 48, value=0.25), seed=2)
    assert square[..., :20, :20].std() > 0.01
    assert torch.allclose(damaged(name, grey(48, 20, value=0.25), seed=2), square[..., :20], atol=1e-5)
    assert torch.allclose(damaged(name, grey(20, 48, value=0.25), seed=2), square[..., :20, :], atol=1e-5)


def test_the_grating_is_one_plane_wave_of_the_strength_of_the_code():
    waves = patterns.single_frequency_greyscale(grey(64, 80, batch=8).double(), severity=3)
    assert torch.equal(waves, waves[:, :1].expand_as(waves))
    for wave in waves[:, 0]:
        # f(x + 1) + f(x - 1) = 2 cos(k) f(x), along either side
        for f in (wave, wave.mT):
            sums = f[:, 2:] + f[:, :-2]
            ratio = (sums * f[:, 1:-1]).sum() / f[:, 1:-1].square().sum()
            assert torch.allclose(sums, ratio * f[:, 1:-1], atol=1e-9)
    assert waves.abs().max().item() == pytest.approx(2 * 3 * 19.6 / 255, rel=1e-3)


def test_gratings_have_all_frequencies_up_to_half_a_cycle_a_pixel():
    waves = patterns.single_frequency_greyscale(grey(64, 64, batch=200), severity=1)[:, 0]
    power = torch.fft.rfft2(waves - waves.mean((1, 2), keepdim=True)).abs()
    rows, columns = torch.unravel_index(power.flatten(1).argmax(1), power.shape[1:])
    down, across = torch.fft.fftfreq(64)[rows].abs(), columns / 64
    # the larger of the two is uniform from 0 to half a cycle, and is either with the same chance
    larger = torch.maximum(down, across)
    assert larger.mean().item() == pytest.approx(0.25, abs=0.03)
    assert larger.max() > 0.45
    assert (down > across).float().mean().item() == pytest.approx(0.5, abs=0.12)


def test_rings_are_teeth_of_their_spacing(monkeypatch):
    monkeypatch.setattr(patterns, "uniform", lambda *_: numbers(0, 0, 3, 0, 5))
    rings = patterns.cocentric_sine_waves(grey(40, 40).double(), severity=4)[0, 0]
    expected = 2 * 4 * 12.8 / 255 * ((torch.arange(40) / 5) % 1 - 0.5)
    assert torch.allclose(rings[0], expected.double(), atol=1e-6)
    assert torch.allclose(rings[:, 0], expected.double(), atol=1e-6)
    # (24, 32) is 40 pixels away: at the end of the eighth tooth, or the start of the ninth
    assert rings[24, 32].abs().item() == pytest.approx(4 * 12.8 / 255, abs=1e-6)


def test_rings_are_bent_by_a_sine_along_the_circle(monkeypatch):
    monkeypatch.setattr(patterns, "uniform", lambda *_: numbers(20, 20, 3, 2, 1000))
    rings = patterns.cocentric_sine_waves(grey(41, 41).double(), severity=10)[0, 0]
    distance = (rings * 255 / 256 + 0.5) * 1000
    # straight across the angle is a quarter turn, and sin(3 * 90 degrees) = -1
    assert distance[20, 30].item() == pytest.approx(10 - 2, abs=1e-6)
    assert distance[30, 20].item() == pytest.approx(10, abs=1e-6)


@pytest.mark.parametrize("iterations", [4, 5, 6])
def test_plasma_is_its_recurrence_in_complex_numbers(iterations):
    y, x, time, sharpness = 1.3, -0.4, 2.5, 0.7
    z = complex(x, y)
    for n in range(iterations):
        f, phase = 1.93**n, time / 1.15**n
        z += complex(math.cos(z.imag * f + phase), math.sin(z.real * f + phase)) * (1 + 0.3j) / (2.25 - sharpness) ** n
    expected = [
        math.sin(z.real - time),
        math.sin((z.real + z.imag + math.sin(time)) / 2),
        math.sin(z.imag + time),
    ]
    field = fields.plasma(*numbers(y, x, time, iterations, sharpness))
    assert field.flatten().tolist() == pytest.approx(expected, abs=1e-9)


def test_plasma_noise_mixes_with_a_quarter_of_the_code():
    picture = torch.full((1, 3, 32, 32), 0.6)
    amount = 5 * 6.4 / 255
    waves = (patterns.plasma_noise(picture) - (1 - amount) * 1.6 + 1) / (2 * amount)
    assert waves.abs().max() <= 1 + 1e-4
    assert 0.3 < waves.std() < 0.9


def test_cells_that_are_not_stirred_are_a_square_net():
    y, x = plane(30, 40, 7)
    nearest = fields.voronoi(y + 1, x + 1, *numbers(0))[0, 0]
    assert torch.allclose(nearest, torch.hypot(y - y.round(), x - x.round()))


def test_cells_are_distances():
    y, x = plane(200, 200, 25)
    nearest = fields.voronoi(y + 1, x + 1, *numbers(9.3))[0, 0]
    assert nearest.min() >= 0
    assert nearest.max() <= 1
    # a distance grows by no more than the way: this fails if a nearer point, in some cell, is overlooked
    assert nearest.diff(dim=0).abs().max() <= 1 / 25 + 1e-9
    assert nearest.diff(dim=1).abs().max() <= 1 / 25 + 1e-9
    assert not torch.allclose(nearest, fields.voronoi(y + 1, x + 1, *numbers(0))[0, 0], atol=0.1)


def test_cells_lighten_some_pictures_and_darken_others():
    change = patterns.voronoi_noise(grey(32, 32, batch=40), severity=1).mean((1, 2, 3))
    assert 8 < (change > 0).sum() < 32
    assert patterns.voronoi_noise(grey(32, 32, batch=40), severity=4).abs().max() <= 0.4


def test_caustics_repeat_and_are_light():
    y, x = plane(24, 30, 20)
    light = fields.caustic(y, x, *numbers(1.2))
    assert torch.allclose(light, fields.caustic(y + 1, x - 2, *numbers(1.2)), atol=1e-6)
    assert light.min() >= 0
    assert light.max() <= 1
    assert light.std() > 0.05
    assert not torch.allclose(light, fields.caustic(y, x, *numbers(1.3)), atol=0.05)


# computed with the public code of C-bar at (y, x) = (0.3, 0.7), 1 more for the cells
@pytest.mark.parametrize(
    ("field", "drawn", "expected"),
    [
        (fields.caustic, (1.2,), 0.0918863392937548),
        (fields.voronoi, (7.0,), 0.5121343660735641),
    ],
)
def test_fields_have_the_values_of_the_public_code(field, drawn, expected):
    offset = field is fields.voronoi
    found = field(*numbers(0.3 + offset, 0.7 + offset, *drawn))
    assert found.item() == pytest.approx(expected, abs=1e-6)


def test_a_star_is_1_within_and_falls_with_the_square_of_distance():
    angle = torch.linspace(-3.1, 3.1, 4001, dtype=torch.float64).view(1, 1, 1, -1)
    lengths = torch.full((1, 200), 3.0, dtype=torch.float64)

    def ring(distance, decay):
        return fields.star(distance * angle.cos(), distance * angle.sin(), lengths, *numbers(70), decay).flatten()

    assert torch.equal(ring(1.0, 1), torch.ones(4001).double())
    for distance, decay in ((6.0, 1), (30.0, 1), (30.0, 0.5)):
        found = ring(distance, decay) * (distance / 3) ** (2 * decay)
        assert found.max().item() == pytest.approx(1, abs=1e-3)
        assert found.min().item() == pytest.approx(0.75, abs=1e-3)
    far = ring(30.0, 1)
    peaks = (far[1:-1] > far[:-2]) & (far[1:-1] >= far[2:])
    assert peaks.sum().item() == pytest.approx(70 * 6.2 / (2 * math.pi), abs=1)


def test_a_star_has_the_length_of_each_ray():
    lengths = torch.tensor([[2.0, 4.0, 6.0, 8.0]], dtype=torch.float64)
    # between two of four rays, from the direction of -y on
    for angle, reach in ((-135, 3), (-45, 5), (45, 7), (135, 5)):
        y, x = (100 * part(math.radians(angle)) for part in (math.cos, math.sin))
        assert fields.star(*numbers(y, x), lengths, *numbers(4), 1).item() == pytest.approx(
            (reach / 100) ** 2, rel=1e-6
        )


def test_sparkles_only_lighten_and_are_five(monkeypatch, pictures):
    assert (patterns.sparkles(pictures) >= pictures - 1e-6).all()
    middles = [(8, 8), (8, 40), (40, 8), (40, 40), (25, 25)]
    monkeypatch.setattr(patterns, "uniform", lambda *_: numbers(*(n for y, x in middles for n in (y, x, 100))))
    stars = patterns.sparkles(-torch.ones(1, 3, 64, 64).double(), severity=2)
    assert all((stars[0, :, y, x] == 1).all() for y, x in middles)
    assert 0.01 < (stars > 0).double().mean() < 0.1


def test_inverse_sparkles_leave_a_star_and_turn_the_rest_white(monkeypatch):
    monkeypatch.setattr(patterns, "uniform", lambda *_: numbers(32, 32, 100))
    monkeypatch.setattr(patterns, "many", lambda *_, **__: torch.zeros(1, 200).double())
    after = patterns.inverse_sparkles(-torch.ones(1, 3, 65, 64).double(), severity=5)
    kept = (1 - after[0, 0]) / 2
    assert kept[30:35, 30:35].min() > 0.99
    # rays of a quarter of the side: at (0, 32) the light is twice as far
    assert 0.75 - 1e-3 <= kept[0, 32] / (16.25 / 32) ** (2 * 0.13 * 5) <= 1 + 1e-3


def test_perlin_noise_is_0_on_its_lattice_and_has_its_gradients():
    gradients = torch.randn(1, 2, 6, 6, generator=torch.Generator().manual_seed(1)).double()
    y, x = plane(5, 5)
    assert torch.equal(fields.perlin(y, x, gradients), torch.zeros(1, 1, 5, 5).double())
    step = 1e-4
    assert torch.allclose(fields.perlin(y + step, x, gradients)[:, 0] / step, 1.5 * gradients[:, 0, :5, :5], atol=1e-2)
    assert torch.allclose(fields.perlin(y, x + step, gradients)[:, 0] / step, 1.5 * gradients[:, 1, :5, :5], atol=1e-2)
    # halfway between four, each counts a quarter
    corners = sum(
        (gradients[0, 0, i, j] * (0.5 - i) + gradients[0, 1, i, j] * (0.5 - j)) / 4 for i in (0, 1) for j in (0, 1)
    )
    half = torch.full((1, 1), 0.5).double()
    assert fields.perlin(half, half, gradients).item() == pytest.approx(1.5 * corners.item())


def test_turbulence_is_five_octaves_without_sign():
    gradients = torch.randn(1, 2, 40, 40, generator=torch.Generator().manual_seed(1)).double()
    y, x = plane(20, 20, 9)
    octaves = [fields.perlin(k * y, k * x, gradients).abs() / k for k in (1, 2, 4, 8, 16)]
    assert torch.allclose(fields.turbulence(y, x, gradients), torch.stack(octaves).sum(0))
    assert torch.equal(patterns.perlin_noise(torch.ones(1, 3, 16, 16))[..., 0, 0], torch.full((1, 3), 0.75))


@pytest.mark.parametrize(("name", "strength", "slope"), [("blue_noise", 19.6, 2), ("brownish_noise", 6.4, -4)])
def test_coloured_noise_has_its_spectrum_and_strength(name, strength, slope):
    noise = damaged(name, grey(96, 96, batch=12), severity=1) * 255 / 2
    assert torch.allclose(noise.std((2, 3), correction=0), torch.full((12, 3), strength), rtol=1e-3)
    power = torch.fft.fft2(noise).abs().square().mean((0, 1))
    cycles = 96 * fields.frequency(noise)
    band = (cycles > 8) & (cycles < 48)
    x, y = cycles[band].log(), power[band].log()
    fitted = ((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum()
    assert fitted.item() == pytest.approx(slope, abs=0.1)


def test_blue_noise_is_another_in_each_channel():
    noise = patterns.blue_noise(grey(64, 64), severity=1)[0].flatten(1)
    assert torch.corrcoef(noise)[0, 1:].abs().max() < 0.1


@pytest.mark.parametrize("severity", [1, 5, 10])
def test_the_cutout_covers_a_share_of_every_second_square(severity):
    after = patterns.checkerboard_cutout(torch.ones(400, 3, 24, 24), severity=severity)
    assert set(after.unique().tolist()) == {0, 1}
    assert (after == 0).float().mean().item() == pytest.approx(severity / 20, abs=0.015)


def test_squares_of_the_cutout_are_square(monkeypatch):
    monkeypatch.setattr(patterns, "uniform", lambda *_: numbers(0, 4))
    after = patterns.checkerboard_cutout(torch.ones(1, 3, 18, 22), severity=10)
    rows, columns = torch.arange(18)[:, None] // 4, torch.arange(22) // 4
    assert torch.equal(after[0, 0] == 0, (rows + columns) % 2 == 0)


def test_a_line_covers_as_much_as_it_is_near():
    draw = torch.Generator().manual_seed(3)
    starts, ends = (40 * torch.rand(2, 9, 2, generator=draw, dtype=torch.float64) - 8 for _ in range(2))
    y, x = plane(21, 26)
    expected = torch.ones(2, 21, 26, dtype=torch.float64)
    for picture in range(2):
        for (y0, x0), (y1, x1) in zip(starts[picture].tolist(), ends[picture].tolist(), strict=True):
            length = math.hypot(y1 - y0, x1 - x0)
            distance = ((x - x0) * (y1 - y0) - (y - y0) * (x1 - x0)).abs() / length
            along, first, last = (y, y0, y1) if abs(y1 - y0) > abs(x1 - x0) else (x, x0, x1)
            reached = (along >= min(first, last)) & (along <= max(first, last))
            expected[picture] *= 1 - (1 - distance).clamp(min=0) * reached
    passing = fields.between_lines((21, 26), starts, ends)
    assert torch.allclose(passing[:, 0], expected)
    assert 0.2 < (passing < 1).double().mean() < 0.9


def test_lines_are_grey_and_as_many_as_severity_says(monkeypatch):
    seen = []

    def between_lines(size, starts, ends):
        seen.append((starts, ends))
        return fields.between_lines(size, starts, ends)

    monkeypatch.setattr(patterns, "between_lines", between_lines)
    after = patterns.lines(torch.ones(2, 3, 20, 30), severity=5)
    starts, ends = (torch.cat(points) for points in zip(*seen, strict=True))
    assert starts.shape == (2, 15, 2)
    assert torch.allclose((ends - starts).norm(dim=-1), torch.full((2, 15), 60.0))
    middles = (starts + ends) / 2
    assert ((middles > -1e-4) & (middles < torch.tensor([20.001, 30.001]))).all()
    assert after.min() >= 0
    assert torch.equal(patterns.lines(grey()), grey())


@pytest.mark.parametrize("severity", [2, 5])
def test_blue_samples_are_as_many_as_a_normal_has_below_the_threshold(severity):
    black = patterns.blue_noise_sample(grey(96, 96, batch=4), severity=severity)[:, 0] == -1
    below = (1 + math.erf((0.3 * severity - 2.5) / math.sqrt(2))) / 2
    assert black.double().mean().item() == pytest.approx(below, rel=0.1)
    # evenly spread: two side by side are rarer than by chance
    assert (black[..., 1:] & black[..., :-1]).double().mean() < 0.6 * below**2


@pytest.mark.parametrize("axis", [-2, -1])
def test_refraction_follows_snells_law(monkeypatch, axis):
    side, rise, severity = 64, 0.8, 2
    ramp = torch.linspace(-0.5, 0.5, side, dtype=torch.float64)
    ramp = (ramp[:, None] if axis == -2 else ramp[None]).expand(1, 3, side, side)
    # a slanted plane of water: what is in the air at `angle` is in the water at asin(sin(angle) / 4)
    monkeypatch.setattr(patterns, "caustic", lambda y, x, time: rise * (y if axis == -2 else x) + 0 * (y + x + time))
    monkeypatch.setattr(patterns, "gaussian_blur", lambda field, sigma: field)
    monkeypatch.setattr(patterns, "uniform", lambda *_: numbers(1, 1))
    after = patterns.caustic_refraction(ramp, severity=severity)[0, 0]
    slope = 2 * rise * side / 256
    angle = math.atan(slope)
    shift = 0.05 * severity * side * math.sin(angle - math.asin(math.sin(angle) / 4))
    light = 0.4 * severity * slope * (1 if axis == -2 else -1)
    expected = (ramp[0, 0] + shift / (side - 1) + light).clamp(-1, 1)
    assert 1 < shift < 5
    assert torch.allclose(after[8:-8, 8:-8], expected[8:-8, 8:-8], atol=1e-6)


def test_still_water_shows_the_picture(monkeypatch, pictures):
    monkeypatch.setattr(patterns, "caustic", lambda y, x, time: 0 * (y + x + time))
    assert torch.allclose(patterns.caustic_refraction(pictures), pictures, atol=1e-5)


@pytest.mark.parametrize("name", PINNED)
def test_the_same_picture_comes_out_as_ever(name):
    ramp = torch.linspace(-0.6, 0.6, 3 * 24 * 32).view(1, 3, 24, 32)
    change = (damaged(name, ramp, severity=4, seed=11) - ramp).abs().mean().item()
    assert change == pytest.approx(PINNED[name], rel=1e-2)
