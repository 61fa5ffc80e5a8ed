"""The laboratory: everything that uses the core. docs/reading.md lists its packages."""
