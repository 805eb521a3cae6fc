"""The installed command in a process of its own."""

import json
import os
import signal
import subprocess
import sys

import pytest
from PIL import Image

MAIN = "from confident_ode.cli import main; main()"
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}


def run(*arguments, code=MAIN):
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, encoding="utf-8", env=ENVIRONMENT, timeout=120, check=False)


def test_bad_pictures_leave_the_good_ones_restored(photo, prior_folder, tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    given = [tmp_path / "text.png", photo(), tmp_path / "none.png"]
    options = ("--prior", prior_folder, "--steps", 4, "--updates", 4, "--blocks", 4, "--stop-at", 0)
    done = run("restore", *given, "-o", tmp_path / "out", *options)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        f"{tmp_path / 'text.png'} is not a picture that can be read.",
        f"{tmp_path / 'none.png'} is not there.",
    ]
    assert len(done.stdout.splitlines()) == 1
    assert json.loads((tmp_path / "out" / "photo.json").read_text())["code"]["nfe"] == 19
    assert Image.open(tmp_path / "out" / "photo_restored.png").size == (16, 16)


@pytest.mark.skipif(os.name != "posix", reason="SIGINT is sent as on POSIX")
def test_ctrl_c_leaves_whole_files_only(photo, prior_folder, tmp_path):
    path, out = photo(), tmp_path / "out"
    options = ("--prior", str(prior_folder), "--steps", "20", "--updates", "40")
    running = subprocess.Popen(
        [sys.executable, "-c", MAIN, "restore", *[str(path)] * 400, "-o", str(out), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        env=ENVIRONMENT,
        # a shell's background job hands down a SIGINT that is ignored
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        assert "photo" in running.stdout.readline()
        running.send_signal(signal.SIGINT)
        stderr = running.communicate(timeout=60)[1]
    finally:
        running.kill()
    assert running.returncode == 130
    assert "Traceback" not in stderr
    made = sorted(out.iterdir())
    assert 3 <= len(made) < 3 * 400
    assert not [file for file in made if file.name.startswith(".")]
    for file in made:
        if file.suffix == ".json":
            json.loads(file.read_text())
        else:
            Image.open(file).load()


def test_help_does_not_wait_for_torch():
    code = "import sys\nfrom confident_ode.cli import main\ntry: main()\nfinally: print('torch' in sys.modules)"
    done = run("restore", "--help", code=code)
    assert done.returncode == 0
    assert "--depth" in done.stdout
    assert done.stdout.splitlines()[-1] == "False"


def test_without_the_extra_one_sentence_says_what_to_install():
    done = run(code=f"import sys; sys.modules['typer'] = None; {MAIN}")
    assert done.returncode == 2
    assert done.stderr == 'The command line needs a few packages more: pip install "confident-ode[cli]"\n'


def test_nothing_to_restore_is_a_matter_of_usage():
    done = run("restore")
    assert done.returncode == 2
    assert "Missing argument" in done.stderr
