"""The command line: one small module a verb; each parses, calls and prints."""
