"""Connections: who may send a request, how much, and how slowly; and when a client is gone."""
