"""Checks before any training, cheapest first; each has a name, and its failure is a message for the repair loop."""

from poise_git.pipeline.checks.registry import CHECKS, Check
from poise_git.pipeline.checks.runner import CheckReport, check_candidate
from poise_git.pipeline.checks.static import same_algorithm

__all__ = ["CHECKS", "Check", "CheckReport", "check_candidate", "same_algorithm"]
