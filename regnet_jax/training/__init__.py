"""Training on artificial deformations: losses, step, checkpoints, loop."""
