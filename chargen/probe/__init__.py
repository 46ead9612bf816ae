"""What a model saw: why a text costs what it costs."""
