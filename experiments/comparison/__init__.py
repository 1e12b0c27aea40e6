"""This project and other tools on the same pairs, each in a process of its own.

Every tool has a module whose functions return the displacement (mm, x first) on the
fixed grid, whatever the tool's own representation of a transform is, so that all are
measured by the same code. A tool that is not installed is not imported.
"""
