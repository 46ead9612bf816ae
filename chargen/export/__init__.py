"""Models in other forms: a page that runs a model in a browser."""
