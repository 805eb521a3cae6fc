"""Many independent pieces of work: in this process, or spread over a Ray cluster by Ray Data."""

import contextlib
import functools
import importlib.util
import logging
import os
import pickle
import socket
import traceback
import warnings

import torch

ENGINES = ("local", "ray")
TRIES = 4  # how often a piece is begun at most, where its process dies
# read when Ray is imported
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DATA_LOG_LEVEL": "CRITICAL", "RAY_BACKEND_LOG_LEVEL": "fatal"}


def work(make, tasks, engine="local", address=None, device="auto"):
    """Yield (place, result) for each of the list of tasks as it is done, in any order.

    make() builds the worker, once in each process: a function of a task that gives a dictionary of arrays, bytes, text
    and numbers. make, tasks and results can be pickled.

    engine "ray": joins the cluster at `address`, else the one of RAY_ADDRESS, else one that runs on this machine, else
    starts one. A worker has a GPU to itself where there are any and `device` is not "cpu". It computes with one thread,
    or OMP_NUM_THREADS: with as many a local run gives the same bits. A process that dies is replaced.

    A task that fails does not stop the others: RuntimeError after the last of them, with its traceback. ValueError
    where the engine is unknown or not installed, OSError where the cluster cannot be had.
    """
    check_engine(engine)
    left, failures = set(range(len(tasks))), []
    if not tasks:
        return
    with contextlib.closing(_over_ray(make, tasks, address, device) if engine == "ray" else _here(make, tasks)) as done:
        for place, result, failure in done:
            left.discard(place)
            if failure:
                failures.append(failure)
            else:
                yield place, result
    failures += [f"Piece {place} was given up: its process died {TRIES} times." for place in sorted(left)]
    if failures:
        raise RuntimeError(f"{len(failures)} of {len(tasks)} pieces of work failed. The first:\n{failures[0]}")


def check_engine(engine):
    """ValueError where the engine is unknown or not installed."""
    if engine not in ENGINES:
        raise ValueError(f"The engine {engine!r} is unknown: take one of {', '.join(ENGINES)}.")
    if engine == "ray" and importlib.util.find_spec("ray") is None:
        raise ValueError('The engine ray needs a package more: pip install "confident-ode[ray]"')


def _here(make, tasks):
    worker = make()
    for place, task in enumerate(tasks):
        yield place, *_attempt(worker, task)


def _attempt(worker, task):
    """(result, traceback of what failed, or None)."""
    try:
        return worker(task), None
    except Exception:  # whatever it is, it must not take the others along
        return None, traceback.format_exc()


def _over_ray(make, tasks, address, device):
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    import ray

    joined = ray.is_initialized()
    try:
        if not joined:
            _check(address or os.environ.get("RAY_ADDRESS", ""))
            ray.init(address, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        for row in _rows(ray, make, tasks, device):
            yield row["place"], *pickle.loads(row["outcome"])
    except (ConnectionError, ray.exceptions.RayError) as error:
        reason = str(error).strip().splitlines()[-1]
        raise OSError(f"The Ray cluster could not do the work: {reason}") from error
    finally:
        if not joined:
            ray.shutdown()


def _check(address):
    """OSError where nobody listens at a host:port, which Ray itself would try for many minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdecimal():
        try:
            socket.create_connection((host, int(port)), timeout=10).close()
        except OSError:
            raise OSError(f"There is no Ray cluster at {address}: check the address and the network.") from None


class RayWorker:
    """What a process of Ray does with a row of {"place", "task"}."""

    def __init__(self, make, threads):
        torch.set_num_threads(threads)
        # made at the first task, so that what is wrong with it is told as that of a task is
        self.worker = functools.cache(make)

    def __call__(self, row):
        outcome = _attempt(lambda task: self.worker()(task), pickle.loads(row["task"]))
        return {"place": row["place"], "outcome": pickle.dumps(outcome)}


def _rows(ray, make, tasks, device):
    """Yield {"place", "outcome"} for each task; those that are given up are missing."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    context.max_errored_blocks = -1
    resources = ray.cluster_resources()
    gpus = 0 if device == "cpu" else int(resources.get("GPU", 0))
    threads = int(os.environ.get("OMP_NUM_THREADS", 1))
    most = min(len(tasks), gpus or max(1, int(resources["CPU"]) // threads))
    rows = [{"place": place, "task": pickle.dumps(task)} for place, task in enumerate(tasks)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of the last two, which have no successor yet
        done = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
            RayWorker,
            fn_constructor_args=(make, threads),
            # none waits in a process, where the death of another would count as a try of its own
            compute=ray.data.ActorPoolStrategy(
                min_size=1, max_size=most, initial_size=most, max_tasks_in_flight_per_actor=1
            ),
            num_gpus=1 if gpus else None,
            num_cpus=threads,
            max_restarts=-1,
            max_task_retries=TRIES - 1,
        )
    # nothing is fetched ahead, so that each row comes as soon as it is done
    for batch in done.iter_batches(batch_size=None, prefetch_batches=0, batch_format="pyarrow"):
        yield from batch.to_pylist()
