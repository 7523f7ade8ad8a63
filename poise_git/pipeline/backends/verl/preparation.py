"""Prepare the data that all runs of a protocol share: the base policy, the training data, the suites' problems.

They are made or fetched once per machine and cached outside the archive. Downloads happen here, in the trusted process.
Nothing here runs a model's code or reads a pickle.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from poise_git.errors import RunFailed, UsageError
from poise_git.pipeline.backends.verl.settings import HubModelSettings, TinyModelSettings, VerlSettings
from poise_git.pipeline.backends.verl.suites import Problem, load_problems, require_count
from poise_git.pipeline.backends.verl.tiny_model import make_tiny_model
from poise_git.pipeline.backends.verl.training_data import write_training_data
from poise_git.pipeline.cache import cache_folder, locked
from poise_git.pipeline.sandbox import ChildFailed, Sandbox
from poise_git.pipeline.sandbox.removal import (
    FileRefused,
    fresh_folder,
    move_file,
    remove_tree,
    take_file,
)

# The files that are fetched for a model: no pickles, no code.
MODEL_FILES = ("*.json", "*.safetensors", "*.txt", "*.jinja", "*.model")
_MODEL = "model"


@dataclass(frozen=True)
class Prepared:
    """Paths on this machine; both names depend on the content. The report on overlaps is beside `training_data`."""

    model: Path
    training_data: Path

    @property
    def report(self) -> Path:
        return self.training_data.with_suffix(".json")


def prepare(settings: VerlSettings, sandbox: Sandbox) -> Prepared:
    """Make or fetch missing data; several processes may call it at once.

    Raises:
        UsageError: a model or a data set is unavailable; the message says how to get it.
        RunFailed: the model cannot be made.
    """
    return Prepared(_base_policy(settings, sandbox), _training_data(settings))


def suite_problems(settings: VerlSettings, suite: str) -> tuple[Problem, ...]:
    """Load a suite's problems. Raises UsageError: they are unavailable, or their number differs from the protocol's."""
    described = settings.evaluation.suites[suite]
    problems = load_problems(described.source, Path.cwd())
    require_count(problems, described.problems, suite)
    return problems


def _base_policy(settings: VerlSettings, sandbox: Sandbox) -> Path:
    model = settings.model
    if model.hub:
        return _download(model.hub)
    if model.path:
        folder = Path(model.path).expanduser().absolute()
        if not (folder / "config.json").is_file() or not any(folder.glob("*.safetensors")):
            raise UsageError(f"{folder}: holds no model in Hugging Face format (config.json and *.safetensors)")
        return folder
    assert model.generator is not None
    return _generated(model.generator, sandbox)


def _download(hub: HubModelSettings) -> Path:
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise UsageError(f"{hub.repository}: needs huggingface_hub: pip install 'poise-git[verl]'") from error
    name = f"{hub.repository.replace('/', '--')}-{hub.revision or 'newest'}"
    folder = cache_folder("models") / name
    try:
        with locked(folder.with_name(f"{name}.lock")):
            if not folder.exists():
                fetched = snapshot_download(hub.repository, revision=hub.revision, allow_patterns=list(MODEL_FILES))
                # The hub's cache holds links to files that a sandbox does not show, so copy the files.
                unfinished = folder.with_name(f"{name}.part")
                remove_tree(unfinished)
                shutil.copytree(fetched, unfinished)
                unfinished.replace(folder)
        return folder
    except Exception as error:  # the client passes on any exception of its transport
        pinned = f" --revision {hub.revision}" if hub.revision else ""
        raise UsageError(
            f"{hub.repository}: cannot be downloaded ({type(error).__name__}); on a machine with a network: "
            f"hf download {hub.repository}{pinned}; or give model.path in the protocol"
        ) from error


def _generated(settings: TinyModelSettings, sandbox: Sandbox) -> Path:
    folder = cache_folder("models") / _content_hash(settings.model_dump(mode="json"))
    with locked(folder.with_suffix(".lock")):
        if not folder.exists():
            with fresh_folder(folder.parent) as scratch:
                try:
                    sandbox.run(f"{__name__}:make_model", {"settings": settings.model_dump(mode="json")}, scratch)
                    unfinished = folder.with_name(f"{folder.name}.part")
                    remove_tree(unfinished)
                    unfinished.mkdir()
                    for name in sorted(os.listdir(scratch / _MODEL)):
                        take_file(scratch / _MODEL, name, unfinished / name)
                except (ChildFailed, FileRefused) as error:
                    raise RunFailed("prepare", f"cannot build the base policy: {error.reason}") from error
                unfinished.replace(folder)
    return folder


def make_model(arguments: Mapping[str, Any], send: object) -> None:
    """Child process: write the generated model into the working directory."""
    make_tiny_model(TinyModelSettings.model_validate(arguments["settings"]), Path(_MODEL))


def _training_data(settings: VerlSettings) -> Path:
    problems = load_problems(settings.data.source, Path.cwd())
    suites = {suite: suite_problems(settings, suite) for suite in settings.evaluation.suites}
    # Files count by their content, not by their names.
    texts = {name: [problem.question for problem in held_out] for name, held_out in suites.items()}
    name = _content_hash(
        [settings.data.model_dump(mode="json"), [asdict(problem) for problem in problems], sorted(texts.items())]
    )
    prepared = Prepared(Path(), cache_folder("training-data") / f"{name}.parquet")
    with locked(prepared.training_data.with_suffix(".lock")):
        if not (prepared.training_data.exists() and prepared.report.exists()):
            report = write_training_data(settings.data, problems, suites, prepared.training_data)
            prepared.report.write_text(json.dumps(asdict(report), indent=2), encoding="utf-8")
    return prepared.training_data


def _content_hash(data: object) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16]


def assemble_weights(base_policy: Path, child: Path, exported: Path, weights: Path) -> None:
    """Make the folder that evaluation reads: the base policy's configuration and tokenizer, and the trained tensors.

    Processes that ran a candidate wrote `child`. Only plain safetensors files are taken from its folder `exported`,
    and none through a link, because a link could lead to other files of this machine.

    Raises:
        RunFailed: there are no such files.
    """
    if exported.resolve() != child.resolve() / exported.relative_to(child):
        raise RunFailed("train", "the trainer's checkpoint is behind a link")
    tensors = [*exported.glob("*.safetensors"), *exported.glob("*.safetensors.index.json")]
    if not any(file.suffix == ".safetensors" for file in tensors):
        raise RunFailed("train", "the trainer left no weights in Hugging Face format")
    remove_tree(weights)
    weights.mkdir(parents=True)
    for pattern in MODEL_FILES:
        for file in base_policy.glob(pattern):
            if "safetensors" not in file.name:
                shutil.copyfile(file, weights / file.name)
    for file in tensors:
        try:
            move_file(exported, file.name, weights / file.name)
        except FileRefused as error:
            raise RunFailed("train", error.reason) from error
