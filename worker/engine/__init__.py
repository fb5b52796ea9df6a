"""How we run Dramatiq; the only package that knows its inside."""
