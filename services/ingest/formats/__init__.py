"""One module per wire format, each with a `WireFormat`: its key, its items, its answer."""
