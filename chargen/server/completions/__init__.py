"""POST /v1/completions, from the JSON of a request to the JSON of the response."""
