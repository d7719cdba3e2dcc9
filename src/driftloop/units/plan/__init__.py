"""Which unit first: the predictive distribution, what waiting costs, and units dealt to slots. No service, no store."""
