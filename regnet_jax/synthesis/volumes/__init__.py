"""Volumes to make artificial pairs of: procedural chests, regions, crops of scans."""
