import errno
import os

import numpy as np
import pytest
import torch
from confident_ode.cli import pictures
from confident_ode.cli.pictures import fit, read, save, save_text, to_image, to_tensor, written_whole
from PIL import Image


def sentence_of(path):
    with pytest.raises((OSError, ValueError)) as caught:
        read(path)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert str(path) in sentence
    return sentence


@pytest.mark.parametrize(
    ("name", "mode"),
    [("a.png", "RGB"), ("a.jpg", "CMYK"), ("a.jpg", "YCbCr"), ("a.webp", "RGB"), ("a.bmp", "RGB"), ("a.tif", "RGB")],
)
def test_colour_pictures_keep_their_colours(photo, name, mode):
    picture = read(photo(name, mode=mode))
    assert (picture.mode, picture.size) == ("RGB", (40, 24))
    assert np.abs(np.asarray(picture, float) - np.asarray(read(photo("plain.png")), float)).mean() < 6


def test_transparency_is_over_white(tmp_path):
    half = Image.new("RGBA", (8, 8), (255, 0, 0, 255))
    half.paste((0, 0, 255, 0), (0, 0, 4, 8))
    half.save(tmp_path / "a.png")
    grey = Image.merge("LA", [Image.new("L", (8, 8), 0), Image.new("L", (8, 8), 51)])
    grey.save(tmp_path / "grey.png")
    assert read(tmp_path / "a.png").getpixel((0, 0)) == (255, 255, 255)
    assert read(tmp_path / "a.png").getpixel((7, 0)) == (255, 0, 0)
    assert read(tmp_path / "grey.png").getpixel((0, 0)) == (204, 204, 204)


def test_palettes_with_a_transparent_colour(tmp_path):
    palette = Image.new("P", (8, 8), 1)
    palette.putpalette([10, 20, 30, 200, 100, 50])
    palette.paste(0, (0, 0, 4, 8))
    palette.save(tmp_path / "a.png", transparency=0)
    assert read(tmp_path / "a.png").getpixel((0, 0)) == (255, 255, 255)
    assert read(tmp_path / "a.png").getpixel((7, 0)) == (200, 100, 50)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_16_bits_are_scaled_not_cut(tmp_path, name):
    ramp = np.linspace(0, 65535, 256).round().astype(np.uint16).reshape(16, 16)
    Image.fromarray(ramp).save(tmp_path / name)
    assert np.array_equal(np.asarray(read(tmp_path / name))[..., 0].ravel(), np.arange(256))


@pytest.mark.parametrize("white", [1, 255])
def test_floating_point_pictures(tmp_path, white):
    ramp = np.linspace(0, white, 256, dtype=np.float32).reshape(16, 16)
    Image.fromarray(ramp).save(tmp_path / "a.tif")
    assert np.array_equal(np.asarray(read(tmp_path / "a.tif"))[..., 0].ravel(), np.arange(256))


@pytest.mark.parametrize("mode", ["L", "1", "P"])
def test_modes_become_rgb(photo, mode):
    assert read(photo(mode=mode)).mode == "RGB"


def test_exif_turns_the_picture_upright(photo):
    turned = Image.open(photo("upright.png")).rotate(90, expand=True)
    path = photo("turned.jpg")
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.save(path, exif=exif, quality=95)
    upright = np.asarray(read(photo("upright.png")), float)
    assert np.abs(np.asarray(read(path), float) - upright).mean() < 4


def test_the_first_frame_of_an_animation(tmp_path):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert read(tmp_path / "a.gif").getpixel((0, 0)) == (255, 0, 0)


class TestRefusals:
    def test_missing(self, tmp_path):
        assert "is not there" in sentence_of(tmp_path / "none.png")

    def test_folder(self, tmp_path):
        assert "is a folder" in sentence_of(tmp_path)

    @pytest.mark.parametrize("content", [b"", b"hello", b"\x89PNG\r\n\x1a\n"])
    def test_not_a_picture(self, tmp_path, content):
        path = tmp_path / "text.png"
        path.write_bytes(content)
        assert "not a picture" in sentence_of(path) or "damaged" in sentence_of(path)

    @pytest.mark.parametrize("name", ["cut.jpg", "cut.png", "cut.webp", "cut.gif", "cut.tif"])
    def test_truncated(self, photo, name):
        path = photo(name, size=(200, 100))
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        assert "damaged or cut off" in sentence_of(path) or "not a picture" in sentence_of(path)

    @pytest.mark.parametrize("size", [(1, 1), (7, 100), (100, 7)])
    def test_too_small(self, photo, size):
        assert "at least 8 a side" in sentence_of(photo(size=size))

    def test_a_decompression_bomb(self, photo, monkeypatch):
        path = photo()
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 400)
        assert "more pixels than is safe" in sentence_of(path)

    def test_unreadable(self, photo, monkeypatch):
        path = photo()

        def denied(*_):
            raise PermissionError(errno.EACCES, "Permission denied")

        monkeypatch.setattr(pictures.Image, "open", denied)
        assert "permissions" in sentence_of(path)


SIZES = [(64, 64), (40, 24), (24, 40), (200, 9), (9, 200), (8, 8)]


@pytest.mark.parametrize("how", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("size", SIZES)
def test_every_shape_fits_and_is_given_back(photo, how, size):
    picture, fitted = fit(read(photo(size=size)), 32, how)
    assert picture.shape == (1, 3, 32, 32)
    assert picture.dtype == torch.float32
    assert picture.min() >= -1
    assert picture.max() <= 1
    back = fitted.undo(to_image(picture))
    assert fitted.size == size
    assert back.size == fitted.shape
    if how == "crop":
        assert back.size == (32, 32)
    else:
        assert (max if how == "pad" else min)(back.size) == 32
        # half a pixel of rounding on the other side
        assert abs(back.width * size[1] - back.height * size[0]) <= 0.5 * max(size)


@pytest.mark.parametrize(
    ("size", "shape"),
    [
        ((64, 64), (64, 64)),
        ((40, 24), (53, 32)),
        ((90, 45), (90, 45)),
        ((300, 150), (96, 48)),
        ((96, 32), (96, 32)),
        ((8, 8), (32, 32)),
    ],
)
def test_whole_keeps_the_size_between_a_window_and_the_largest(photo, size, shape):
    original = read(photo(size=size))
    picture, fitted = fit(original, 32, "whole", most=96)
    assert picture.shape == (1, 3, *reversed(shape))
    assert fitted.undo(to_image(picture)).size == fitted.shape == shape
    if size == shape:
        assert np.array_equal(np.asarray(to_image(picture)), np.asarray(original))


def test_whole_refuses_proportions_that_do_not_fit(photo):
    with pytest.raises(
        ValueError, match=r"97x32, whose shape does not go into sides of 32 to 96 pixels: take a larger"
    ):
        fit(read(photo(size=(97, 32))), 32, "whole", most=96)


def test_padding_continues_the_edges(photo):
    picture, fitted = fit(read(photo(size=(64, 32))), 32, "pad")
    _, top, _, bottom = fitted.box
    assert (top, bottom) == (8, 24)
    assert torch.equal(picture[0, :, 0], picture[0, :, top])
    assert torch.equal(picture[0, :, -1], picture[0, :, bottom - 1])


def test_cropping_takes_the_centre(tmp_path):
    wide = Image.new("RGB", (96, 32), "black")
    wide.paste("white", (32, 0, 64, 32))
    assert (fit(wide, 32)[0] > 0.9).float().mean() > 0.9


def test_downsampling_averages():
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[:, ::2] = 255
    picture, _ = fit(Image.fromarray(stripes), 32)
    assert picture[..., 2:-2].abs().max() < 0.05


def test_a_prior_of_grey_pictures_gets_one_channel(photo):
    picture, _ = fit(read(photo()), 16, channels=1)
    assert picture.shape == (1, 1, 16, 16)
    assert to_image(picture).mode == "RGB"


def test_an_unknown_fit_is_refused(photo):
    with pytest.raises(ValueError, match="take one of crop, pad, stretch, whole"):
        fit(read(photo()), 16, "squash")


def test_images_and_tensors_are_the_same_pictures():
    pixels = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)
    assert np.array_equal(np.asarray(to_image(to_tensor(pixels))), pixels)
    assert to_image(torch.full((3, 2, 2), 7.0)).getpixel((0, 0)) == (255, 255, 255)


class TestWriting:
    def test_what_is_written_is_there_and_nothing_else(self, tmp_path):
        save(Image.new("RGB", (8, 8), "red"), tmp_path / "a.png")
        save_text("ä", tmp_path / "a.json")
        assert sorted(os.listdir(tmp_path)) == ["a.json", "a.png"]
        assert read(tmp_path / "a.png").getpixel((0, 0)) == (255, 0, 0)
        assert (tmp_path / "a.json").read_text(encoding="utf-8") == "ä"

    @pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
    def test_interruption_leaves_the_old_file_and_no_part(self, tmp_path, error):
        (tmp_path / "a").write_text("old")

        def interrupted():
            with written_whole(tmp_path / "a") as file:
                file.write(b"half")
                file.flush()
                raise error

        with pytest.raises(error):
            interrupted()
        assert os.listdir(tmp_path) == ["a"]
        assert (tmp_path / "a").read_text() == "old"

    @pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
    @pytest.mark.parametrize("pixels", [8, 300])
    def test_a_full_disk_is_one_sentence(self, tmp_path, monkeypatch, pixels):
        noise = np.random.default_rng(0).integers(0, 256, (pixels, pixels, 3), np.uint8)
        monkeypatch.setattr(pictures.Path, "open", lambda path, mode: open("/dev/full", mode))  # noqa: SIM115
        with pytest.raises(OSError, match=r"a\.png could not be written: no space left on device\.$"):
            save(Image.fromarray(noise), tmp_path / "a.png")
        assert os.listdir(tmp_path) == []

    def test_no_folder_is_one_sentence(self, tmp_path):
        (tmp_path / "file").write_text("")
        for folder in ("none", "file"):
            with pytest.raises(OSError, match="could not be written"):
                save_text("", tmp_path / folder / "a.json")
