"""Read text that anyone may have written: YAML, JSON and templates, within stated limits.

Whatever the text, reading it ends soon, takes memory in proportion to the text, and fails with one known error.
"""
