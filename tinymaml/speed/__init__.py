"""What makes a run quick without changing a bit of it. Imports nothing: BLAS threads are chosen first."""
