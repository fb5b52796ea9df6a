"""A stand-in for Telnyx over real HTTP, for demo, tests, benchmarks and staging."""
