"""The documentation site: building it, checking its links, drawing its figure, and reading the guides' examples."""
