"""Live progress: a display on a terminal, plain lines when piped, JSON lines for machines."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from poise_git import events
from poise_git.archive.entries import ROOT, Metrics
from poise_git.cli.output import echo, echo_json
from poise_git.cli.render import (
    difference_text,
    estimate_text,
    gain_text,
    interpretation_lines,
    kept_edits_text,
    missing_layers_text,
    sparkline,
)
from poise_git.experiment import Experiment
from poise_git.search.selection.survey import standing
from poise_git.untrusted.display import one_line, visible


def line_of(event: events.Event) -> str | None:
    """The event as plain text; None for events that are too frequent to print."""
    match event:
        case events.LayersMissing(layers, allowed):
            return missing_layers_text(layers, allowed=allowed)
        case events.DirectiveTranslated(directive, reading):
            return "\n".join(interpretation_lines(directive, reading))
        case events.EditsKept(file):
            return kept_edits_text(file)
        case events.RoundPlanned(number, parents, resumed):
            names = ", ".join(name for name, _ in parents)
            started = f"round {number}{' (resumed)' if resumed else ''}"
            return f"{started}: parents {names}" if names else f"{started}: replications only"
        case events.CandidateAdded(name, parent, mechanism, passed, repairs):
            mended = f", {repairs} repair{'' if repairs == 1 else 's'}" if repairs else ""
            return f"  {name}, child of {parent}: {one_line(mechanism)} ({passed} checks passed{mended})"
        case events.ProposalRejected(name, parent, _, reason):
            return f"  {name}, child of {parent}, rejected: {one_line(reason)}"
        case events.AllRejected(parent, proposals, attempt, again):
            next_step = "trying again with the reasons" if again else "continuing with the next parent"
            what = f"all {proposals} proposals rejected" if proposals else "no proposals"
            return f"  {parent}: {what} (attempt {attempt + 1}); {next_step}"
        case events.ProposalSkipped(name, parent, reason):
            return f"  {name}, child of {parent}, skipped: {one_line(reason)}"
        case events.Waiting(parent, directions):
            asked = one_line(
                "; ".join(f"{direction.kind} {direction.name}: {direction.reason}" for direction in directions)
            )
            return (
                f"waiting for a manual candidate on {parent} ({asked})\n"
                f"  in another terminal, for the context and the commands: poise-git propose {parent} --agent human\n"
                f"  the search continues when you commit to a new branch poise/NAME, on any parent; Ctrl-C stops it"
            )
        case events.Rewritten(name, seed):
            return f"  {name}: its code changed while seed {seed} was training; the new code will be trained"
        case events.CandidateEvaluated(name, metrics, _):
            gain = gain_text(metrics)
            parts = [f"U {estimate_text(metrics.utility)}", *([f"{gain} vs {ROOT}"] if gain else [])]
            return f"  {name}: " + ", ".join([*parts, *(f"violates {each.constraint}" for each in metrics.violations)])
        case events.MeasuredAgain(again):
            return f"  replicating on more seeds: {', '.join(again)}"
        case events.CandidateFailed(name, stage, reason):
            return f"  {name}: failed at {one_line(stage)}: {one_line(reason)}"
        case events.CodeRefused(name, reason):
            return f"  {name} skipped: {one_line(reason)}"
        case events.Confirmed(name, gain):
            return f"{name} on fresh seeds: {difference_text(gain)} vs {ROOT}" if gain else None
        case events.ConfirmationFailed(name, reason):
            return f"{name} failed on a fresh seed: {one_line(reason)}"
        case _:
            return None


def data_of(event: events.Event) -> dict[str, Any]:
    return {"event": type(event).__name__, **asdict(event)}


@dataclass
class _Worker:
    """A running job in the display."""

    stage: str
    done: int
    total: int
    rewards: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Start:
    """The state of a search when its display starts.

    It has the goal in candidates, the seeds per candidate, the runs of a confirmation, the candidates evaluated so far,
    and the best of them with its metrics.
    """

    goal: int | None
    seeds: int
    confirmation_runs: int = 0
    evaluated: int = 0
    best: tuple[str, Metrics] | None = None

    @classmethod
    def of(cls, experiment: Experiment, goal: int | None) -> Start:
        found = experiment.evaluated()
        leader = max(
            ((name, metrics) for name, (_, metrics) in found.items()),
            key=lambda entry: standing(entry[1]),
            default=None,
        )
        protocol = experiment.protocol
        return cls(goal, len(protocol.seeds), protocol.confirmation_runs, len(found.keys() - {ROOT}), leader)


class Display:
    """An observer with the state of the live display. Finished work scrolls away as lines above it."""

    def __init__(self, start: Start, console: Console) -> None:
        self.goal, self.seeds, self.evaluated = start.goal, start.seeds, start.evaluated
        self.console = console
        self.started = time.monotonic()
        self.round = ""
        self.preparing: dict[str, tuple[int, int]] = {}
        self.workers: dict[tuple[str, int], _Worker] = {}
        self.best = start.best
        self.runs_ended = 0
        self.confirmation_runs = start.confirmation_runs
        self.failed: set[str] = set()
        self.lock = threading.Lock()

    def observe(self, event: events.Event) -> None:
        with self.lock:
            self._update(event)
        if line := line_of(event):
            self.console.print(Text(visible(line)))

    def _update(self, event: events.Event) -> None:
        match event:
            case events.Preparing(progress):
                self.preparing[progress.stage] = (progress.done, progress.total)
            case events.RoundPlanned(number, _, _):
                self.round = f"round {number}"
                self.preparing.clear()
            case events.JobProgress(candidate, seed, progress) if candidate not in self.failed:
                self.preparing.clear()
                worker = self.workers.setdefault((candidate, seed), _Worker("", 0, 1))
                worker.stage, worker.done, worker.total = progress.stage, progress.done, progress.total
                if "reward" in progress.values:
                    worker.rewards.append(progress.values["reward"])
            case events.RunEnded(candidate, seed, _, _):
                self.workers.pop((candidate, seed), None)
                self.runs_ended += 1
                if self.goal and self.evaluated >= self.goal:
                    self.confirmation_runs = max(self.confirmation_runs - 1, 0)
            case events.CandidateEvaluated(name, metrics, evaluated):
                self.evaluated = evaluated
                if self.best is None or standing(metrics) > standing(self.best[1]):
                    self.best = (name, metrics)
            case events.CandidateFailed(name, _, _):
                self.failed.add(name)
                for key in [key for key in self.workers if key[0] == name]:
                    del self.workers[key]

    def __rich__(self) -> RenderableType:
        with self.lock:
            grid = Table.grid(padding=(0, 2))
            for stage, (done, total) in self.preparing.items():
                # rich would parse a plain string as markup.
                grid.add_row(Text(one_line(stage)), _bar(done, total), f"{done}/{total}", "")
            for (candidate, seed), worker in self.workers.items():
                grid.add_row(
                    Text(one_line(f"{candidate} seed {seed}")),
                    _bar(worker.done, worker.total),
                    Text(one_line(f"{worker.stage} {worker.done}/{worker.total}")),
                    Text(sparkline(worker.rewards), style="cyan"),
                )
            return Group(grid, Text(one_line(self._status()), style="bold"))

    def _status(self) -> str:
        elapsed = time.monotonic() - self.started
        parts = [self.round or "preparing", f"{self.evaluated}/{self.goal or '∞'} candidates"]
        if self.best:
            name, metrics = self.best
            value, gain = standing(metrics)[1], gain_text(metrics)
            parts.append(f"best {name} U {value:.4f}" + (f" ({gain})" if gain else ""))
        parts.append(f"{_clock(elapsed)} elapsed")
        if self.goal and self.runs_ended:
            missing = max(self.goal - self.evaluated, 0) * self.seeds + self.confirmation_runs
            parts.append(f"about {_clock(elapsed / self.runs_ended * missing)} left")
        return " · ".join(parts)


@contextmanager
def show_progress(start: Start, *, as_json: bool) -> Iterator[events.Observer]:
    """An observer that prints events in the format of the output."""
    console = Console()
    if as_json:
        yield lambda event: echo_json(data_of(event))
    elif console.is_terminal:
        display = Display(start, console)
        with Live(display, console=console, refresh_per_second=4, transient=True):
            yield display.observe
    else:
        yield PlainLines().observe


class PlainLines:
    """An observer that prints a line when a step ends, and one when a preparation begins."""

    def __init__(self) -> None:
        self.announced: set[str] = set()

    def observe(self, event: events.Event) -> None:
        if isinstance(event, events.Preparing) and event.progress.stage not in self.announced:
            self.announced.add(event.progress.stage)
            echo(f"{event.progress.stage} …")
        elif line := line_of(event):
            echo(line)


def _bar(done: int, total: int, width: int = 16) -> str:
    filled = round(width * min(done / max(total, 1), 1.0))
    return "━" * filled + "╌" * (width - filled)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
