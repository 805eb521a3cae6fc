"""A ComfyUI pack for the tests alone: says what the server's process holds."""

import gc
import json

import torch
from comfy_api.latest import ComfyExtension, io


def tensor_bytes():
    """The bytes of all tensors that anything holds, storage that several share counted once."""
    held = {}
    for thing in gc.get_objects():
        if issubclass(type(thing), torch.Tensor) and thing.device.type == "cpu":
            storage = thing.untyped_storage()
            held[storage.data_ptr()] = storage.nbytes()
    return sum(held.values())


class Held(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="TEST_Held",
            category="CODE test",
            inputs=[io.Int.Input("again", default=0, min=0, max=2**63, tooltip="Another number asks again.")],
            outputs=[io.String.Output()],
        )

    @classmethod
    def execute(cls, again):
        gc.collect()
        kinds = [type(thing).__name__ for thing in gc.get_objects()]
        held = {"bytes": tensor_bytes(), "trajectories": kinds.count("Trajectory"), "objects": len(kinds)}
        return io.NodeOutput(json.dumps(held))


class Pack(ComfyExtension):
    async def get_node_list(self):
        return [Held]


async def comfy_entrypoint():
    return Pack()
