"""Networks in torch: embedding → recurrent layers → head. They use no text, no files and no screen."""
