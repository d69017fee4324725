"""Benchmarks: kernels and layers against the memory floor, and what users would pick instead.

A time alone says nothing on a shared machine. Everything of one case runs round-robin in one
process, beside a copy that measures the bandwidth, and what is reported is ratios of medians.
"""
