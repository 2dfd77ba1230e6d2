"""The description of the write routes, by hand because they are bare ASGI; tests execute it."""
