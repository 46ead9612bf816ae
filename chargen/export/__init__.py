"""Files of a trained model for other programs: an ONNX graph, and a folder for a model hub."""
