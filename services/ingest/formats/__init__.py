"""One module per wire format: `decode` (body to results and records), `answer` (results to reply)."""
