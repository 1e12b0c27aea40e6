"""Command-line binaries over the library."""
