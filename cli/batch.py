"""Restoring all pictures under a folder, here or over a Ray cluster: what is done stays done, what fails is told."""

import hashlib
import io
import json
import os
from collections import Counter, defaultdict
from dataclasses import dataclass, fields
from functools import cached_property
from importlib.metadata import version
from itertools import chain, count
from pathlib import Path

import torch
from rich.console import Console

from ..evaluation.engines import work
from ..evaluation.fingerprints import fingerprint_of
from ..evaluation.methods import Automatic
from ..evaluation.restoring import run
from ..evaluation.settings import Settings
from ..priors.loading import load
from ..samplers.windows import windows_of
from .photos import chosen, make_folder, planned_for
from .pictures import check_fit, fit, read, save_text, to_image, written_whole
from .progress import call_progress

FAILURES = (ValueError, OSError, torch.cuda.OutOfMemoryError)


@dataclass(frozen=True)
class Restorer:
    """What restores picture files. name, device, precision: of the prior, see `load`. how, most: see `fit`.

    given: see `photos.restore_photos`.
    """

    name: str
    settings: Settings
    how: str
    most: int
    device: str
    given: dict | None
    precision: str = "fp32"

    @cached_property
    def prior(self):
        return load(self.name, self.device, self.precision)

    def __reduce__(self):
        """Another process loads the prior itself."""
        return Restorer, tuple(getattr(self, field.name) for field in fields(self))

    def itself(self):
        return self

    def check(self):
        """The advice on the settings, or None; ValueError or OSError with one sentence where they cannot be had."""
        check_fit(self.how)
        return planned_for(self.prior, self.settings, self.how, self.most, self.given)[0].advice

    def about(self):
        """All that a result depends on beside its picture, as it is read from JSON."""
        settings = self.settings.used()
        if self.given is not None:
            settings = {**Automatic("auto", self.settings).about(self.prior), "given": self.given}
        about = {
            "prior": self.name,
            "weights": fingerprint_of(self.prior),
            "fit": self.how,
            "max_side": self.most if self.how == "whole" else None,
            "settings": settings,
            "version": version("confident-ode"),
        }
        return json.loads(json.dumps(about))

    def __call__(self, paths):
        """{path: {"picture": PNG, ...}, or {"failure": a sentence}}; those of one size are restored together.

        Each draws with the seed of the settings, in whatever company.
        """
        results, groups = {}, defaultdict(list)
        for path in paths:
            try:
                picture, fitted = fit(read(path), self.prior.size, self.how, self.prior.channels, self.most)
                settings, seen = self.settings, None
                if self.given is not None:
                    _, settings, seen = chosen(self.prior, picture, self.settings, self.given, None)
                groups[picture.shape, settings].append((path, picture, fitted, seen))
            except FAILURES as error:
                results[path] = {"failure": sentence(path, error)}
        for (_, settings), members in groups.items():
            results |= self.restored(members, settings)
        return results

    def restored(self, members, settings):
        """The results of pictures of one size; where that fails, those of each alone."""
        try:
            together = torch.cat([picture for _, picture, _, _ in members])
            result = run(self.prior, together, settings, seeds=[settings.seed] * len(members))
        except FAILURES as error:
            if len(members) == 1:
                return {path: {"failure": sentence(path, error)} for path, *_ in members}
            return {path: each for member in members for path, each in self.restored([member], settings).items()}
        return {
            path: {
                "picture": png(fitted.undo(to_image(restored))),
                "source": mark_of(path),
                "input_size": fitted.size,
                "output_size": fitted.shape,
                "windows": windows_of(picture.shape, self.prior.size),
                "automatic": seen,
                "calls": result.nfe,
                "together": len(members),
                "device": str(self.prior.device),
            }
            for (path, picture, fitted, seen), restored in zip(members, result.pictures, strict=True)
        }


def restore_folder(folder, output, restorer, at_once=1, engine="local", address=None):
    """Restore every picture under `folder` into `output`, by the same relative path; the number of those that failed.

    Each gives a PNG, and a record in JSON; what was made so before stays. at_once: how many pictures are restored
    together. engine, address: see `work`. Raises ValueError or OSError, before any picture, where anything else is
    wrong.
    """
    if at_once < 1:
        raise ValueError("A batch has at least 1 picture.")
    console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    failures = []

    def failed(what):
        failures.append(what)
        console.print(what)

    folder = folder.absolute()
    advice, about = restorer.check(), restorer.about()
    paths = found(folder, output.resolve(), failed, console.print)
    make_folder(output)
    if advice:
        console.print(f"Warning: {advice}")
    places = {path: output / name for path, name in names_of(folder, paths, console.print).items()}
    left = to_do(places, about)
    tasks, missing = [left[i : i + at_once] for i in range(0, len(left), at_once)], set(left)
    try:
        with call_progress(console, "pictures") as bar:
            task = bar.add_task("", total=len(left))
            for _, results in work(restorer.itself, tasks, engine, address, restorer.device):
                missing.difference_update(results)
                for path, result in results.items():
                    try:
                        print(written(path, places[path], result, about), flush=True)
                    except FAILURES as error:
                        failed(sentence(path, error))
                    bar.advance(task)
    except RuntimeError as error:  # of `work`, after all that could be done
        console.print(str(error))
        for path in sorted(missing):
            failed(f"{path} is not restored, for the reason above.")
    finally:
        if failures:
            console.print(f"{len(failures)} could not be restored:", *failures, sep="\n")
    return len(failures)


def found(folder, output, failed, say):
    """The files under a folder, sorted, but for hidden ones and those in `output`; what cannot be looked into is told.

    Links to folders are not followed, so that none is gone through twice. Raises ValueError where there is no file.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder: `confident-ode restore` takes single pictures.")
    if output == folder.resolve():
        raise ValueError(f"The results would lie among the pictures in {folder}: take another folder for them.")

    def unreadable(error):
        failed(f"{error.filename} cannot be looked into: {error.strerror.lower()}.")

    paths = []
    for place, folders, files in os.walk(folder, onerror=unreadable):
        place = Path(place)
        if not folders and not files:
            say(f"{place} is empty.")
        paths += [place / name for name in files if not name.startswith(".")]
        inside = [place / name for name in sorted(folders) if not name.startswith(".")]
        for link in filter(Path.is_symlink, inside):
            say(f"{link} is a link to a folder, and is not followed.")
        folders[:] = [path.name for path in inside if not path.is_symlink() and path.resolve() != output]
    if not paths:
        raise ValueError(f"There is no picture in {folder}.")
    return sorted(paths)


def names_of(folder, paths, say):
    """{path: relative name of its PNG}: its own, behind which its old ending stays where pictures differ only in it."""
    names, taken = {path: path.relative_to(folder) for path in paths}, set()
    sharing = Counter(key_of(name.with_suffix("")) for name in names.values())
    for path, name in names.items():
        short = name.with_suffix("")
        wanted = chain([short] if sharing[key_of(short)] == 1 else [], [name], (f"{name}_{i}" for i in count(2)))
        free = next(each for each in wanted if key_of(each) not in taken)
        taken.add(key_of(free))
        names[path] = Path(f"{free}.png")
        if free != short:
            say(f"{path} shares its name with another picture: its result is {names[path]}.")
    return names


def key_of(name):
    """What tells names apart on every file system."""
    return str(name).casefold()


def to_do(places, about):
    """The paths among {path: place of its result} whose result is not there, or made of something else or otherwise."""
    left, otherwise = [], 0
    for path, place in places.items():
        record = read_record(place)
        same = record is not None and all(record.get(name) == value for name, value in about.items())
        otherwise += record is not None and not same
        if not same or record.get("source") != mark_of(path):
            left.append(path)
    if otherwise:
        print(f"Pictures made with other settings, which are made anew: {otherwise}.")
    if len(left) < len(places):
        print(f"Pictures that are done already: {len(places) - len(left)}.")
    return left


def read_record(place):
    """What the record beside a result says, or None where one of the two is not there."""
    try:
        record = json.loads(place.with_suffix(".json").read_text(encoding="utf-8"))
    except (ValueError, OSError):
        return None
    return record if isinstance(record, dict) and place.is_file() else None


def written(path, place, result, about):
    """Write a result and its record, each whole or not at all, and return a line about it."""
    if "failure" in result:
        raise ValueError(result["failure"])
    record = {"input": str(path), **{name: value for name, value in result.items() if name != "picture"}, **about}
    place.parent.mkdir(parents=True, exist_ok=True)
    # so that a record never lies beside another picture than its own, whenever this is cut off
    place.with_suffix(".json").unlink(missing_ok=True)
    with written_whole(place) as file:
        file.write(result["picture"])
    save_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", place.with_suffix(".json"))
    size, seen = "×".join(map(str, result["output_size"])), result["automatic"]
    looks = f"looks like {seen['looks like']}, restored as {seen['preset']}; " if seen else ""
    return f"{path} -> {place}: {size} pixels; {looks}{result['calls']} network calls"


def mark_of(path):
    """12 hex digits of what a file holds, or None where it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    except OSError:
        return None


def png(image):
    """The bytes of an image as PNG."""
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def sentence(path, error):
    """One sentence that says what is wrong with which file."""
    if isinstance(error, torch.cuda.OutOfMemoryError):
        return f"{path}: the GPU has too little memory for this: take --device cpu."
    return str(error) if str(path) in str(error) else f"{path}: {error}"
