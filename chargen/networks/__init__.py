"""Networks of torch: embedding → recurrent layers → head. They know no text, no file and no screen."""
