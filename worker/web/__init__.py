"""The ASGI app of the web process: API, webhooks."""
