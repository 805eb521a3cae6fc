"""CODE: Confident ODE Editing, as a ComfyUI node pack and as a library."""
