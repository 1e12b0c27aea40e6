"""The command ``regnet``: register, warp, evaluate."""
