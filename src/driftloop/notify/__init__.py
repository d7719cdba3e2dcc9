"""Being told: what of the loop's log people are told of, by e-mail or chat, once a cause."""
