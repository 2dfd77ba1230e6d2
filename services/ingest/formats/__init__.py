"""One module per wire format: `decode` (body to results), `answer` (results to reply)."""
