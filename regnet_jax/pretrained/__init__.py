"""Weights that ship: a folder each, with config, card and checksum."""

from regnet_jax.pretrained.shipped import CARD, names, read, summary, write

__all__ = ["CARD", "names", "read", "summary", "write"]
