"""The prediction of a trained network for two images of any size."""
