"""C-MAPSS's columns and cap under the names that its own code uses; fleet.toml beside this file is the definition."""

from driftloop import fleets

SCHEMA = fleets.load("cmapss")
SETTINGS, SENSORS, COLUMNS = SCHEMA.setting_names, SCHEMA.sensor_names, SCHEMA.columns
"""The 24 columns of a row, in the order of every array, request and file."""
N_SETTINGS, N_SENSORS, N_COLUMNS = SCHEMA.n_settings, SCHEMA.n_sensors, SCHEMA.n_columns
assert SCHEMA.cap != "auto"
RUL_CAP: int = SCHEMA.cap
"""Cycles; 125 is what the literature on C-MAPSS has used since 2019."""
