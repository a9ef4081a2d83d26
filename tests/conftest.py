import os

# As experiments/__init__.py does, but before anything imports torch.
os.environ.setdefault("OMP_NUM_THREADS", "1")
