"""Read untrusted text: YAML, JSON and templates, within stated limits.

For any text, the reader ends soon, takes memory in proportion to the text, and raises only its documented error.
"""
