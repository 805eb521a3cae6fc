import pytest
import torch
from prior.tiny import write_prior


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Networks this small are slower on many threads, by far on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def write(tmp_path):
    """write(unet=..., scheduler=..., labels=..., flat=...) -> (folder of a tiny prior, its tensors)."""
    folder = tmp_path / "tiny"
    return lambda **kwargs: (folder, write_prior(folder, **kwargs))
