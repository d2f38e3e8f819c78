"""Benchmarks: figures with a ratio in one run, never a timed test."""
