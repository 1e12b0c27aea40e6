"""What the binaries share: measuring, registering files, writing results."""
