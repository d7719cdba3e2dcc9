"""C-MAPSS data: files, fleet simulator, windows, engine roles and the archive of completed runs."""
