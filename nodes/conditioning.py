"""Class Condition."""

from comfy_api.latest import io

from . import sockets
from .pixel_prior import PixelModel


class ClassCondition(sockets.Node):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="CODE_ClassCondition",
            display_name="Class Condition",
            category="CODE",
            description="Says what a picture shows, to a pixel prior that was trained on classes.",
            inputs=[
                io.Model.Input("model", tooltip="The pixel prior whose classes are meant."),
                io.String.Input(
                    "label",
                    default="",
                    tooltip="A class by name or number, for the bundled prior daisy, dandelion, rose, sunflower or "
                    "tulip. Empty is no class. With a cfg above 1 the picture turns towards it.",
                ),
            ],
            outputs=[io.Conditioning.Output(tooltip="For positive; the unconditional one belongs to negative.")],
        )

    @classmethod
    def execute(cls, model, label):
        if not isinstance(model.model, PixelModel):
            raise ValueError("Class Condition is for pixel priors: give this MODEL a prompt, with CLIP Text Encode.")
        labels = model.model.prior.conditioning(label.strip() or None, 1)
        return io.NodeOutput(
            [[None, {"class_label": labels["class_labels"].item()} if labels and label.strip() else {}]]
        )
