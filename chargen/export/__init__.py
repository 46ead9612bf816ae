"""Models in other forms: a page for browsers, an ONNX graph, and a folder for a model hub."""
