import pytest
from prior.tiny import write_prior


@pytest.fixture
def write(tmp_path):
    """write(unet=..., scheduler=..., labels=..., flat=...) -> (folder of a tiny prior, its tensors)."""
    folder = tmp_path / "tiny"
    return lambda **kwargs: (folder, write_prior(folder, **kwargs))
