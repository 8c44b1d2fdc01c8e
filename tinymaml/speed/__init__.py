"""What makes a run quick without changing a bit of its result.

Nothing is imported here: BLAS threads are chosen before NumPy loads.
"""
