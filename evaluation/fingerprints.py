"""Short marks that tell apart what a result was made of."""

import hashlib
import json

import torch


def fingerprint(*facts):
    """12 hex digits of tensors, and of whatever JSON can say."""
    digest = hashlib.sha256()
    for fact in facts:
        if isinstance(fact, torch.Tensor):
            digest.update(f"{fact.dtype} {tuple(fact.shape)}".encode())
            # as bytes, since numpy has no bfloat16
            digest.update(fact.cpu().flatten().view(torch.uint8).numpy())
        else:
            digest.update(json.dumps(fact, sort_keys=True).encode())
    return digest.hexdigest()[:12]


def fingerprint_of(prior):
    """That of a prior's weights and noise levels."""
    weights = prior.network.state_dict()
    return fingerprint(prior.prediction, prior.levels.sigmas, list(weights), *weights.values())
