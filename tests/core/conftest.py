import pytest
import torch


@pytest.fixture(params=["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"])
def device(request):
    """Each device there is."""
    return torch.device(request.param)


@pytest.fixture(params=["cuda"])
def cuda(request):
    """For what only a GPU can show."""
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    return torch.device(request.param)
