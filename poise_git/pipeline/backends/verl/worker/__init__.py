"""Modules that verl's own processes load, by its keys and environment; nothing else of this project does."""
