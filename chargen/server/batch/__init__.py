"""The threads that run the models: continuous batching, and jobs that are no single stream."""
