"""The RUL benchmark on C-MAPSS."""
