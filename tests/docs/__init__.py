"""The documentation site: its build, its links, the figure of its measurement, and the examples of its guides."""
