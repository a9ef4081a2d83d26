"""What CleanRL does otherwise than Stable-Baselines3, and the same numbers sooner."""
