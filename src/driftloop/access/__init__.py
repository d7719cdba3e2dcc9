"""Who may do what: the doors that server, retrainer and console share."""
