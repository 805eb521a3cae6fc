"""Old pickled weights to safetensors, with torch's weights-only loader: no code from the file is run."""

import os
import pickle
import shutil
import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file

from .loading import WEIGHTS, find, layout, load

PICKLE = "diffusion_pytorch_model.bin"


def convert(source, output):
    """Write the prior of `source`, a weight file beside its config, a folder or a hub id, to the new folder `output`.

    It gets diffusers' layout, is loaded once to see that it is whole, and appears under its name only then. Raises
    ValueError or OSError with one sentence.
    """
    output = Path(output)
    if output.exists():
        raise ValueError(f"{output} is there already: give a new folder.")
    folder, weights = _source(source)
    unet, scheduler = layout(folder)
    tensors = _tensors(weights or unet / PICKLE)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".converting-", dir=output.parent) as scratch:
            made = Path(scratch) / "prior"
            for place in (made / "unet", made / "scheduler"):
                place.mkdir(parents=True)
            shutil.copyfile(unet / "config.json", made / "unet" / "config.json")
            shutil.copyfile(scheduler, made / "scheduler" / "scheduler_config.json")
            if (folder / "model_index.json").is_file():
                shutil.copyfile(folder / "model_index.json", made / "model_index.json")
            save_file(tensors, made / "unet" / WEIGHTS, metadata={"format": "pt"})
            load(made)
            os.replace(made, output)
    except OSError as failed:
        raise OSError(f"{output} could not be written: {os.strerror(failed.errno).lower()}.") from None
    return output


def _source(source):
    """(folder of the prior, its weight file, or None where that has the usual name)."""
    path = Path(source).expanduser()
    if path.is_file():
        return path.parent.parent if path.parent.name == "unet" else path.parent, path
    return find(source, PICKLE), None


def _tensors(path):
    if not path.is_file():
        raise ValueError(f"There are no pickled weights to convert: {path} is missing.")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise ValueError(
            f"{path} is damaged, or a pickle that would run code when opened: it is not converted."
        ) from None
    except Exception:  # a cut-off file makes torch fail in many ways
        raise ValueError(f"{path} is damaged or cut off: fetch it again.") from None
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ValueError(f"{path} is no plain list of named weights: it is not converted.")
    # apart in memory, as safetensors wants them
    return {name: value.clone().contiguous() for name, value in state.items()}
