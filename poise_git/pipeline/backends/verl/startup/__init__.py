"""A folder for the module path of verl's processes. Python imports its `sitecustomize` before all other modules."""
