"""The HTTP server of `chargen serve`: the completions of OpenAI's protocol for self-trained models.

HTTP ─▶ connection/ ─▶ app.py ─▶ completions/request.py ─▶ completions/preparation.py ─▶ batch/worker.py
        refuses        routes    checks the JSON           texts to write                one thread per model
                                                                                                │
HTTP ◀──────────────────────────────────── completions/endpoint.py ◀────────────────────────────┘
                                           JSON, or a stream of events
"""
