"""Load a prior: a bundled name, a diffusers DDPM folder in either layout, or a hub id. Weights are safetensors only."""

import contextlib
import hashlib
import json
import os
import re
import warnings
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from diffusers import UNet2DModel
from diffusers.utils import logging
from huggingface_hub import snapshot_download
from safetensors import SafetensorError, safe_open

from ..samplers.denoisers import classifier_free_guidance, dynamic_thresholding, eps_denoiser, v_denoiser
from ..samplers.noise_levels import NoiseLevels, cosine_betas, linear_betas, scaled_linear_betas
from .calibration import FILE, Calibration, load_calibration
from .graphs import Replayed

HERE = Path(__file__).parent
WEIGHTS = "diffusion_pytorch_model.safetensors"
DENOISERS = {"epsilon": eps_denoiser, "v_prediction": v_denoiser}
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
BETAS = {"linear": linear_betas, "scaled_linear": scaled_linear_betas}


@dataclass(frozen=True)
class Prior:
    """A pixel-space diffusion model with what its files say about it.

    network(x_vp, t, class_labels=...): pictures (B, channels, size, size) in [-1, 1]. classes: the names of the labels
    0, 1, ..., empty for an unconditional prior. null: the label that stands for no class, or None. calibration: what
    the automatic mode knows about it, or None.
    """

    name: str
    network: torch.nn.Module
    levels: NoiseLevels
    prediction: str
    schedule: str
    size: int
    channels: int
    classes: tuple[str, ...]
    null: int | None
    dtype: torch.dtype
    device: torch.device
    calibration: Calibration | None = None

    @property
    def conditional(self):
        return bool(self.classes)

    def model(self, guidance=1.0, threshold=True):
        """A denoiser model(x, sigma, class_labels=...) for the samplers, guided, then dynamically thresholded.

        Raises ValueError where guidance other than 1 is asked of a prior that has no null class.
        """
        if guidance != 1 and self.null is None:
            raise ValueError(f"The prior {self.name} has no null class, so it cannot be guided: take guidance 1.")

        def network(x, t, **conditioning):
            # a network that also predicts a variance puts it in the channels behind
            return self._called(x, t, **conditioning).sample[:, : self.channels]

        denoiser = DENOISERS[self.prediction](network, self.levels, self.dtype)
        model = classifier_free_guidance(denoiser, guidance, {"class_labels": self.null})
        return dynamic_thresholding(model) if threshold else model

    def null_model(self):
        """(unconditional(x, sigma, null), null) for `samplers.null_text`: a denoiser and its embedding of no class.

        null: (1, D), or one for each picture in `unconditional`. Raises ValueError where the prior has no null class.
        """
        if self.null is None:
            raise ValueError(f"The prior {self.name} has no null class, so it cannot be guided: take guidance 1.")
        start = self.network.class_embedding.weight[self.null].detach().float().unsqueeze(0)

        def network(x, t, null, **_):
            label = torch.full((len(x),), self.null, device=x.device)
            with embedded(self.network, null):
                return self.network(x, t, class_labels=label).sample[:, : self.channels]

        denoiser = DENOISERS[self.prediction](network, self.levels, self.dtype)
        return lambda x, sigma, null, **_: denoiser(x, sigma, null=null), start

    @cached_property
    def _called(self):
        return Replayed(self.network) if self.device.type == "cuda" else self.network

    def conditioning(self, label, batch):
        """The samplers' extra_args for `batch` pictures of class `label`: a name, an index, or None for no class."""
        if not self.conditional:
            if label is not None:
                raise ValueError(f"The prior {self.name} knows no classes: leave the label out.")
            return {}
        index = self.null if label is None else self._index(label)
        if index is None:
            raise ValueError(f"The prior {self.name} needs a class: give one of {', '.join(self.classes)}.")
        return {"class_labels": torch.full((batch,), index, device=self.device)}

    def _index(self, label):
        names = [name.casefold() for name in self.classes]
        wanted = str(label).strip().casefold()
        if wanted in names:
            return names.index(wanted)
        if wanted.isdecimal() and int(wanted) < len(names):
            return int(wanted)
        named = ", ".join(self.classes)
        raise ValueError(f"The prior {self.name} has no class {str(label)[:40]!r}: take one of {named}.")


@contextlib.contextmanager
def embedded(network, embedding):
    """Within it a UNet2DModel takes `embedding`, (B, D), for what its class labels mean."""
    hook = network.class_embedding.register_forward_hook(lambda module, label, _: embedding)
    try:
        yield
    finally:
        hook.remove()


def bundled():
    """The names of the priors that come with the package."""
    return sorted(path.parent.name for path in HERE.glob("*/model_index.json"))


def load(source, device="cpu", precision="fp32"):
    """The Prior of a bundled name, a folder (a str or Path) or a hub id, on `device`; "auto": a GPU where there is one.

    precision: one of PRECISIONS, that of its network; what the samplers compute round it stays as precise as it is.
    Raises ValueError, or OSError where the source cannot be reached, with one sentence. No code from the source is run.
    """
    device = device_of(device)
    if precision not in PRECISIONS:
        raise ValueError(f"The precision {precision!r} is unknown: take one of {', '.join(PRECISIONS)}.")
    dtype = PRECISIONS[precision]
    folder = find(source, "*.safetensors")
    name = str(source) if folder.parent != HERE else folder.name
    unet, scheduler = layout(folder)
    config, schedule = _unet_config(unet), read_json(scheduler)
    prediction = _prediction(schedule, scheduler)
    levels, chain = _levels(schedule, scheduler)
    classes, null = _classes(config, folder)
    check_weights(unet)
    return Prior(
        name=name,
        network=_placed(_network(unet), device, dtype),
        levels=levels.to(device),
        prediction=prediction,
        schedule=chain,
        size=config["sample_size"],
        channels=config["in_channels"],
        classes=classes,
        null=null,
        dtype=dtype,
        device=device,
        calibration=_calibration(folder, unet),
    )


def find(source, weights):
    """The local folder of a bundled name, a folder or a hub id, whose *.json and `weights` files are fetched."""
    if str(source) in bundled():
        return HERE / str(source)
    # unlike Path's, these raise nothing on a name that is too long or of an unknown user
    folder = os.path.expanduser(source)
    if os.path.isdir(folder):
        return Path(folder).resolve()
    if os.path.exists(folder):
        raise ValueError(f"{source} is a file: give the folder of a prior, with its config and its weights.")
    if re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", str(source)):
        return _fetched(str(source), weights)
    raise ValueError(
        f"There is no prior {str(source)[:80]!r}: take {', '.join(bundled())}, a diffusers folder, or a hub id "
        "(owner/name)."
    )


def layout(folder):
    """(folder of the network, scheduler_config.json) in diffusers' layout, or in the older flat one."""
    unet, scheduler = folder / "unet", folder / "scheduler" / "scheduler_config.json"
    if not unet.is_dir():
        unet, scheduler = folder, folder / "scheduler_config.json"
    for path in (unet / "config.json", scheduler):
        if not path.is_file():
            raise ValueError(f"{folder} is no diffusers prior: {path.relative_to(folder)} is missing.")
    return unet, scheduler


def read_json(path):
    """The JSON object in a file, or ValueError."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise ValueError(f"{path} is not valid JSON: fetch the prior again.") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} does not hold a JSON object: fetch the prior again.")
    return content


def check_weights(unet):
    """ValueError unless the folder holds whole safetensors weights, in one file or in shards with an index."""
    index = unet / f"{WEIGHTS}.index.json"
    # diffusers prefers an index where there is one
    keys = _weight_map(index) if index.is_file() else dict.fromkeys(_keys(_whole(unet)), WEIGHTS)
    found = {(key, shard) for shard in sorted(set(keys.values())) for key in _keys(unet / shard)}
    lost = sorted(set(keys.items()) - found)
    if lost:
        raise ValueError(f"{unet / lost[0][1]} lacks {lost[0][0]}, which the index promises: fetch the prior again.")


def mark(unet):
    """12 hex digits of the weights in a folder of a network, by which a calibration knows them."""
    digest = hashlib.sha256()
    for path in sorted(unet.glob(f"{WEIGHTS.partition('.')[0]}*.safetensors")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _calibration(folder, unet):
    calibration = load_calibration(folder)
    if calibration is None or calibration.weights in ("", mark(unet)):
        return calibration
    warnings.warn(
        f"{folder / FILE} was made for other weights, and is left out: make it anew with `confident-ode priors "
        "calibrate`.",
        RuntimeWarning,
        stacklevel=3,
    )
    return None


def _whole(unet):
    if not (unet / WEIGHTS).is_file():
        pickled = sorted(path.name for end in ("bin", "pt", "pth", "ckpt") for path in unet.glob(f"*.{end}"))
        if pickled:
            raise ValueError(
                f"{unet} has pickled weights only ({pickled[0]}), which are not opened: make safetensors of them with "
                "`confident-ode priors convert`."
            )
        raise ValueError(f"{unet} holds no weights: {WEIGHTS} is missing.")
    return unet / WEIGHTS


def _weight_map(index):
    weights = read_json(index).get("weight_map")
    if not isinstance(weights, dict) or not all(isinstance(shard, str) for shard in weights.values()):
        raise ValueError(f"{index} has no weight_map from names to files: fetch the prior again.")
    for shard in weights.values():
        if Path(shard).name != shard or not shard.endswith(".safetensors"):
            raise ValueError(f"{index} names {shard!r}, which is no safetensors file beside it: it is not opened.")
        if not (index.parent / shard).is_file():
            raise ValueError(f"{index.parent / shard} is missing: fetch the prior again.")
    return weights


def _keys(path):
    try:
        with safe_open(path, "pt") as weights:
            return list(weights.keys())
    except SafetensorError:
        with path.open("rb") as file:
            start = file.read(2)
        if start == b"PK" or start[:1] == b"\x80":
            raise ValueError(f"{path} is a pickle under a safetensors name: it is not opened.") from None
        raise ValueError(f"{path} is damaged or cut off: fetch it again.") from None


def _network(unet):
    """The UNet2DModel of a checked folder; a weight that is missing, left over or misshapen is refused."""
    try:
        with _quiet():
            network, info = UNet2DModel.from_pretrained(
                unet,
                use_safetensors=True,
                low_cpu_mem_usage=False,
                local_files_only=True,
                torch_dtype=torch.float32,
                output_loading_info=True,
            )
    except Exception as broken:  # diffusers builds whatever the config says, and fails in as many ways
        reason = " ".join(str(broken).split())[:200].rstrip(".") or type(broken).__name__
        raise ValueError(f"The network in {unet} cannot be made from its config.json and weights: {reason}.") from None
    for kind, what in (("missing_keys", "lack"), ("unexpected_keys", "have, and the network does not,")):
        if info[kind]:
            raise ValueError(f"The weights in {unet} do not fit config.json: they {what} {sorted(info[kind])[0]}.")
    return network


@contextlib.contextmanager
def _quiet():
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        logging.enable_progress_bar()


def _unet_config(unet):
    config = read_json(unet / "config.json")
    kind, size = config.get("_class_name"), config.get("sample_size")
    if kind != "UNet2DModel":
        raise ValueError(f"{unet} holds a {kind}: only UNet2DModel, a pixel-space DDPM, is a prior here.")
    if isinstance(size, list) and len(size) == 2 and size[0] == size[1]:
        size = size[0]
    if not isinstance(size, int) or size < 1:
        raise ValueError(f"{unet / 'config.json'} gives no square picture: sample_size is {size!r}.")
    channels, out = config.get("in_channels", 3), config.get("out_channels", 3)
    if channels not in (1, 3) or out not in (channels, 2 * channels):
        raise ValueError(f"{unet} has {channels} channels in and {out} out: a prior of pictures has 1 or 3.")
    if config.get("time_embedding_type", "positional") != "positional" or config.get("quantization_config"):
        raise ValueError(f"{unet} is no plain DDPM: its times must be positional and its weights not quantized.")
    if config.get("class_embed_type") is not None:
        raise ValueError(f"{unet} embeds classes as {config['class_embed_type']!r}: only a table of classes is known.")
    return {**config, "sample_size": size, "in_channels": channels}


def _prediction(schedule, path):
    old = "epsilon" if schedule.get("predict_epsilon", True) else "sample"
    prediction = schedule.get("prediction_type", old)
    if prediction not in DENOISERS:
        raise ValueError(f"{path} says that the network predicts {prediction!r}: known are {', '.join(DENOISERS)}.")
    return prediction


def _levels(schedule, path):
    """(NoiseLevels, words) of a scheduler config, computed in float64."""
    try:
        betas, words = _betas(schedule)
        if schedule.get("rescale_betas_zero_snr"):
            betas, words = zero_terminal_snr(betas), f"{words}, zero terminal SNR"
        return NoiseLevels(betas), words
    except (TypeError, ValueError, RuntimeError) as broken:
        reason = str(broken).rstrip(".")
        raise ValueError(f"{path} gives no usable noise schedule: {reason}.") from None


def _betas(schedule):
    if schedule.get("trained_betas") is not None:
        betas = torch.as_tensor(schedule["trained_betas"], dtype=torch.float64)
        return betas, f"given, {len(betas)} steps"
    kind, total = schedule.get("beta_schedule"), int(schedule.get("num_train_timesteps", 1000))
    if kind in BETAS:
        betas = BETAS[kind](total, float(schedule.get("beta_start", 1e-4)), float(schedule.get("beta_end", 2e-2)))
    elif kind == "squaredcos_cap_v2":
        betas, kind = cosine_betas(total), "cosine"
    else:
        raise ValueError(f"beta_schedule is {kind!r}, and known are linear, scaled_linear and squaredcos_cap_v2")
    return betas, f"{kind}, {total} steps"


def zero_terminal_snr(betas):
    """Betas whose last alpha_bar is 0: sqrt(alpha_bar) shifted and scaled, Algorithm 1 of Lin et al. (2305.08891)."""
    root = (1 - betas).cumprod(0).sqrt()
    alpha_bar = ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2
    return 1 - torch.cat([alpha_bar[:1], alpha_bar[1:] / alpha_bar[:-1]])


def _classes(config, folder):
    """(names, null label or None), from num_class_embeds and model_index.json's id2label."""
    count = config.get("num_class_embeds")
    if count is None:
        return (), None
    index = folder / "model_index.json"
    labels = read_json(index).get("id2label") if index.is_file() else None
    if labels is None:
        return tuple(str(i) for i in range(count)), None
    if not isinstance(labels, dict) or set(labels) != {str(i) for i in range(len(labels))}:
        raise ValueError(f'{index} must name the classes as {{"0": ..., "1": ...}} in id2label.')
    if count - len(labels) not in (0, 1):
        raise ValueError(f"{index} names {len(labels)} classes and the network has {count}: name all, or all but null.")
    return tuple(str(labels[str(i)]) for i in range(len(labels))), count - 1 if count > len(labels) else None


def _placed(network, device, dtype):
    """The network for inference, in the layout that convolutions are fastest in."""
    with _quiet():  # about a precision that was asked for
        return network.to(device, dtype, memory_format=torch.channels_last).eval().requires_grad_(False)


def _fetched(repository, weights):
    try:
        return Path(snapshot_download(repository, allow_patterns=["*.json", weights]))
    except Exception:  # the hub's client raises many kinds: no network, no such repository, no access
        raise OSError(
            f"{repository} is no folder here and could not be fetched from the hub: check the name and the network."
        ) from None


def device_of(name):
    """The device of a name, "auto" being a GPU where there is one; ValueError where there is none of that name."""
    name = ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
        return device
    except (RuntimeError, AssertionError):
        raise ValueError(f"The device {str(name)!r} is not there: take cpu, or cuda where there is a GPU.") from None
