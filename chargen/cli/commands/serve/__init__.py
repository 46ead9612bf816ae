"""`chargen serve`: answer requests over HTTP."""
