"""Checks before training, cheapest first. Each has a name, and its failure is a message for the repair loop."""

from poise_git.pipeline.checks.normal_form import normal_form, same_algorithm
from poise_git.pipeline.checks.registry import CHECKS, Check
from poise_git.pipeline.checks.runner import CheckReport, check_candidate

__all__ = ["CHECKS", "Check", "CheckReport", "check_candidate", "normal_form", "same_algorithm"]
