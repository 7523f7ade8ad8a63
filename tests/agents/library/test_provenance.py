"""Whether code is shipped depends only on texts.

P1  Every sequence of changes that the library agent makes with shipped cards is shipped code, at any knobs.
P2  A text with one changed character outside a knob's number is not shipped, and neither are its descendants.
P3  Statements in an archive have no effect.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from poise_git.agents.library.ideas import Operation, all_ideas
from poise_git.agents.library.mechanisms import install, mechanisms, set_knobs, uninstall
from poise_git.agents.library.provenance import Provenance, composed_of_shipped_cards, follows, is_merge, is_root
from poise_git.archive import Archive
from poise_git.archive.entries import Proposal
from poise_git.errors import CheckFailed
from poise_git.package_data import hook_files, template_files
from poise_git.search.literature import Card
from tests.agents.library.support import card, cards, coded_cards, context, known, root_text

LINES = 80


def line(seed: int) -> list[str]:
    """The root and two to four changes, each drawn from all that the agent could try, other knobs included."""
    generator, texts = random.Random(seed), [root_text()]
    for _ in range(generator.randint(2, 4)):
        present = mechanisms(texts[-1], cards())
        ideas = all_ideas(context(texts[-1], parent=known("parent")), present, generator)
        rare = [idea for idea in ideas if idea.operation in (Operation.MUTATE, Operation.REMOVE, Operation.REPLACE)]
        generator.shuffle(ideas)
        first = [generator.choice(rare)] if rare and generator.random() < 0.6 else []
        for idea in (*first, *ideas):
            try:
                texts.append(idea.apply(texts[-1], root_text()))
                break
            except CheckFailed:
                continue
    return texts


@pytest.mark.parametrize("card", coded_cards(), ids=lambda card: card.name)
def test_adding_and_removing_a_card_stays_shipped(card: Card) -> None:
    text = install(root_text(), card)
    other = set_knobs(text, card, {name: knob.high * 3 + 1 for name, knob in card.knobs.items()})
    assert composed_of_shipped_cards([root_text(), text])
    assert composed_of_shipped_cards([root_text(), text, other])
    assert composed_of_shipped_cards([root_text(), other, uninstall(other, card, root_text())])


@pytest.mark.slow
@pytest.mark.parametrize("start", range(0, LINES, 20))
def test_lineages_of_cards_are_shipped(start: int) -> None:
    for seed in range(start, start + 20):
        texts = line(seed)
        assert len(texts) >= 3
        assert composed_of_shipped_cards(texts), seed
        if not is_root(texts[-1]) and not follows(texts[-1], root_text()):
            assert not composed_of_shipped_cards([texts[0], texts[-1]]), "the intermediate texts are needed"


def single_changes(text: str, generator: random.Random) -> Iterator[str]:
    for _ in range(25):
        place = generator.randrange(len(text))
        yield text[:place] + text[place + 1 :]
        yield text[:place] + generator.choice("abz_ #0.\n(") + text[place:]
        yield text[:place] + chr(ord(text[place]) ^ 1) + text[place + 1 :]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_a_change_of_one_character_is_not_shipped(seed: int) -> None:
    texts, generator = line(seed), random.Random(seed)
    child, told = texts[-1], 0
    for changed in single_changes(child, generator):
        if changed == child:
            continue
        if composed_of_shipped_cards([*texts[:-1], changed]):
            assert _differs_in_a_number(child, changed), changed
        else:
            told += 1
            assert not composed_of_shipped_cards([*texts[:-1], changed, child]), "its child is not shipped either"
    assert told >= 60


def _differs_in_a_number(one: str, other: str) -> bool:
    pairs = [(a, b) for a, b in zip(one.split("\n"), other.split("\n"), strict=True) if a != b]
    return len(pairs) == 1 and all(
        "".join(filter(lambda c: c not in "0123456789.-_e ", text)).startswith("def")
        or ": float =" in text
        or ": int =" in text
        for text in pairs[0]
    )


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("clip_high: float = 0.2", "clip_high: float = print()"),
        ("clip_high: float = 0.2", "clip_high: float = 1e999"),
        ("clip_high: float = 0.2", "clip_high: float = True"),
        ("clip_high: float = 0.2", "clip_high: float = 2j"),
        ("clip_high: float = 0.2", "clip_high: print() = 0.2"),
        ("dual_clip: float = 3.0", "dual_clip: float = 4.0"),
        ("min=-20.0, max=20.0", "min=-20.0, max=21.0"),
        ("# Loss: computed", "# loss: computed"),
        ("import torch\n", "import torch, os\n"),
        ("(N,)", "(N, )"),
        ("import torch\n", "import torch\r\n"),
        ("import torch\n", "import torch\n\x0c\n"),
        ("import torch\n", "import torch\n# coding: utf-7\n"),
    ],
)
def test_other_text_is_not_shipped(old: str, new: str) -> None:
    text = root_text().replace(old, new, 1)
    assert text != root_text()
    assert not is_root(text)
    assert not composed_of_shipped_cards([text])
    assert not composed_of_shipped_cards([root_text(), text])
    assert not composed_of_shipped_cards([text, root_text(), text])


@pytest.mark.parametrize("text", ["", "\0", "def f(:", "x = " + "-" * 900 + "1", "\ud800", "if a:\n pass\n" * 3])
def test_text_that_is_no_algorithm_is_not_shipped_and_raises_nothing(text: str) -> None:
    assert not composed_of_shipped_cards([text])
    assert not composed_of_shipped_cards([root_text(), text])
    assert not composed_of_shipped_cards([])


def test_a_card_with_a_shipped_name_and_another_text_is_not_shipped() -> None:
    ours = card("cispo")
    edit = ours.edits[0]
    assert edit.replace is not None
    theirs = ours.model_copy(
        update={
            "edits": (edit.model_copy(update={"replace": edit.replace.replace("log_ratio.detach()", "log_ratio")}),)
        }
    )
    assert composed_of_shipped_cards([root_text(), install(root_text(), ours)])
    assert not composed_of_shipped_cards([root_text(), install(root_text(), theirs)])


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive.create(tmp_path / "search", template_files(), hook_files())


def add(archive: Archive, name: str, text: str, parent: str = "grpo", second: str | None = None) -> None:
    # All its statements are plausible: the library agent, a shipped card.
    archive.add_candidate(
        Proposal(name, parent, "m", "h", "f", "library", priors=("no-std",), second_parent=second), text
    )


def test_shipped_candidates_of_an_archive_are_found(archive: Archive) -> None:
    clip, scale = install(root_text(), card("cispo")), install(root_text(), card("no-std"))
    add(archive, "clip", clip)
    add(archive, "scale", scale)
    merged = archive.merge(root_text(), clip, scale)
    assert merged is not None
    assert is_merge(merged, root_text(), clip, scale, archive.merge)
    add(archive, "both", merged, "clip", "scale")
    forged = clip.replace("ratio = log_ratio.detach().exp()", "ratio = log_ratio.exp()")
    add(archive, "forged", forged, "clip")
    add(archive, "forged-both", merged.replace("\n", " \n", 1), "clip", "scale")
    add(archive, "child-of-forged", install(forged, card("no-std")), "forged")
    add(archive, "healed", clip, "forged")
    provenance, genealogy = Provenance(archive), archive.genealogy()
    shipped = {node.name for node in genealogy if provenance.is_shipped(node, genealogy)}
    assert shipped == {"grpo", "clip", "scale", "both"}


def test_an_archive_with_another_root_has_no_shipped_code(tmp_path: Path) -> None:
    path = "recipe/algorithm.py"
    other = template_files()[path].replace("return rollouts.score", "return 1.0 * rollouts.score")
    archive = Archive.create(tmp_path / "search", {**template_files(), path: other}, hook_files())
    add(archive, "clip", install(other, card("cispo")))
    provenance, genealogy = Provenance(archive), archive.genealogy()
    assert not any(provenance.is_shipped(node, genealogy) for node in genealogy)
