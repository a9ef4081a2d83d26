"""Benchmarks of speed: the only scripts that import torch and Stable-Baselines3."""
