"""MAML and its family on a CPU, with the second-order term written out.

Start at `tinymaml.maml`. Nothing is imported here: the command line chooses the BLAS
threads before NumPy loads.
"""

__version__ = "0.3.0"
