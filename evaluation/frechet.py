"""Realism of many pictures as one number: the Fréchet distance between their features and those of real photos."""

import torch
from torch import nn
from torchmetrics.image.fid import FrechetInceptionDistance

from ..corruptions.damages import CORRUPTIONS
from .classifier import in_batches

# from hardly seen to hardly anything left
SEVERITIES = {
    "gaussian_noise": (0.05, 0.15, 0.3, 0.6, 1.0),
    "mask_pixels": (0.02, 0.1, 0.2, 0.4, 0.8),
    "mask_blocks": (0.02, 0.1, 0.2, 0.4, 0.8),
    "contrast": (0.8, 0.6, 0.4, 0.2, 0.1),
}


def frechet_distance(features, references):
    """|m - m'|^2 + tr(C + C' - 2 (C C')^(1/2)) of the Gaussians fitted to both, (N, F) and (M, F) (Heusel et al. 2017).

    0 where they are equal. It comes out too large where N or M is small: take at least 5 F of each. With the features
    of `classifier.FLOWERS` it is called FD-flowers, which is no FID and cannot be compared with one.
    """
    distance = FrechetInceptionDistance(feature=_Given(features.shape[1]), normalize=True)
    distance.update(references, real=True)
    distance.update(features, real=False)
    return distance.compute().item()


class Gaussian:
    """The Gaussian fitted to features (N, F), from which Fréchet distances to many others are taken, in float64."""

    def __init__(self, features):
        features = features.double()
        self.mean, covariance = features.mean(0), features.T.cov()
        values, vectors = torch.linalg.eigh(covariance)
        self.root, self.trace = vectors * values.clamp(min=0).sqrt() @ vectors.T, covariance.trace()

    def distances(self, weights, counts, sums, seconds):
        """`frechet_distance` to it of P groups of `counts` pictures, taken `weights` times, for each row of (W, P).

        counts: (P,), or one for all. sums: (P, F) of a group's features; seconds: (P, F, F), of their outer products
        with themselves.
        tr (C C')^(1/2) is that of (C'^(1/2) C C'^(1/2))^(1/2), which is symmetric.
        """
        total = (weights * counts).sum(1)
        means = weights @ sums / total[:, None]
        outer = total[:, None, None] * means[:, :, None] * means[:, None]
        covariances = (torch.einsum("wp,pij->wij", weights, seconds) - outer) / (total - 1)[:, None, None]
        both = torch.linalg.eigvalsh(self.root @ covariances @ self.root).clamp(min=0).sqrt().sum(1)
        traces = covariances.diagonal(dim1=1, dim2=2).sum(1) + self.trace
        return (means - self.mean).square().sum(1) + traces - 2 * both


class _Given(nn.Identity):
    """Takes the features as they are for torchmetrics, which expects a network."""

    def __init__(self, count):
        super().__init__()
        self.num_features = count


def severities(classifier, pictures):
    """{damage: [distance of the pictures with it to those without, for each of SEVERITIES]}: they should rise."""
    clean = in_batches(classifier.features, pictures)
    return {
        name: [
            frechet_distance(in_batches(classifier.features, CORRUPTIONS[name](pictures, strength)), clean)
            for strength in strengths
        ]
        for name, strengths in SEVERITIES.items()
    }
