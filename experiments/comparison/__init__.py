"""This project and other tools on the same pairs, each in a process of its own.

Every tool is a module with ``register(fixed, moving, *, setting, ...)`` that gives the
displacement (mm, x first) on the fixed grid, whatever it calls a transform itself, so
that all are measured by the same code. A tool that is not installed is not imported.
"""
