"""CODE: Confident ODE Editing, as a ComfyUI node pack and as a library."""

WEB_DIRECTORY = "./web"


async def comfy_entrypoint():
    """What ComfyUI asks for when it loads the pack; the library has no use for it."""
    from .nodes import Pack

    return Pack()
