"""NASA's turbofan engines, C-MAPSS: the files, their download, and a simulator for machines without them."""
