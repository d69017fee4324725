"""Benchmarks of kernels and layers against the memory floor and against other libraries.

Absolute times vary on a shared machine. So all workloads of a case run round-robin in one process,
with copies that measure the bandwidth, and the report has ratios of medians.
"""
