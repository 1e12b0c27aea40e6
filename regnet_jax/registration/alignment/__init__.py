"""Linear alignment of two images, before the nonrigid registration."""
