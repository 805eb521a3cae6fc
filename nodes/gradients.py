"""Gradients inside ComfyUI, which runs nodes in inference mode and loads weights as tensors that cannot take part."""

import torch

# the gradient of a mean over a latent is too small for half precision; a power of two loses no digit
SCALE = 2.0**8


def normal_weights(network):
    """Make the weights of a loaded network ordinary tensors that want no gradient, one at a time; values stay."""
    with torch.inference_mode(False):
        for layer in network.modules():
            for weights in (layer._parameters, layer._buffers):
                for name, weight in weights.items():
                    if weight is not None and weight.is_inference():
                        weights[name] = _ordinary(weight)
        network.requires_grad_(False)


def _ordinary(weight):
    copy = weight.detach().clone()
    return torch.nn.Parameter(copy, requires_grad=False) if isinstance(weight, torch.nn.Parameter) else copy


def magnified(denoise):
    """denoise(x, sigma, null, ...) through which gradients pass SCALE times as large, and come out as they are."""

    def scaled(x, sigma, null, **more):
        x, null = (_with_gradient(value, 1 / SCALE) for value in (x, null))
        return _with_gradient(denoise(x, sigma, null, **more), SCALE)

    return scaled


def _with_gradient(value, factor):
    if value.requires_grad:
        value = value.view_as(value)
        value.register_hook(lambda gradient: factor * gradient)
    return value
