"""The loop: alerts come in, a challenger is trained and judged, the better model is promoted and watched."""
