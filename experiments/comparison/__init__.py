"""This project and other tools on the same pairs, each in a process of its own.

Every tool is a module with ``register(fixed, moving, *, setting, ...)`` that returns
the displacement (mm, x first) on the fixed grid, whatever kind of transform the tool
has, so that the same code measures all. A tool that is not installed is not imported.
"""
