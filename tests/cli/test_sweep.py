import numpy as np
import pytest
from confident_ode.cli.sweep import parsed
from confident_ode.evaluation.sheets import TILE
from PIL import Image
from prior.tiny import write_prior

SETTINGS = """
prior = "{prior}"
sdedit_depths = [0.3]

[code]
steps = 4
updates = 2
blocks = 1
stop_at = 0

[[damage]]
name = "noise [bold]"
kind = "gaussian_noise"

[[damage]]
kind = "mask_blocks"
options = {{ cells = 4 }}
code = {{ steps = 0 }} # the demonstration's only: a sweep starts from [code]
"""


@pytest.fixture
def sweep(command, prior_folder, tmp_path):
    """sweep(*photos and options) -> the result of sweeping them into tmp_path / "out"."""
    settings = tmp_path / "sweep.toml"
    settings.write_text(SETTINGS.format(prior=prior_folder.as_posix()))

    def swept(*arguments, output=tmp_path / "out"):
        return command("sweep", *arguments, "--settings", settings, "-o", output)

    return swept


@pytest.mark.parametrize(
    ("vary", "meant"),
    [
        ("eta=0.6,1,1.7", ("eta", [0.6, 1.0, 1.7])),
        ("steps=4", ("steps", [4])),
        ("solver=euler,heun", ("solver", ["euler", "heun"])),
        ("clip=true,false", ("clip", [True, False])),
        ("depth=0.3,t=400,sigma=1.2", ("depth", ["0.3", "t=400", "sigma=1.2"])),
        ("shallowest=0.1,t=4", ("shallowest", ["0.1", "t=4"])),
        ("step_mode=relative,snr", ("step_mode", ["relative", "snr"])),
        ("start=updates,deepest", ("start", ["updates", "deepest"])),
        ("clip_at=up,up+updates", ("clip_at", ["up", "up+updates"])),
        ("clip_range=pixels,around=0.5", ("clip_range", ["pixels", "around=0.5"])),
        ("preset=auto,noise", ("preset", ["auto", "noise"])),
    ],
)
def test_values_have_the_type_of_their_setting(vary, meant):
    name, values = parsed(vary)
    assert (name, values) == meant
    assert [type(value) for value in values] == [type(value) for value in meant[1]]


@pytest.mark.parametrize(
    ("vary", "words"),
    [
        ("eta", "no setting with values"),
        ("", "no setting with values"),
        ("=1", "no setting with values"),
        ("strength=1,2", "no setting with values"),
        ("of=1", "no setting with values"),
        ("label=rose", "no setting with values"),
        ("eta=wide", "give numbers"),
        ("eta=", "give numbers"),
        ("eta=1,,2", "give numbers"),
        ("steps=2.5", "give whole numbers"),
        ("clip=1", "give true or false"),
        ("preset=auto,thick", "preset 'thick' is unknown"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(vary, words):
    with pytest.raises(ValueError, match=words) as caught:
        parsed(vary)
    assert "\n" not in str(caught.value)
    assert "class '" not in str(caught.value)


@pytest.mark.parametrize(
    ("vary", "columns"),
    [
        ("eta=0.3,2", 2),
        ("samples=1,3", 2),
        ("depth=t=200,t=300,t=400", 3),
        ("levels=1,2", 2),
        ("preset=light,smooth", 2),
    ],
)
def test_a_row_for_each_damage_and_a_sheet(sweep, photo, tmp_path, vary, columns):
    photos = [photo("a.png"), photo("b [x].png", size=(30, 60))]
    result = sweep(*photos, "--vary", vary)
    assert (result.exit_code, result.stderr) == (0, "")
    name = vary.partition("=")[0]
    rows = [line for line in result.stdout.splitlines() if "noise [bold]" in line or "mask_blocks" in line]
    assert len(rows) == 2
    for row in rows:
        # PSNR and SSIM of the damaged pictures and of each value
        numbers = [float(word) for word in row.split() if word.replace(".", "").lstrip("-").isdigit()]
        assert len(numbers) == 2 * (1 + columns)
        assert np.isfinite(numbers).all()
    assert "2 photos" in result.stdout
    assert str(tmp_path / "out" / f"sweep_{name}.png") in result.stdout
    sheet = Image.open(tmp_path / "out" / f"sweep_{name}.png")
    assert (2 + columns) * TILE < sheet.width < (2 + columns) * TILE + 300
    assert 2 * TILE < sheet.height < 2 * TILE + 200
    assert np.asarray(sheet).std() > 20


def test_priors_of_two_sizes_are_compared_at_the_larger(sweep, photo, prior_folder, tmp_path):
    write_prior(tmp_path / "large", unet={"sample_size": 32})
    result = sweep(photo(size=(80, 80)), "--vary", f"prior={prior_folder},{tmp_path / 'large'}")
    assert (result.exit_code, result.stderr) == (0, "")
    sheet = Image.open(tmp_path / "out" / "sweep_prior.png")
    # the original at 32 pixels, enlarged by a whole factor: it has more colours than 16 x 16 pixels can have
    tile = np.asarray(sheet)[:, : sheet.width // 4]
    assert len(np.unique(tile.reshape(-1, 3), axis=0)) > 16 * 16
    missing = sweep(photo(), "--vary", "prior=none,nothing")
    assert "There is no prior 'none'" in missing.stderr


@pytest.mark.parametrize(
    ("vary", "words"),
    [
        ("eta=wide", "give numbers"),
        ("eta=-1", "eta is -1"),
        ("solver=rk4", "take one of ab2"),
        ("depth=0.3,deep", "depth 'deep'"),
        ("depth=0.4,2", "no fraction"),
        ("guidance=1,3", "needs a class"),
        ("step_size=1.9", "unstable"),
        ("levels=1,9", "does not do for 9"),
        ("method=code,odedit", "odedit does not use updates"),
    ],
)
def test_bad_values_stop_before_any_picture(sweep, photo, tmp_path, vary, words):
    result = sweep(photo(), "--vary", vary)
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert words in line
    assert line.endswith(".")
    assert not (tmp_path / "out").exists()


def test_bad_photos_and_folders_are_one_sentence(sweep, photo, tmp_path):
    (tmp_path / "file").write_text("")
    missing = sweep(photo(), tmp_path / "none.png", "--vary", "eta=1")
    unusable = sweep(photo(), "--vary", "eta=1", output=tmp_path / "file")
    own = photo("sweep_eta.png")
    before = own.read_bytes()
    over = sweep(own, "--vary", "eta=1", output=tmp_path)
    for result, words in ((missing, "is not there"), (unusable, "is a file"), (over, "written over")):
        assert result.exit_code == 2
        (line,) = result.stderr.splitlines()
        assert words in line
    assert own.read_bytes() == before
