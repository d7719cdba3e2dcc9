"""The fleet in service: rows and life events in; predictions, labels and completed runs follow by themselves."""
