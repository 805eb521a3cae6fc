"""The ComfyUI nodes, one file a stage. They turn sockets into calls of the samplers; only this folder imports comfy."""

from comfy_api.latest import ComfyExtension

from .clip import ConfidenceClip
from .compare import CompareImages
from .conditioning import ClassCondition
from .corrupt import CorruptImage
from .cycle import CycleSDE
from .ddib import DDIB
from .decode import ODEDecode
from .decoder_inversion import DecoderInversion
from .diffedit import DiffEdit, DiffEditMask
from .drag import Drag
from .examples import ExamplePicture
from .guided_decode import GuidedDecode
from .inpaint import Inpaint
from .invert import DDIMInvert
from .knobs import Film, Knobs
from .langevin import LangevinUpdate
from .loaders import LoadPixelPrior
from .null_text import NullText
from .odedit import ODEdit
from .official import OfficialCode
from .restore import Restore
from .schedule import Schedule
from .sdedit import SDEdit

NODES = [
    LoadPixelPrior,
    ClassCondition,
    Schedule,
    DDIMInvert,
    ConfidenceClip,
    LangevinUpdate,
    ODEDecode,
    NullText,
    GuidedDecode,
    DecoderInversion,
    SDEdit,
    CycleSDE,
    Inpaint,
    DiffEditMask,
    DiffEdit,
    DDIB,
    Restore,
    ODEdit,
    Drag,
    OfficialCode,
    Knobs,
    Film,
    CompareImages,
    ExamplePicture,
    CorruptImage,
]


class Pack(ComfyExtension):
    async def get_node_list(self):
        return NODES
