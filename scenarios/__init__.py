"""The shipped scenarios: YAML files beside this one."""
