"""The cost of a protocol's runs, as text and as JSON."""

from __future__ import annotations

from poise_git.archive import Archive
from poise_git.cli.common import directory, print_json
from poise_git.cli.output import echo
from poise_git.errors import NotAnArchive, UsageError
from poise_git.experiment import Experiment, protocol_file
from poise_git.pipeline.backends import backend_named
from poise_git.pipeline.estimate import Cost, CostEstimate, Quantity
from poise_git.pipeline.protocol import Protocol
from poise_git.template import template_protocols

_PREFIXES = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"))

_WIDTH = 40


def show_estimate(name: str | None, *, as_json: bool) -> None:
    """Print the cost of a run of protocol `name` (default: poise.yaml's); outside an archive, of a shipped protocol."""
    protocol = known_protocol(name)
    estimate = backend_named(protocol.backend).estimate_cost(protocol, protocol_file(protocol.name))
    runs = {"each candidate": len(protocol.seeds), "a confirmation": protocol.confirmation_runs}
    if as_json:
        print_json(
            {
                "protocol": {"name": protocol.name, "hash": protocol.hash, "backend": protocol.backend},
                "runs": {"candidate": len(protocol.seeds), "confirmation": protocol.confirmation_runs},
                "run": estimate.to_data(),
            }
        )
        return
    echo(f"protocol  {protocol.name} ({protocol.hash}), backend {protocol.backend}")
    echo("\n".join(_lines(estimate, runs)))


def known_protocol(name: str | None) -> Protocol:
    """The protocol of that name in the archive, or outside one in the template. Raises UsageError if it is unknown."""
    try:
        return Experiment.load(Archive.open(directory()), protocol=name).protocol
    except NotAnArchive:
        shipped = template_protocols()
    if name is None or name not in shipped:
        raise UsageError(f"no archive here; name a shipped protocol with --protocol: {', '.join(sorted(shipped))}")
    return shipped[name]


def _lines(estimate: CostEstimate, runs: dict[str, int]) -> list[str]:
    lines = ["one run   " + ", ".join(f"{count} for {what}" for what, count in runs.items() if count)]
    lines += [f"  {quantity.name:<{_WIDTH}} {_range(quantity)}" for quantity in estimate.quantities]
    for cost in estimate.costs:
        lines.append(f"  {cost.hardware:<{_WIDTH}} {_hours(cost)}")
        lines.append(f"  {'':<{_WIDTH}} ({cost.assumption})")
    return lines + [f"note      {note}" for note in estimate.notes]


def _range(quantity: Quantity) -> str:
    low, high = _number(quantity.low), _number(quantity.high)
    return " ".join(filter(None, (low if low == high else f"{low} to {high}", quantity.unit)))


def _hours(cost: Cost) -> str:
    if cost.high < 1:
        return f"{_number(60 * cost.low)} to {_number(60 * cost.high)} {cost.unit.replace('hours', 'minutes')}"
    return f"{_number(cost.low)} to {_number(cost.high)} {cost.unit}"


def _number(value: float) -> str:
    """Two or three significant digits; small whole numbers in full."""
    for size, prefix in _PREFIXES:
        if value >= size:
            return f"{value / size:.3g} {prefix}"
    if value == int(value):
        return f"{int(value):,}"
    return f"{value:.2g}" if value < 10 else f"{value:,.0f}"
