"""The prediction server: raw rows in, remaining useful life out, and the counts that drift is computed from."""
