import json

import pytest
import torch
from confident_ode.priors import convert as module
from confident_ode.priors.convert import convert
from confident_ode.priors.loading import load
from prior.tiny import WEIGHTS

PICKLE = "diffusion_pytorch_model.bin"


def pickled(write, content=None, **kwargs):
    """(folder of a tiny prior with pickled weights only, its tensors)."""
    folder, tensors = write(**kwargs)
    unet = folder if kwargs.get("flat") else folder / "unet"
    (unet / WEIGHTS).unlink()
    torch.save(tensors if content is None else content, unet / PICKLE)
    return folder, tensors


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("by_file", [False, True])
def test_the_weights_stay_the_same(write, tmp_path, flat, by_file):
    folder, tensors = pickled(write, flat=flat, unet={"num_class_embeds": 2}, labels={"0": "cat"})
    source = (folder if flat else folder / "unet") / PICKLE if by_file else folder
    made = convert(source, tmp_path / "new" / "made")
    prior = load(made)
    loaded = prior.network.state_dict()
    assert all(torch.equal(loaded[name], tensors[name]) for name in tensors)
    assert (prior.classes, prior.null) == (("cat",), 1)
    assert sorted(path.name for path in made.iterdir()) == ["model_index.json", "scheduler", "unet"]
    assert [path.name for path in made.parent.iterdir()] == ["made"]


def test_tensors_that_share_memory_are_told_apart(write, tmp_path):
    folder, tensors = pickled(write)
    bias = tensors["conv_out.bias"]
    both = torch.cat([bias, bias])
    torch.save({**tensors, "conv_out.bias": both[: len(bias)]}, folder / "unet" / PICKLE)
    assert torch.equal(load(convert(folder, tmp_path / "made")).network.conv_out.bias, bias)


class Trap:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_a_pickle_that_needs_code_is_refused(write, tmp_path):
    folder, _ = pickled(write, {"weight": Trap(tmp_path / "sprung")})
    with pytest.raises(ValueError, match="would run code"):
        convert(folder, tmp_path / "made")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tiny"]


@pytest.mark.parametrize("content", [{"state_dict": {"a": torch.zeros(1)}}, [torch.zeros(1)], {"a": 1}])
def test_anything_but_named_tensors_is_refused(write, tmp_path, content):
    folder, _ = pickled(write, content)
    with pytest.raises(ValueError, match="no plain list of named weights"):
        convert(folder, tmp_path / "made")


def test_weights_of_another_network_leave_nothing_behind(write, tmp_path):
    folder, _ = pickled(write, {"a": torch.zeros(1)})
    with pytest.raises(ValueError, match="do not fit"):
        convert(folder, tmp_path / "made")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tiny"]


def test_what_cannot_be_converted_is_one_sentence(write, tmp_path, monkeypatch):
    folder, _ = pickled(write)
    file = folder / "unet" / PICKLE
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="damaged"):
        convert(folder, tmp_path / "made")
    file.write_bytes(whole)
    with pytest.raises(ValueError, match="there already"):
        convert(folder, tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="could not be written"):
        convert(folder, tmp_path / "file" / "made")
    file.unlink()
    with pytest.raises(ValueError, match="no pickled weights"):
        convert(folder, tmp_path / "made")


def test_a_hub_id_fetches_json_and_the_pickle_only(write, tmp_path, monkeypatch):
    folder, _ = pickled(write)
    asked = []

    def snapshot(repository, allow_patterns):
        asked.append((repository, allow_patterns))
        return str(folder)

    monkeypatch.setattr("confident_ode.priors.loading.snapshot_download", snapshot)
    made = convert("owner/prior", tmp_path / "made")
    assert asked == [("owner/prior", ["*.json", module.PICKLE])]
    assert json.loads((made / "unet" / "config.json").read_text())["sample_size"] == 16
