"""ComfyUI's KSampler and our ODE Decode on the same MODEL, latent and steps: run by ComfyUI's own interpreter.

in_comfyui.py JSON BASE, with ComfyUI and tests/ on PYTHONPATH. JSON: {rounds, cells: [[network, batch, steps], ...]};
BASE: an empty folder for what ComfyUI writes. Prints a line of JSON, for each cell: {contender: [[seconds, calls,
inside], ...] of each round}, {contender: bytes} of the peak memory, and the device.
"""

import importlib.util
import json
import sys
from pathlib import Path

import comfy.cli_args
import torch

comfy.cli_args.args.base_directory = sys.argv[2]
comfy.cli_args.args.cpu = not torch.cuda.is_available()

ROOT = Path(__file__).parents[2]
# the pack under the name by which it is imported elsewhere
spec = importlib.util.spec_from_file_location(
    "confident_ode", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
)
sys.modules["confident_ode"] = pack = importlib.util.module_from_spec(spec)
spec.loader.exec_module(pack)

import comfy.utils  # noqa: E402
from confident_ode.nodes.decode import ODEDecode  # noqa: E402
from confident_ode.nodes.guider import native_sigmas  # noqa: E402
from confident_ode.nodes.pixel_prior import native_model  # noqa: E402
from confident_ode.nodes.schedule import path_for  # noqa: E402
from speed.clock import peak_memory, taken  # noqa: E402
from speed.networks import network  # noqa: E402

import nodes  # noqa: E402

DEPTH, EMPTY = 0.4, [[None, {}]]


def ksampler(model, latent, steps):
    nodes.common_ksampler(model, 0, steps, 1.0, "euler", "normal", EMPTY, EMPTY, latent, denoise=DEPTH)


def ode_decode(model, latent, steps):
    path, _ = path_for(model, steps - 1, DEPTH, spacing="linspace")
    ODEDecode.execute(model, latent, native_sigmas(model, path), EMPTY, "euler")


def alone(model, latent, steps):
    unet, x = model.model.diffusion_model, latent["samples"].to(model.load_device)
    labels = model.model.prior.conditioning(None, len(x)).get("class_labels")
    for _ in range(steps):
        unet(x, torch.full((len(x),), 100.0, device=x.device), y=None if labels is None else labels.to(x.device))


CONTENDERS = {"network alone": alone, "KSampler": ksampler, "ODE Decode": ode_decode}


@torch.inference_mode()
def cell(name, batch, steps, rounds):
    prior = network(name)
    model = native_model(prior)
    generator = torch.Generator().manual_seed(0)
    latent = {"samples": torch.randn(batch, prior.channels, prior.size, prior.size, generator=generator)}
    # the first loads the model
    ksampler(model, latent, 1)
    memory = {
        name: peak_memory(lambda work=CONTENDERS[name]: work(model, latent, min(3, steps)), model.load_device)
        for name in ("KSampler", "ODE Decode")
    }
    times = {name: [] for name in CONTENDERS}
    for _ in range(rounds):
        for name, work in CONTENDERS.items():
            times[name].append(
                taken(lambda work=work: work(model, latent, steps), prior.network, steps, model.load_device)
            )
    return times, memory, model.load_device.type


if __name__ == "__main__":
    comfy.utils.PROGRESS_BAR_ENABLED = False
    asked = json.loads(sys.argv[1])
    print(json.dumps([cell(*each, asked["rounds"]) for each in asked["cells"]]))
