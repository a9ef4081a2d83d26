"""What is measured of the optimizer's convergence, beside the bounds of `alphagrad.theory`."""
