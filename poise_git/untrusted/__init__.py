"""Reading what anybody may have written: YAML, JSON and templates, within limits that are stated here.

Whatever a text holds, reading it ends soon, takes memory in proportion to the text, and fails with one known error.
"""
