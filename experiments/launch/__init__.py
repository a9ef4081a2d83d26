"""Where runs are done: in processes of this machine, or as tasks of a Slurm cluster."""
