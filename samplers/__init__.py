"""The sampler core of CODE: plain functions in torch, in k-diffusion's calling convention and VE coordinates."""
