"""What decides over a challenger: the plan, the gate, the concept watch, promotion."""
