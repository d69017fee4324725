"""Testbenches and golden vectors, for Icarus Verilog and Verilator."""
