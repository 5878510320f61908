"""The scores of published benchmarks, as their own code computes them: arithmetic alone, a module a benchmark.

Matrices of similarities are [subjects, faces], cosines; each function states what its benchmark leaves out of a mean.
"""
