"""Selection policies by name. To add a policy, write a module in this package and add an entry below."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from poise_git.errors import UsageError
from poise_git.search.selection.interface import Policy
from poise_git.settings import SearchSettings


def _tree(settings: SearchSettings) -> Policy:
    from poise_git.search.selection.tree import TreePolicy

    return TreePolicy(settings)


def _paper(settings: SearchSettings) -> Policy:
    from poise_git.search.selection.paper import PaperPolicy

    return PaperPolicy(settings)


# Import a policy only when it is chosen: to load numpy and scikit-learn takes longer than most commands.
POLICIES: Mapping[str, Callable[[SearchSettings], Policy]] = {"tree": _tree, "paper": _paper}


def policy_of(settings: SearchSettings) -> Policy:
    """The policy that `search.policy` names. Raises UsageError for an unknown name."""
    if settings.policy not in POLICIES:
        raise unknown_policy(settings.policy)
    return POLICIES[settings.policy](settings)


def unknown_policy(name: str) -> UsageError:
    return UsageError(f"no policy {name!r}: choose one of {', '.join(sorted(POLICIES))}")
