"""Weights that ship: a folder each, with config, card and checksum."""

from regnet_jax.pretrained.shipped import names, read, summary

__all__ = [
    "names",
    "read",
    "summary",
]
