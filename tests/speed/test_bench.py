"""The bench on a tiny prior: its table, its profile, and how it counts calls, bytes and gaps."""

import os
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from comfyui import server
from confident_ode.evaluation.published import CLASS, TRAINER
from confident_ode.evaluation.restoring import plan
from speed import bench
from speed.clock import hooked, peak_memory
from speed.contenders import ALL_ON, AUTHORS, contenders
from speed.networks import network
from speed.profiled import CALL, RUN, findings, on_device, profiled
from torch.autograd import DeviceType

CPU = torch.device("cpu")
CHECKOUT = os.environ.get("CODE_CHECKOUT")
# of the shape of the authors', with one network call
TRAINER_FILE = f"""
import torch

class {CLASS}:
    def encode_inputs(self, inputs, clip_input):
        return self.ddpm.unet(inputs, torch.tensor([5]))["sample"], [], []

    def editing_with_ode(self, codes, **settings):
        return [], [*codes]

    def langevin_sampling(self): ...
    def ddim_step(self): ...
    def _clip_inputs(self): ...
    def _threshold_sample(self): ...
"""


def rows(output):
    """The cells of each row of the table, but for its head."""
    lines = [line.strip().strip("|").split("|") for line in output.splitlines() if line.strip().startswith("|")]
    return [[cell.strip() for cell in line] for line in lines[2:]]


def printed(capsys, prior_folder, *arguments):
    bench.main(["--network", str(prior_folder), "--steps", "2", "--rounds", "2", *map(str, arguments)])
    return capsys.readouterr().out


def test_the_table_has_each_contender_in_each_precision(prior_folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(server, "COMFYUI", tmp_path / "none")
    (tmp_path / TRAINER).parent.mkdir(parents=True)
    (tmp_path / TRAINER).write_text(TRAINER_FILE)
    output = printed(capsys, prior_folder, "--batch", 1, 2, "--precision", "bf16", "--official", tmp_path)
    ours = ("network alone", "CODE", "our DDIM", "diffusers' DDIM")
    expected = [("1", "bf16", each) for each in ours] + [("1", "fp32", each) for each in (*ours, AUTHORS)]
    table = rows(output)
    assert [tuple(row[1:4]) for row in table] == expected + [("2", "bf16", each) for each in ours]
    # the time of a contender holds that of its network
    assert all(float(row[4].split()[0]) > 1 for row in table)
    assert [row[5] for row in table if row[3] == "CODE"] == ["1.00 [1.00, 1.00]"] * 3
    assert "KSampler: skipped, no ComfyUI at" in output


def test_beside_ksampler_in_its_own_python(prior_folder, capsys):
    if reason := server.missing():
        pytest.skip(reason)
    made = [row for row in rows(printed(capsys, prior_folder, "--batch", 2)) if row[7]]
    assert [row[3] for row in made] == ["ComfyUI's KSampler", "our ODE Decode"]
    assert made[0][7] == "1.000"
    assert 0.5 < float(made[1][7]) < 2


def test_contenders_make_as_many_network_calls(prior_folder):
    prior, pictures = network(prior_folder), torch.zeros(1, 3, 16, 16)
    settings = replace(ALL_ON, steps=4, updates=4, blocks=2)
    expected = plan(prior, settings).calls
    assert expected == 4 + 6 + 5
    for work in contenders(CHECKOUT).values():
        calls = []
        with hooked(prior.network, lambda *_: None, lambda *_, calls=calls: calls.append(1)):
            work(prior, pictures, settings)
        assert len(calls) == expected


def reads(*_):
    torch.zeros(1).item()


def test_a_profile_sees_no_read_in_code_and_one_that_is_put_there(prior_folder, capsys):
    clean = printed(capsys, prior_folder, "--batch", 1, "--profile")
    assert "0 syncs and copies" in clean
    prior = network(prior_folder)
    prior.network.time_proj.register_forward_pre_hook(reads)
    events = profiled(prior, torch.zeros(1, 3, 16, 16), replace(ALL_ON, steps=2, updates=1, blocks=1)).events()
    assert "7 aten::item" in "".join(findings(events, CPU))


def test_peak_memory_is_what_is_held_at_once():
    held = torch.zeros(2**20)

    def work():
        for _ in range(3):
            first = torch.ones(2**20)
            second = first + 1
            del first, second

    assert 2 * held.nbytes <= peak_memory(work, CPU) < 2 * held.nbytes + 1000


def event(name, start, end, device=DeviceType.CUDA, kernels=()):
    span = SimpleNamespace(start=start, end=end, elapsed_us=lambda: end - start)
    return SimpleNamespace(name=name, time_range=span, device_type=device, kernels=kernels)


def test_the_largest_gap_lies_between_the_first_call_and_the_read_of_the_result():
    host = DeviceType.CPU
    calls = [event(CALL, 10, 20, host), event(CALL, 30, 40, host)]
    launches = [
        event(name, at, at + 1, host, [SimpleNamespace(duration=time)])
        for name, at, time in (("conv", 12, 30), ("lerp", 25, 10), ("conv", 32, 60))
    ]
    kernels = [event("before", 0, 1), event("conv", 15, 45), event("lerp", 45, 55), event("conv", 62, 122)]
    after = [event("Memcpy DtoH", 300, 301), event("late", 900, 901), event(RUN, 0, 999), event(CALL, 15, 45)]
    share, gap = on_device([*calls, *launches, *kernels, *after], calls)
    assert share.startswith("in the network 90.0%")
    assert gap == "largest gap between kernels 7.0 us, between lerp and conv"
