"""What first aid without labels is worth: models of one part of a fleet, asked about the units of another."""
