"""Families of diffusion models: what depends on the architecture of a backbone's pipeline, and on nothing else."""
