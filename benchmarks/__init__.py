"""Benchmarks: what the figures in README and in ``benchmarks/README.md`` come from. ``python -m benchmarks`` lists them."""
