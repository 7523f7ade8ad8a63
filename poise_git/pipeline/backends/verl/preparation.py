"""What all runs of a protocol share on this machine: the base policy, the training data, the suites' problems.

Made or fetched once and cached outside the archive. Downloads happen here, in the trusted process; whatever runs a
model's code or reads a pickle does not.
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

# What a model's folder may hold: no pickles, no code.
MODEL_FILES = ("*.json", "*.safetensors", "*.txt", "*.jinja", "*.model")
_MODEL = "model"


@dataclass(frozen=True)
class Prepared:
    """Places on this machine; both names say what is in them. `training_data` has its report on overlaps beside it."""

    model: Path
    training_data: Path

    @property
    def report(self) -> Path:
        return self.training_data.with_suffix(".json")


def prepare(settings: VerlSettings, sandbox: Sandbox) -> Prepared:
    """Make or fetch what is not there yet; safe in several processes at once.

    Raises:
        UsageError: a model or a data set cannot be had, with how to get it.
        RunFailed: the model cannot be made.
    """
    return Prepared(_base_policy(settings, sandbox), _training_data(settings))


def suite_problems(settings: VerlSettings, suite: str) -> tuple[Problem, ...]:
    """Raises UsageError: they cannot be had, or are not as many as the protocol says."""
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
                # The hub's cache holds links to files elsewhere, which a sandbox does not show.
                unfinished = folder.with_name(f"{name}.part")
                remove_tree(unfinished)
                shutil.copytree(fetched, unfinished)
                unfinished.replace(folder)
        return folder
    except Exception as error:  # the client raises what its transport raises
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
    """Child process: the generated model, in the working directory."""
    make_tiny_model(TinyModelSettings.model_validate(arguments["settings"]), Path(_MODEL))


def _training_data(settings: VerlSettings) -> Path:
    problems = load_problems(settings.data.source, Path.cwd())
    suites = {suite: suite_problems(settings, suite) for suite in settings.evaluation.suites}
    # By what the files hold, not by what they are called.
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
    """The folder that evaluation reads: the base policy's configuration and tokenizer, the trained tensors.

    `child` was written by processes that ran a candidate. Of its folder `exported` only plain safetensors files are
    taken, and none through a link, which could lead to anybody's files.

    Raises:
        RunFailed: there are none.
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
