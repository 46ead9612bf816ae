"""`chargen train`."""
