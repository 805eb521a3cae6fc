import pytest
import torch
from confident_ode.cli.theory import COLOURS, draw_theory, kl_figure, priors_figure
from confident_ode.evaluation.theory import DATA, from_priors
from PIL import Image

FILES = ["theory-kl.png", "theory-priors.png"]


@pytest.fixture(scope="module")
def found():
    return from_priors(300, 10)


def test_it_draws_both_figures_and_prints_their_numbers(tmp_path, capsys):
    draw_theory(tmp_path / "new" / "folder", 300)
    folder = tmp_path / "new" / "folder"
    assert sorted(file.name for file in folder.iterdir()) == FILES
    for name in FILES:
        picture = Image.open(folder / name)
        assert picture.width > 1000
        assert len(picture.convert("RGB").getcolors(1 << 20)) > 100
    printed = capsys.readouterr().out
    last = next(line for line in printed.splitlines() if line.strip().startswith("0.999"))
    _, ode, *sde, exact = map(float, last.split())
    assert ode == 2
    assert 2e-5 < exact < sde[1] < sde[0] < 4e-5
    ode, sde = map(float, next(line for line in printed.splitlines() if "shifted" in line).split()[-2:])
    assert ode > 1
    assert sde < 0.3


def test_a_file_in_place_of_the_folder_is_said(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(OSError, match=r"is a file: give a folder for the results\.$"):
        draw_theory(tmp_path / "out", 100)


def test_no_samples_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"^0 samples cannot be drawn: take at least 1\.$"):
        draw_theory(tmp_path / "out", 0)
    assert not (tmp_path / "out").exists()


def test_what_is_drawn_of_the_kl():
    falling, left = kl_figure().axes
    for axes, top in ((falling, 2), (left, 1)):
        ode, *sdes, exact = (line.get_ydata() for line in axes.lines)
        assert ode == pytest.approx([top] * len(ode), rel=1e-12)
        for sde in (*sdes, exact):
            assert (torch.as_tensor(sde).diff() < 0).all()
        assert sdes[-1][-1] == pytest.approx(exact[-1], rel=0.2)


def bars(axes):
    """Heights and centres."""
    (drawn,) = axes.patches
    heights, edges, _ = drawn.get_data()
    return torch.as_tensor(heights), torch.as_tensor(edges[1:] + edges[:-1]) / 2


def test_what_is_drawn_of_the_priors(found):
    """Bars that are the samples' density, and the true one over them."""
    grid = priors_figure(found).axes
    assert len(grid) == 3 * len(found)
    starts, *rows = (grid[i : i + len(found)] for i in range(0, len(grid), len(found)))
    assert [axes.get_title() for axes in starts] == list(found)
    for axes, outcome in zip(starts, found.values(), strict=True):
        inside = (outcome.start.abs() <= 6).double().mean().item()
        heights, centres = bars(axes)
        assert (heights * (centres[1] - centres[0])).sum().item() == pytest.approx(inside)
    for row, kind in zip(rows, COLOURS, strict=True):
        for axes, outcome in zip(row, found.values(), strict=True):
            made, (line,) = outcome.made[kind], axes.lines
            heights, centres = bars(axes)
            mean = (centres * heights).sum() / heights.sum()
            # half a bar
            assert mean.item() == pytest.approx(made[made.abs() <= 4].mean().item(), abs=0.05)
            assert torch.equal(torch.as_tensor(line.get_ydata()), DATA.density(torch.as_tensor(line.get_xdata())))
            assert axes.texts[0].get_text() == f"off by {DATA.distance(made):.2f}"
