"""Linear alignment of two images, before anything nonrigid."""
