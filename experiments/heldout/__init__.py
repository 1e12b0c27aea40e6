"""Held-out scans and artificial pairs, shared by several commands.

Patients are split for ``manifest`` and ``reproduce``, artificial pairs written for
``synthesize`` and ``reproduce``, and breaths read for ``breaths``. The other modules
measure networks for ``assess`` and ``ablate``.
"""
