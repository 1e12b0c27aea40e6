"""What a trained network predicts for two images of any size."""
