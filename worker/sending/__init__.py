"""From a granted slot to a recorded result: take, wait for the instant, one request, finish. Runs on the event loop."""
