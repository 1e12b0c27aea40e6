"""Volumes to make artificial pairs of: drawn chests, shapes, parts of scans."""
