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


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """States this small are slower on many threads, by far on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
