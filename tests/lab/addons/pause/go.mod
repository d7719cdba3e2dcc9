module driftloop/tests/lab/addons/pause

go 1.24.0
