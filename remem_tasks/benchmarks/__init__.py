"""The benchmarks: a folder each, found by `registry`."""
