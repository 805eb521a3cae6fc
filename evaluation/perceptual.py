"""LPIPS, and the features of FID, through torchmetrics, where there are the packages and weights that they need."""

import torch
from torchmetrics.image.fid import NoTrainInceptionV3
from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

from .benchmark import of_bits
from .classifier import in_batches


def lpips(device):
    """A function of pictures and references, uint8 (N, 3, H, W), to (N,) LPIPS with AlexNet (Zhang et al. 2018).

    Raises ValueError where torchvision or the weights, which it fetches once, are not to be had.
    """
    try:
        metric = LearnedPerceptualImagePatchSimilarity(net_type="alex").to(device)
    except (ImportError, OSError, RuntimeError) as error:
        raise ValueError(
            f"LPIPS needs the torchvision that belongs to this torch, and AlexNet's weights, which it fetches: {error}"
        ) from None

    def of_each(pictures, references):
        pairs = zip(pictures.split(100), references.split(100), strict=True)
        each = [metric.net(*(of_bits(half.to(device)) for half in pair)).flatten().cpu() for pair in pairs]
        return torch.cat(each)

    return torch.inference_mode()(of_each)


def inception(device):
    """A function of pictures, uint8 (N, 3, H, W), to the features of FID, (N, 2048) (Heusel et al. 2017).

    Raises ValueError where torch-fidelity or the weights, which it fetches once, are not to be had.
    """
    try:
        network = NoTrainInceptionV3("inception-v3-compat", ["2048"]).to(device)
    except (ImportError, OSError, RuntimeError) as error:
        raise ValueError(f"FID needs torch-fidelity, and Inception's weights, which it fetches: {error}") from None
    return lambda pictures: in_batches(lambda some: network(some.to(device)), pictures)
