"""The pages that people look at: static shells and their assets. They read the public API alone."""
