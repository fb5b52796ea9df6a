"""Do the work: expand, pace, send, reconcile."""
