import importlib.util
import os
import signal
import socket
import sys
from functools import partial
from pathlib import Path

import pytest
from confident_ode.evaluation import engines
from confident_ode.evaluation.engines import work
from prior.pieces import restorer

needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs ray: pip install 'ray[data]'")


@pytest.fixture(scope="module")
def ray():
    """Ray with two processors, whatever the machine has, and with its share of a busy one."""
    ray = pytest.importorskip("ray")
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112
    found = {"env_vars": {"PYTHONPATH": str(Path(__file__).parents[1])}}  # for prior.pieces
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, runtime_env=found)
    yield ray
    ray.shutdown()


def pictures(results):
    return {place: (result["picture"].tobytes(), result["calls"]) for place, result in results.items()}


def test_here_each_task_is_done_in_order_by_one_worker(prior_folder):
    made = []

    def make():
        made.append(restorer(prior_folder))
        return made[-1]

    results = list(work(make, [5, 3, 5]))
    assert [place for place, _ in results] == [0, 1, 2]
    assert len(made) == 1
    assert (results[0][1]["picture"] == results[2][1]["picture"]).all()
    assert (results[0][1]["picture"] != results[1][1]["picture"]).any()


def test_a_task_that_fails_does_not_stop_the_others(prior_folder):
    done = {}
    with pytest.raises(RuntimeError, match=r"^2 of 4 pieces of work failed(.|\n)*KeyError: 'no seed -7'"):  # noqa: PT012
        for place, result in work(partial(restorer, prior_folder), [1, -7, -8, 2]):
            done[place] = result
    assert list(done) == [0, 3]


def test_a_worker_that_cannot_be_made_is_told_as_it_is(tmp_path):
    with pytest.raises(ValueError, match="There is no prior"):
        list(work(partial(restorer, tmp_path / "none"), [1]))


def test_no_tasks_need_no_worker():
    assert list(work(None, [])) == []


def test_the_engine_is_known():
    with pytest.raises(ValueError, match="'spark' is unknown: take one of local, ray"):
        list(work(None, [1], "spark"))


def test_without_ray_one_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r'pip install "confident-ode\[ray\]"$'):
        list(work(None, [1], "ray"))


@needs_ray
def test_an_address_where_nobody_listens_is_told_at_once():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
    with pytest.raises(OSError, match=f"There is no Ray cluster at {address}"):
        list(work(None, [1], "ray", address))


@needs_ray
def test_over_ray_a_killed_process_is_replaced_and_the_results_are_the_same(ray, prior_folder, monkeypatch):
    monkeypatch.setattr(engines, "TRIES", 2)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    tasks, found, killed = [1, 2, 3, "crash", 4, 5, 6, 7], {}, None
    with pytest.raises(RuntimeError) as failed:  # noqa: PT012
        for place, result in work(partial(restorer, prior_folder, 0.3), tasks, "ray"):
            found[place] = result
            if killed is None:
                killed = result["process"]
                os.kill(killed, signal.SIGKILL)
    assert str(failed.value).startswith("1 of 8 pieces of work failed")
    assert str(failed.value).endswith("Piece 3 was given up: its process died 2 times.")
    alone = restorer(prior_folder)
    assert pictures(found) == pictures({place: alone(seed) for place, seed in enumerate(tasks) if seed != "crash"})
    assert len({result["process"] for result in found.values()} - {killed, os.getpid()}) >= 2
    assert {result["threads"] for result in found.values()} == {1}
