"""AlphaGrad: per-tensor L2-normalised gradients, smoothly clipped by tanh (arXiv 2504.16020)."""

from alphagrad.limits import NormalizedSGD, SignSGD
from alphagrad.optimizer import AlphaGrad, alphagrad

__all__ = ["AlphaGrad", "NormalizedSGD", "SignSGD", "alphagrad"]
