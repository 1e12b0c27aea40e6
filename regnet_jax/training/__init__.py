"""Training on artificial deformations: losses, steps, checkpoints, loop."""
