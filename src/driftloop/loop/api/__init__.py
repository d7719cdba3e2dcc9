"""The retrainer over HTTP, and the commands that ask it."""
