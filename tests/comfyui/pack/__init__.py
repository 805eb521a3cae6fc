"""A ComfyUI pack for the tests alone: a tiny MODEL of each kind, sockets filled as asked, and exact tensors saved."""


async def comfy_entrypoint():
    from .nodes import TestPack

    return TestPack()
