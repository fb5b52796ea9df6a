"""The only package that knows Telnyx's URLs, JSON and error codes."""
