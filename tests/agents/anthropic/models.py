"""Models for the loopback server: one with useful replies, and some with useless ones."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from itertools import count

from tests.agents.anthropic.server import Body, Message, Scripted, Status, text, tool_use

OPERATORS = {
    "ProposalAnswer": "propose",
    "ObjectiveAnswer": "interpret",
    "OpinionsAnswer": "screen",
    "CodeAnswer": "write",
    "ReadingAnswer": "verify",
    "ReflectionAnswer": "reflect",
    "PrinciplesAnswer": "distill",
}
SCALE = '''def scale(signal: Tensor, rollouts: Rollouts, floor: float = {floor}) -> Tensor:
    """The group's sample standard deviation, at least `floor`; a group of one is divided by 1. (N,)"""
    spread = torch.where(rollouts.group_size() > 1, rollouts.group_std(signal), torch.ones_like(signal))
    return torch.clamp(spread, min=floor) + 1e-6
'''


def operator(request: Body) -> str:
    return OPERATORS[request["tools"][0]["input_schema"]["title"]]


def told(request: Body) -> str:
    """The whole text of a request."""
    return "\n".join(part.get("text", "") for message in request["messages"] for part in message["content"])


class Useful:
    """Propose a floor under the scale, another one each time; answer every operator correctly."""

    def __init__(self) -> None:
        self.numbers = count(1)
        self.steps: dict[str, Callable[[Body], Scripted]] = {
            "interpret": lambda _: tool_use(
                {
                    "metrics": {"overall": {"weight": 1, "direction": "maximize", "scale": 1}},
                    "constraints": [{"metric": "mean_length", "at_most": "root"}],
                    "explanation": "Accurate: overall. Concise: no longer than the root.",
                }
            ),
            "propose": self.propose,
            "screen": self.screen,
            "write": self.write,
            "verify": lambda _: tool_use(
                {"implements": True, "reason": "It divides by max(std, floor).", "unproven": []}
            ),
            "reflect": self.reflect,
            "distill": self.distill,
        }

    def __call__(self, request: Body) -> Scripted:
        return self.steps[operator(request)](request)

    def propose(self, _: Body) -> Scripted:
        floor = next(self.numbers) / 100
        return tool_use(
            {
                "name": f"floor-{round(100 * floor)}",
                "mechanism": f"the scale is at least {floor}",
                "hypothesis": "Groups that are almost all alike have a tiny deviation and outweigh all others.",
                "family": "scale",
                "knobs": {"floor": floor},
                "claims": [
                    {"statement": "Utility rises.", "check": "effect", "figure": "utility", "direction": "up"},
                    {"statement": "Advantages sum to 0.", "check": "zero-mean"},
                ],
                "priors": ["scale-floor"],
                "steps": "Clamp the deviation in scale.",
            }
        )

    def screen(self, request: Body) -> Scripted:
        names = re.findall(r"^name: (\S+)", told(request), re.MULTILINE)
        scores = {
            "consistency": 0.8,
            "feasibility": 1.0,
            "improvement": 0.6,
            "accepted": True,
            "reason": "It is small.",
        }
        return tool_use({"opinions": [{"name": name, **scores} for name in names]})

    def write(self, request: Body) -> Scripted:
        (floor,) = re.findall(r"^  floor: (\S+)$", told(request), re.MULTILINE)[-1:]
        return tool_use({"functions": [SCALE.format(floor=floor)], "patch": [], "explanation": "A floor."})

    def reflect(self, request: Body) -> Scripted:
        return tool_use(
            {
                "diagnosis": "Within noise: the floor hardly ever acts.",
                "focus": ["scale"],
                "next": ["Try a larger one."],
            }
        )

    def distill(self, request: Body) -> Scripted:
        names = sorted(set(re.findall(r"^candidate: (\S+)", told(request), re.MULTILINE)))
        statement = "Floors below the deviation that groups have do nothing."
        return tool_use({"principles": [{"statement": statement, "support": names, "against": [], "scope": ""}]})


class Useless:
    """Reply with words, refusals, broken code and invented numbers, never with a usable answer."""

    def __init__(self) -> None:
        self.turn = count()
        self.good = Useful()

    def __call__(self, request: Body) -> Scripted:
        turn = next(self.turn)
        if operator(request) == "propose" and turn % 3 == 0:
            return self.good(request)
        if operator(request) == "write":
            broken = "def scale(signal, rollouts):\n    return signal * float('nan')\n"
            return tool_use({"functions": [broken], "patch": [], "explanation": ""})
        nonsense: tuple[Scripted, ...] = (
            text("As I said: 42."),
            Message((), "refusal", {"type": "refusal", "category": None, "explanation": None}),
            tool_use({"nothing": "of use"}),
            Message(({"type": "text", "text": "on and on"},), "max_tokens"),
            tool_use(json.dumps({"a": "string"})),
        )
        return nonsense[turn % len(nonsense)]


def overloaded(_: Body) -> Scripted:
    return Status(529, "overloaded_error", (("retry-after", "0.01"),))
