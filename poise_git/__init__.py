"""poise-git: a git-native evolution engine that discovers policy-optimization algorithms."""

__version__ = "0.1.0"
