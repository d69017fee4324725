"""C++17 with OpenMP and SIMD behind a plain C interface."""
