"""The last line of a run: every tier (a folder of tests) with its counts, and what a skipped one lacks."""

from collections import Counter, defaultdict
from pathlib import Path

import pytest
import torch
from prior.tiny import write_prior
from typer.testing import CliRunner


@pytest.fixture(scope="session")
def prior_folder(tmp_path_factory):
    """A tiny prior of 16x16 pictures with the classes cat and dog, and a null class."""
    folder = tmp_path_factory.mktemp("prior") / "tiny"
    write_prior(folder, unet={"num_class_embeds": 3}, labels={"0": "cat", "1": "dog"})
    return folder


@pytest.fixture
def command():
    """command(*arguments) -> the result of `confident-ode` with them: exit_code, stdout, stderr."""
    from confident_ode.cli.app import app

    def invoked(*arguments):
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return invoked


@pytest.fixture
def without_library(monkeypatch):
    """Where the library of the ImageNet-C family is not installed."""
    from confident_ode.corruptions import imagenet_c

    def missing(name):
        raise imagenet_c.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(imagenet_c.metadata, "version", missing)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Pictures and networks this small are slower on many threads, by far on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session):
    """Print after everybody else: pytest's own line of totals comes later than pytest_terminal_summary."""
    result = yield
    terminal = session.config.pluginmanager.get_plugin("terminalreporter")
    if terminal is not None and not hasattr(session.config, "workerinput"):
        terminal.write_line("tiers: " + " | ".join(tier_lines(terminal.stats)))
    return result


def tier_lines(stats):
    """One phrase a tier from pytest's reports by outcome; a tier with nothing but skips says why."""
    counts, reasons = defaultdict(Counter), defaultdict(set)
    for outcome in ("passed", "failed", "error", "skipped", "xfailed", "xpassed"):
        for report in stats.get(outcome, []):
            counts[tier_of(report)][outcome] += 1
            if outcome == "skipped":
                reasons[tier_of(report)].add(report.longrepr[2].removeprefix("Skipped: "))
    return [
        f"{tier}: skipped, {'; '.join(sorted(reasons[tier]))}"
        if set(count) == {"skipped"}
        else f"{tier}: " + ", ".join(f"{n} {outcome}" for outcome, n in count.items())
        for tier, count in sorted(counts.items())
    ]


def tier_of(report):
    """tests/core/test_x.py::test_y -> core; what runs on a GPU is a tier of its own."""
    return "cuda" if "[cuda" in report.nodeid else Path(report.nodeid.split("::")[0]).parts[1]
